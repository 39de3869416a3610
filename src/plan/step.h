// What a fused step computes, in terms that any device can execute.
//
// Tensors are (images, height, width, channels) with adjacent channels. A step
// produces one vector v of int32 per output pixel (from a convolution, a
// window, or a tensor read) and runs a short epilogue on it, element by element,
// while v is in registers. The planner has proven that no operation of a
// epilogue overflows int32 and that what is stored fits, so the order of
// execution is free.
#pragma once

#include <cstdint>

#include "ir/primitive.h"
#include "ir/storage.h"

namespace cvm {

struct MapOp {
  Primitive primitive;
  Operand operand = Operand::kConstant;
  int index = 0;                      // of the tensor or slot
  int32_t value = 0;                  // constant for all channels, shift, last index of the table
  const int32_t* channels = nullptr;  // constant per channel, from channel 0; null: `value`
  const int32_t* table = nullptr;
  Storage storage = Storage::kInt;    // of the tensor
};

}  // namespace cvm
