// Broadcasting of two shapes, aligned at the last axis.
#pragma once

#include <array>

#include "ops/operator.h"

namespace cvm {

// Logic error when an axis differs and neither extent is 1.
Shape broadcast_shape(const Shape& a, const Shape& b);

// Element strides of `in` along each axis of `out`; 0 where it is repeated.
std::array<int64_t, kMaxRank> broadcast_strides(const Shape& in, const Shape& out);

}  // namespace cvm
