// Attributes and geometry of the operators that only move data.
#pragma once

#include <array>

#include "ops/attr_reader.h"

namespace cvm {

struct AxisAttrs : Attrs {       // concatenate
  int32_t axis = 1;
};
struct RepeatAttrs : Attrs {
  int32_t repeats = 0, axis = 0;
};
struct ExpandDimsAttrs : Attrs {
  int32_t axis = 0, num_newaxis = 1;
};
struct TupleAttrs : Attrs {      // tile, reshape, squeeze, transpose, slice_like
  Tuple items;
};
struct SliceAttrs : Attrs {
  Tuple begin = {0}, end = {1}, stride;
};
struct TakeAttrs : Attrs {
  std::optional<int32_t> axis;
};
struct LutAttrs : Attrs {
  int32_t in_dim = 0;
};

// One axis of a strided slice: elements begin, begin + stride, ..., `extent` of them.
struct SliceAxis {
  int64_t begin, stride, extent;
};
std::array<SliceAxis, kMaxRank> slice_axes(const SliceAttrs& attrs, const Shape& in);

// Axis of the input that axis i of a transpose runs over.
std::array<int64_t, kMaxRank> transpose_axes(const TupleAttrs& attrs, size_t rank);

// Row-major element strides.
std::array<int64_t, kMaxRank> row_major_strides(const Shape& shape);

}  // namespace cvm
