// When each entry holds a value that is still needed.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"

namespace cvm {

struct Lifetime {
  int64_t first;  // node that writes it; kBeforeRun for variables
  int64_t last;   // last node that reads it; past the last node: kept to the end
};

constexpr int64_t kBeforeRun = -1;
constexpr const char* kInputName = "data";

// One per entry. Parameters and heads live to the end.
std::vector<Lifetime> lifetimes(const Graph& graph);

}  // namespace cvm
