// Shapes: the extents of a dense row-major tensor, last axis fastest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cvm {

using Shape = std::vector<int64_t>;

constexpr int kMaxRank = 6;
constexpr int64_t kMaxDim = int64_t{1} << 24;
constexpr int64_t kMaxElements = int64_t{1} << 30;
constexpr int kMaxPrecision = 32;

// Number of elements; exact for every shape that passed check_shape.
inline int64_t size_of(const Shape& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

// Product of the extents begin..end-1.
inline int64_t size_of(const Shape& shape, size_t begin, size_t end) {
  int64_t n = 1;
  for (size_t i = begin; i < end; ++i) n *= shape[i];
  return n;
}

// "(1, 3, 224, 224)"
std::string to_string(const Shape& shape);

// Logic error unless rank, extents and size are within the limits above.
void check_shape(const Shape& shape);

}  // namespace cvm
