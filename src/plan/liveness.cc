#include "plan/liveness.h"

#include <algorithm>

namespace cvm {

std::vector<Lifetime> lifetimes(const Graph& graph) {
  const int64_t end = static_cast<int64_t>(graph.nodes.size());
  std::vector<Lifetime> lives(graph.shapes.size());
  for (int64_t i = 0; i < end; ++i) {
    const Node& node = graph.nodes[i];
    const int64_t first = node.is_variable ? kBeforeRun : i;
    const bool parameter = node.is_variable && node.name != kInputName;
    for (int k = 0; k < node.num_outputs; ++k)
      lives[node.first_entry + k] = {first, parameter ? end : first};
    for (int64_t e : node.input_entries) lives[e].last = std::max(lives[e].last, i);
  }
  for (const EntryRef& head : graph.heads) lives[graph.entry_id(head)].last = end;
  return lives;
}

}  // namespace cvm
