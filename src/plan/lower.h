// From the operators of a verified graph to the planner's primitives.
#pragma once

#include <deque>
#include <vector>

#include "graph/graph.h"
#include "ir/ir.h"
#include "ops/lowering.h"

namespace cvm {

struct Lowered {
  Ir ir;
  std::vector<int> value;        // per entry; kNone where only an int32 tensor stands for it
  std::vector<char> by_kernel;   // per node: runs as a kernel of its own
  std::deque<std::vector<int8_t>> weights;  // of parameters that lie in the file as 32 bits
};

// Nodes that have no counterpart, or whose values are not proven to lie in
// their ranges, are left to kernels. What every value reads comes before it.
Lowered lower(const Graph& graph, const Params& params);

}  // namespace cvm
