// Strided copies, which most operators that only move data are.
//
// Output axis k runs over the input with a stride, which is 0 where elements
// repeat and negative where they reverse. Neighbouring axes that advance like
// one are merged, so that what is left of a slice or a repetition are long
// runs, and of a transpose two axes to swap.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ops/loop.h"

namespace cvm {

// A strided copy in the making; axes are added from the outermost.
struct Move {
  struct Axis {
    int64_t extent, stride;  // the stride counts input elements
  };
  int64_t offset = 0;
  std::vector<Axis> axes;

  void add(int64_t extent, int64_t stride);
};

std::unique_ptr<Loop> move_loop(const Move& move);

// Copies `count` elements that lie one after the other.
void copy_run(const int32_t* from, int64_t count, int32_t* to);

}  // namespace cvm
