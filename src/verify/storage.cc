#include <algorithm>
#include <map>

#include "error.h"
#include "plan/liveness.h"
#include "verify/verify.h"

namespace cvm {
namespace {

constexpr int64_t kMaxStorage = int64_t{1} << 32;

// Node that writes each entry.
std::vector<const Node*> writers(const Graph& graph) {
  std::vector<const Node*> result;
  for (const Node& node : graph.nodes) result.insert(result.end(), node.num_outputs, &node);
  return result;
}

bool reads(const Node& node, int64_t entry) {
  return std::find(node.input_entries.begin(), node.input_entries.end(), entry) !=
         node.input_entries.end();
}

// `entries` share one slot: each must be dead before the next is written, or
// die in the very node that overwrites it in place.
void check_slot(const Graph& graph, const std::vector<Lifetime>& lives,
                const std::vector<const Node*>& writer, std::vector<int64_t> entries) {
  std::stable_sort(entries.begin(), entries.end(),
                   [&](int64_t a, int64_t b) { return lives[a].first < lives[b].first; });
  for (size_t i = 1; i < entries.size(); ++i) {
    // Earlier ones ended before entries[i - 1] began, or this loop would have thrown.
    const int64_t before = entries[i - 1], after = entries[i];
    if (lives[before].last < lives[after].first) continue;
    const Node& node = *writer[after];
    const bool in_place = lives[before].last == lives[after].first && !node.is_variable &&
                          node.op->in_place && reads(node, before);
    if (!in_place)
      logic_error(describe(graph, node), ": entry ", after, " shares storage id ",
                  graph.storage_id[after], " with entry ", before, " of ",
                  describe(graph, *writer[before]), ", which is still needed");
  }
}

}  // namespace

int64_t verify_storage(const Graph& graph) {
  std::map<int64_t, std::vector<int64_t>> slots;
  for (int64_t e = 0; e < graph.num_entries(); ++e) slots[graph.storage_id[e]].push_back(e);
  int64_t total = 0;
  for (const auto& [id, entries] : slots) {
    int64_t largest = 0;
    for (int64_t e : entries) largest = std::max(largest, size_of(graph.shapes[e]));
    total += largest * static_cast<int64_t>(sizeof(int32_t));
    if (total > kMaxStorage)
      logic_error("symbol: the storage slots hold more than ", kMaxStorage, " bytes");
  }
  const auto lives = lifetimes(graph);
  const auto writer = writers(graph);
  for (const auto& [id, entries] : slots)
    if (entries.size() > 1) check_slot(graph, lives, writer, entries);
  return total;
}

}  // namespace cvm
