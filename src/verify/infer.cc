#include "error.h"
#include "verify/verify.h"

namespace cvm {
namespace {

void infer_shape(const Graph& g, const Node& node) {
  const std::vector<Shape> inferred = node.op->shape(g.info(node));
  for (int k = 0; k < node.num_outputs; ++k) {
    const Shape& declared = g.shapes[node.first_entry + k];
    if (inferred[k] != declared)
      logic_error("output ", k, " is declared with shape ", to_string(declared), ", but is ",
                  to_string(inferred[k]));
  }
}

bool is_sound(const Operator& op, const NodeInfo& info) {
  if (op.sound) return op.sound(info);
  for (char sound : info.in_sound)
    if (!sound) return false;
  return true;
}

void infer_precision(Graph* g, const Node& node) {
  const NodeInfo info = g->info(node);
  const std::vector<int> inferred = node.op->precision(info);
  for (int k = 0; k < node.num_outputs; ++k) {
    if (inferred[k] < 1 || inferred[k] > kMaxPrecision)
      logic_error("output ", k, " would need ", inferred[k], " bits, more than ", kMaxPrecision);
    g->precisions[node.first_entry + k] = inferred[k];
    g->sound[node.first_entry + k] = is_sound(*node.op, info);
  }
}

}  // namespace

void infer(Graph* graph) {
  graph->sound.assign(graph->shapes.size(), 1);
  for (const Node& node : graph->nodes)
    if (!node.is_variable) at_node(*graph, node, [&] { infer_shape(*graph, node); });
  // Step 11 holds by construction: there is no type but int32.
  for (const Node& node : graph->nodes) {
    at_node(*graph, node, [&] {
      if (!node.is_variable)
        infer_precision(graph, node);
      else if (graph->precisions[node.first_entry] < 1)
        logic_error("a variable has no precision");
    });
  }
}

}  // namespace cvm
