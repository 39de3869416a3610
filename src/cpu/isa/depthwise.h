// Convolutions of each channel by itself. See kernels.h.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/isa/product.h"

namespace cvm {
namespace {

struct Rows {
  int count;
};

// Four rows of one column of the window lie in the 4 bytes of a lane, so that
// one dot takes four taps. Rows that the kernel does not have repeat another
// one, with weights of 0.

inline int64_t column_groups(int kernel_h) { return (kernel_h + kGroup - 1) / kGroup; }

template <class V>
int64_t depthwise_bytes(int64_t channels, int kernel_h, int kernel_w) {
  return (channels + V::kLanes - 1) / V::kLanes * kernel_w * column_groups(kernel_h) *
         V::kColumnBytes;
}

template <class V>
void pack_depthwise(const int8_t* weights, int64_t channels, int kernel_h, int kernel_w, void* to) {
  char* out = static_cast<char*>(to);
  for (int64_t first = 0; first < channels; first += V::kLanes)
    for (int b = 0; b < kernel_w; ++b)
      for (int a = 0; a < kernel_h; a += kGroup, out += V::kColumnBytes) {
        int8_t column[V::kLanes][kGroup] = {};
        for (int64_t c = 0; c < V::kLanes && first + c < channels; ++c)
          for (int k = 0; k < kGroup && a + k < kernel_h; ++k)
            column[c][k] = weights[((first + c) * kernel_h + a + k) * kernel_w + b];
        V::pack_column(column, out);
      }
}

// Weights of a column in 16 bits: of rows 0 and 1 for all lanes, then of rows 2 and 3.
template <int kLanes>
void pack_column_pairs(const int8_t (*w)[kGroup], char* to) {
  int16_t pairs[2][kLanes][2];
  for (int c = 0; c < kLanes; ++c)
    for (int k = 0; k < kGroup; ++k) pairs[k / 2][c][k % 2] = w[c][k];
  std::memcpy(to, pairs, sizeof pairs);
}

template <class V>
CVM_INLINE const char* depthwise_weights(const DepthwisePiece& piece) {
  return static_cast<const char*>(piece.weights) +
         depthwise_bytes<V>(piece.channel, piece.kernel_h, piece.kernel_w);
}

// A square kernel of K; pixels lie Ratio columns apart, and each column serves all that it meets.
template <class V, int K, int Ratio, int P>
CVM_INLINE void depthwise_sums(Tile<V, P, 1>& t, const DepthwisePiece& piece) {
  constexpr int kGroups = (K + kGroup - 1) / kGroup;
  const char* const weights = depthwise_weights<V>(piece);
  const uint8_t* rows[K];
  CVM_UNROLL for (int a = 0; a < K; ++a) rows[a] = piece.rows[a] + piece.channel;
  typename V::ColumnWeights w[K][kGroups];
  CVM_UNROLL for (int b = 0; b < K; ++b)
    CVM_UNROLL for (int g = 0; g < kGroups; ++g)
      w[b][g] = V::load_column_weights(weights + (b * kGroups + g) * V::kColumnBytes);
  int64_t at = 0;
  CVM_UNROLL for (int j = 0; j < (P - 1) * Ratio + K; ++j, at += piece.tap_step) {
    CVM_UNROLL for (int g = 0; g < kGroups; ++g) {
      const auto row = [&](int a) {
        return rows[g * kGroup + a < K ? g * kGroup + a : g * kGroup] + at;
      };
      const auto x = V::interleave(row(0), row(1), row(2), row(3), Rows{K - g * kGroup});
      CVM_UNROLL for (int b = 0; b < K; ++b)
        if ((j - b) % Ratio == 0 && j - b >= 0 && (j - b) / Ratio < P)
          t.v[(j - b) / Ratio][0] = V::column_dot(t.v[(j - b) / Ratio][0], x, w[b][g]);
    }
  }
}

// Any kernel, and the last channels.
template <class V, int P>
CVM_INLINE void depthwise_sums(Tile<V, P, 1>& t, const DepthwisePiece& piece) {
  const char* weights = depthwise_weights<V>(piece);
  const typename V::Mask mask = V::first(static_cast<int>(piece.channels));
  for (int b = 0; b < piece.kernel_w; ++b)
    for (int a = 0; a < piece.kernel_h; a += kGroup, weights += V::kColumnBytes) {
      const int64_t at = b * piece.tap_step + piece.channel;
      const auto row = [&](int k) { return piece.rows[a + k < piece.kernel_h ? a + k : a] + at; };
      const uint8_t *r0 = row(0), *r1 = row(1), *r2 = row(2), *r3 = row(3);
      const auto w = V::load_column_weights(weights);
      int64_t i = 0;
      CVM_UNROLL for (int p = 0; p < P; ++p, i += piece.pixel_step) {
        const auto x = V::interleave(r0 + i, r1 + i, r2 + i, r3 + i, mask);
        t.v[p][0] = V::column_dot(t.v[p][0], x, w);
      }
    }
}

template <class V, int P>
CVM_INLINE void depthwise_any(Tile<V, P, 1>& t, const DepthwisePiece& piece) {
  t.each([&](typename V::Reg& v, int, int) { v = V::load(piece.bias + piece.channel); });
  const int64_t tap = piece.tap_step, pixel = piece.pixel_step;
  const int k =
      piece.channels == V::kLanes && piece.kernel_h == piece.kernel_w ? piece.kernel_h : 0;
  if (k == 3 && pixel == tap)
    depthwise_sums<V, 3, 1>(t, piece);
  else if (k == 3 && pixel == 2 * tap)
    depthwise_sums<V, 3, 2>(t, piece);
  else if (k == 5 && pixel == tap)
    depthwise_sums<V, 5, 1>(t, piece);
  else if (k == 5 && pixel == 2 * tap)
    depthwise_sums<V, 5, 2>(t, piece);
  else
    depthwise_sums<V>(t, piece);
}

}  // namespace
}  // namespace cvm
