#include "error.h"
#include "verify/verify.h"

namespace cvm {
namespace {

constexpr int64_t kMaxWeight = int64_t{1} << 30;
constexpr int64_t kMaxTotal = int64_t{1} << 40;
constexpr int64_t kPerElement = 5;  // memory cost of one element of any entry

}  // namespace

Cost node_cost(const Graph& graph, const Node& node) {
  Cost cost;
  if (!node.is_variable) {
    const int64_t weight = node.op->cost ? node.op->cost(graph.info(node)) : 1;
    if (weight > kMaxWeight)
      logic_error("costs ", weight, " per output element, more than ", kMaxWeight);
    cost.ops = weight * size_of(graph.shapes[node.first_entry]);
  }
  for (int k = 0; k < node.num_outputs; ++k)
    cost.memory += kPerElement * size_of(graph.shapes[node.first_entry + k]);
  return cost;
}

int64_t cost(const Graph& graph) {
  Cost sum;
  for (const Node& node : graph.nodes) {
    at_node(graph, node, [&] {
      const Cost one = node_cost(graph, node);
      sum.ops += one.ops;
      if (sum.ops > kMaxTotal) logic_error("raises the operator cost above ", kMaxTotal);
      sum.memory += one.memory;
      if (sum.memory > kMaxTotal) logic_error("raises the memory cost above ", kMaxTotal);
    });
  }
  return sum.total();
}

}  // namespace cvm
