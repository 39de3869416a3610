// The operations of a step in the order of their execution.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "ir/ir.h"
#include "plan/plan.h"

namespace cvm {

// The values of the ir between what a step reads and what it stores, all of them codes; tensors are
// items of Step::tensors.
struct Codes {
  int start = -1;                           // what the window computes, if there is one
  std::map<int, int> reads;                 // value -> tensor
  std::vector<std::pair<int, int>> stores;  // value -> tensor
};

// Fills in Step::epilogue and Step::slots.
void write_epilogue(const Ir& ir, const Codes& codes, Step* step);

}  // namespace cvm
