// From the operators of a verified graph to the planner's primitives.
#pragma once

#include <cstring>
#include <vector>

#include "graph/graph.h"
#include "plan/ir.h"

namespace cvm {

// The values of a parameter, as they lie in the file. No data: no parameter.
struct Param {
  const char* data = nullptr;
  int bits = 0;  // 8 or 32
  int64_t count = 0;
  explicit operator bool() const { return data != nullptr; }
  int32_t operator[](int64_t i) const {
    if (bits == 8) return static_cast<int8_t>(data[i]);
    int32_t value = 0;
    std::memcpy(&value, data + i * 4, sizeof value);
    return value;
  }
};
using Params = std::vector<Param>;  // per entry

struct Lowered {
  Ir ir;
  std::vector<int> value;        // per entry: its value, or -1 where only an int32 tensor stands for it
  std::vector<char> by_kernel;   // per node: runs as a kernel of its own
  std::deque<std::vector<int8_t>> weights;  // of parameters that lie in the file as 32 bits
};

// Nodes that have no counterpart, or whose values are not proven to lie in
// their ranges, are left to kernels. What every value reads comes before it.
Lowered lower(const Graph& graph, const Params& params);

}  // namespace cvm
