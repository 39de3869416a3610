// Dot products of int16 rows, the core of conv2d and dense.
//
// Operands have at most 8 bits, so a pair of products fits int32 with room to
// spare and nothing saturates: the compiler turns these loops into the exact
// pairwise multiply-add of 16-bit lanes.
#pragma once

#include <cstdint>
#include <cstring>

#include "aligned.h"

namespace cvm::gemm {

constexpr int kColumns = 4;  // rows of weights that one call multiplies
constexpr int64_t kDepth = 16;  // row lengths are padded with zeros to a multiple

inline int64_t pad_depth(int64_t n) { return (n + kDepth - 1) / kDepth * kDepth; }
inline int64_t pad_columns(int64_t n) { return (n + kColumns - 1) / kColumns * kColumns; }

// sums[c] = x . w[c], for kColumns rows w of `depth` elements each.
inline void dot1(const int16_t* x, const int16_t* w, int64_t depth, int32_t* sums) {
  const int16_t *w0 = w, *w1 = w0 + depth, *w2 = w1 + depth, *w3 = w2 + depth;
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (int64_t k = 0; k < depth; ++k) {
    s0 += x[k] * w0[k];
    s1 += x[k] * w1[k];
    s2 += x[k] * w2[k];
    s3 += x[k] * w3[k];
  }
  sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

// The same for two rows x and y, which share the loads of w.
inline void dot2(const int16_t* x, const int16_t* y, const int16_t* w, int64_t depth,
                 int32_t* x_sums, int32_t* y_sums) {
  const int16_t *w0 = w, *w1 = w0 + depth, *w2 = w1 + depth, *w3 = w2 + depth;
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
  for (int64_t k = 0; k < depth; ++k) {
    s0 += x[k] * w0[k];
    s1 += x[k] * w1[k];
    s2 += x[k] * w2[k];
    s3 += x[k] * w3[k];
    t0 += y[k] * w0[k];
    t1 += y[k] * w1[k];
    t2 += y[k] * w2[k];
    t3 += y[k] * w3[k];
  }
  x_sums[0] = s0, x_sums[1] = s1, x_sums[2] = s2, x_sums[3] = s3;
  y_sums[0] = t0, y_sums[1] = t1, y_sums[2] = t2, y_sums[3] = t3;
}

// Zeroed int16 weights: `columns` rows (padded) of pad_depth(depth) elements.
inline AlignedBlock make_weights(int64_t columns, int64_t depth) {
  const int64_t bytes = pad_columns(columns) * pad_depth(depth) * 2;
  AlignedBlock block(bytes);
  std::memset(block.data(), 0, static_cast<size_t>(bytes));
  return block;
}

}  // namespace cvm::gemm
