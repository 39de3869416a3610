// sum and max over axes.
#pragma once

#include <array>

#include "ops/attr_reader.h"

namespace cvm {

struct ReduceAttrs : Attrs {
  Tuple axis;
  bool keepdims = false, exclude = false;
};

// Which axes are reduced; logic error for bad or repeated items of `axis`.
std::array<bool, kMaxRank> reduced_axes(const ReduceAttrs& attrs, size_t rank);

// Whether a max starts from 0 rather than from the first element: an odd and
// normative corner of an empty `axis` without exclude.
inline bool max_starts_at_zero(const ReduceAttrs& attrs) {
  return attrs.axis.empty() && !attrs.exclude;
}

}  // namespace cvm
