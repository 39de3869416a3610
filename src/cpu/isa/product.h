// Matrix products, which convolutions and dense layers are. See kernels.h.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpu/isa/tile.h"

namespace cvm {
namespace {

constexpr int kNoPairLimit = 256;  // which no two weights exceed

template <class V>
constexpr bool kSplits = V::kPairLimit < kNoPairLimit;

// A packed panel: for every 4 of depth, the 4 weights of each of its channels.
//
// Where V splits, two adjacent weights whose products could overflow are
// halved, and what is left of them lies after the panel: the depths of such
// groups in ascending order, ended by a depth never reached, each with its
// weights. Where that is too often and V has Pairs, there are 2 weights of each
// channel for every 2 of depth instead, and kPairs after the panel.
constexpr int kGroup = 4;
constexpr int32_t kNoDepth = INT32_MAX;
constexpr int32_t kPairs = -1;

template <class V, class = void>
constexpr bool kWidens = false;
template <class V>
constexpr bool kWidens<V, std::void_t<decltype(V::kPairBytes)>> = true;

template <class V>
constexpr int kPanel = 2 * V::kLanes;

template <class V>
int64_t depths_bytes(int64_t depth) {
  return (depth / kGroup + 1 + 15) / 16 * 16 * static_cast<int64_t>(sizeof(int32_t));
}

template <class V>
int64_t panel_bytes(int64_t depth) {
  return kSplits<V> ? 2 * depth * kPanel<V> + depths_bytes<V>(depth) : depth * kPanel<V>;
}

// Halves a pair if it could overflow, and says so; `rest` is what was taken.
template <class V>
bool split_pair(int8_t* pair, int8_t* rest) {
  const int a = pair[0], b = pair[1];
  const int up = (a > 0 ? a : 0) + (b > 0 ? b : 0), down = (a < 0 ? -a : 0) + (b < 0 ? -b : 0);
  if (up <= V::kPairLimit && down <= V::kPairLimit) return false;
  for (int k = 0; k < 2; ++k) {
    rest[k] = static_cast<int8_t>(pair[k] / 2);
    pair[k] = static_cast<int8_t>(pair[k] - rest[k]);
  }
  return true;
}

template <class V>
void pack(const int8_t* rows, int64_t channels, int64_t depth, void* to) {
  constexpr int kBytes = kPanel<V> * kGroup;
  int8_t* const panel = static_cast<int8_t*>(to);
  int8_t* const depths = panel + depth * kPanel<V>;
  int8_t* rest = depths + depths_bytes<V>(depth);
  int64_t rests = 0;
  for (int64_t k = 0; k < depth; k += kGroup) {
    int8_t* group = panel + k * kPanel<V>;
    std::memset(group, 0, kBytes);
    for (int64_t c = 0; c < channels; ++c)
      std::memcpy(group + c * kGroup, rows + c * depth + k, kGroup);
    if (!kSplits<V>) continue;
    bool split = false;
    std::memset(rest, 0, kBytes);
    for (int i = 0; i < kBytes; i += 2) split |= split_pair<V>(group + i, rest + i);
    if (!split) continue;
    const int32_t at = static_cast<int32_t>(k);
    std::memcpy(depths + rests++ * sizeof at, &at, sizeof at);
    rest += kBytes;
  }
  if (!kSplits<V>) return;
  std::memcpy(depths + rests * sizeof kNoDepth, &kNoDepth, sizeof kNoDepth);
  // 4 products take 3 instructions, or 4 as pairs.
  if (!kWidens<V> || depth > kMaxWidened || 3 * rests * kGroup < depth) return;
  std::memcpy(depths, &kPairs, sizeof kPairs);
  std::memset(panel, 0, static_cast<size_t>(depth * kPanel<V>));
  for (int64_t k = 0; k < depth; k += 2)
    for (int64_t c = 0; c < channels; ++c)
      std::memcpy(panel + k * kPanel<V> + c * 2, rows + c * depth + k, 2);
}

// Every pixel's activations with every register of weights, V::kWeights of them held at a time.
template <class V, int P, int N, class Load, class Broadcast, class Dot>
CVM_INLINE void multiply(Load load, Broadcast broadcast, Dot dot) {
  constexpr int kStep = V::kWeights < N ? V::kWeights : N;
  CVM_UNROLL for (int first = 0; first < N; first += kStep) {
    decltype(load(0)) w[kStep];
    CVM_UNROLL for (int n = 0; n < kStep; ++n) w[n] = load(first + n);
    CVM_UNROLL for (int p = 0; p < P; ++p) {
      const auto x = broadcast(p);
      CVM_UNROLL for (int n = 0; n < kStep; ++n) dot(p, first + n, x, w[n]);
    }
    // Compilers would keep the activations for the other weights, and spill sums.
    if constexpr (kStep < N) asm volatile("" ::: "memory");
  }
}

template <class V>
[[gnu::noinline]] void widen(const ConvPiece& piece) {
  int16_t* to = piece.widened->inputs;
  for (int p = 0; p < piece.pixels; ++p)
    for (int64_t tap = 0; tap < piece.num_taps; ++tap, to += piece.run) {
      const uint8_t* const from = piece.in[p] + piece.taps[tap];
      for (int64_t k = 0; k < piece.run; ++k) to[k] = from[k];
    }
  piece.widened->valid = true;
}

template <class V, int P, int N>
CVM_INLINE void pair_sums(Tile<V, P, N>& t, const ConvPiece& piece) {
  const int64_t depth = piece.num_taps * piece.run;
  if (!piece.widened->valid) widen<V>(piece);
  const int16_t* in[P];
  CVM_UNROLL for (int p = 0; p < P; ++p) in[p] = piece.widened->inputs + p * depth;
  const int8_t* weights = static_cast<const int8_t*>(piece.weights);
  for (int64_t k = 0; k < depth; k += 2, weights += 2 * kPanel<V>)
    multiply<V, P, N>([&](int n) { return V::load_pairs(weights + n * V::kPairBytes); },
                      [&](int p) { return V::broadcast_pair(in[p] + k); },
                      [&](int p, int n, const auto& x, const auto& w) {
                        t.v[p][n] = V::pair_dot(t.v[p][n], x, w);
                      });
}

// Adds the products of 4 of depth.
template <class V, int P, int N>
CVM_INLINE void add_group(Tile<V, P, N>& t, const uint8_t* const* in, int64_t offset,
                          const int8_t* weights) {
  multiply<V, P, N>(
      [&](int n) { return V::load_weights(weights + n * V::kLanes * kGroup); },
      [&](int p) { return V::broadcast(in[p] + offset); },
      [&](int p, int n, const auto& x, const auto& w) { t.v[p][n] = V::dot(t.v[p][n], x, w); });
}

template <class V, int P, int N>
CVM_INLINE void conv_sums(Tile<V, P, N>& t, const ConvPiece& piece) {
  constexpr int kBytes = kPanel<V> * kGroup;
  const uint8_t* in[P];
  CVM_UNROLL for (int p = 0; p < P; ++p) in[p] = piece.in[p];
  t.each([&](typename V::Reg& v, int, int n) { v = V::load(piece.bias + n * V::kLanes); });

  const int8_t* weights = static_cast<const int8_t*>(piece.weights);
  const int64_t depth = piece.num_taps * piece.run;
  const int8_t* const after = weights + depth * kPanel<V>;
  const int32_t* rest_depths = reinterpret_cast<const int32_t*>(after);
  const int8_t* rest = after + (kSplits<V> ? depths_bytes<V>(depth) : 0);
  if constexpr (kWidens<V>)
    if (*rest_depths == kPairs) return pair_sums(t, piece);
  for (int64_t tap = 0; tap < piece.num_taps; ++tap) {
    const int64_t start = piece.taps[tap];
    for (int64_t k = 0; k < piece.run; k += kGroup, weights += kBytes)
      add_group(t, in, start + k, weights);
    if (kSplits<V>)
      for (; *rest_depths < (tap + 1) * piece.run; ++rest_depths, rest += kBytes)
        add_group(t, in, start + *rest_depths - tap * piece.run, rest);
  }
}

}  // namespace
}  // namespace cvm
