#include "plan/lower.h"

#include <algorithm>

namespace cvm {
namespace {

// All entries of the node surely lie within their ranges.
bool is_provable(const Graph& graph, const Node& node) {
  const auto sound = [&](int64_t e) { return graph.sound[static_cast<size_t>(e)] != 0; };
  return node.num_outputs == 1 && sound(node.first_entry) &&
         std::all_of(node.input_entries.begin(), node.input_entries.end(), sound);
}

}  // namespace

Lowered lower(const Graph& graph, const Params& params) {
  Lowering lowering(params);
  Lowered out;
  out.by_kernel.assign(graph.nodes.size(), 0);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (node.is_variable) continue;
    int value = kNone;
    if (node.op->lower && is_provable(graph, node)) {
      lowering.start(graph.info(node), node.input_entries, static_cast<int64_t>(i));
      value = node.op->lower(lowering);
    }
    if (value == kNone)
      out.by_kernel[i] = 1;
    else
      lowering.set_value(node.first_entry, value);
  }
  out.ir = lowering.take_ir();
  out.value = lowering.take_values();
  out.weights = lowering.take_weights();
  return out;
}

}  // namespace cvm
