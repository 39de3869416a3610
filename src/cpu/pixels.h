// Where pixels lie, and how they are cut into pieces.
#pragma once

#include <cstdint>

#include "plan/plan.h"

namespace cvm {

struct Span {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Item k of `count` pieces of nearly equal size.
inline Span part(Span all, int64_t count, int64_t k) {
  return {all.begin + all.size() * k / count, all.begin + all.size() * (k + 1) / count};
}

inline int64_t address(const View& v, int64_t n, int64_t h, int64_t w) {
  return v.offset + n * v.image_stride + h * v.row_stride + w * v.pixel_stride;
}

// Fills the pixels around `f.inside`. A tensor whose pixels are not adjacent
// lies inside of another, whose padding it shares.
void fill(const Fill& f, Span images, char* arena);

}  // namespace cvm
