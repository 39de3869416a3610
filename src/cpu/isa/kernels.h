// The inner loops, written once over a class of vectors.
//
// Each instruction set has one file, compiled for it alone, which defines such
// a class V and then takes table_of<V>. Everything here has internal linkage,
// so that the linker cannot give code made for one machine to another; for the
// same reason nothing of the standard library with linkage of its own is used.
//
// V::kLanes int32 values are one V::Reg. A tile of P pixels times N registers
// of channels is summed up in registers, then the epilogue runs on it there.
// All loops over p and n are unrolled; the array of registers vanishes.
//
// What V must have, beside the arithmetic of the same names as in MapOp:
//   Mask            the first lanes; first(n) for n = 1..kLanes
//   load, store     int32, int16 (sign extended, saturated) or unsigned bytes (zero extended; stored
//                   as min(v, 255) of v >= 0), of all lanes, or with a Mask of those alone
//   store_two       2 registers each to 2 places, as unsigned bytes
//   Bytes           kLanes unsigned bytes: load_bytes, max_bytes, widen_bytes
//   Weights, Dwords 4 weights and 4 activation bytes of each lane: load_weights, broadcast(4 bytes)
//   dot             sum + the 4 products of each lane
//   kByteOffset     products, also those of depthwise kernels, are with the activation byte + kByteOffset
//   kPairLimit      dot is exact only where no two adjacent weights of one sign exceed it together; or kNoPairLimit
//   Pairs           if there are any: 2 weights of each lane (kPairBytes) in 16 bits: load_pairs, broadcast_pair, pair_dot;
//                   always exact
//   Columns, ColumnWeights, kColumnBytes, interleave, load_column_weights, pack_column, column_dot: the same for
//                   depthwise kernels, from 4 rows of memory, of which Rows may be fewer; always exact
//   kTile           most pixels of a tile of 2 registers each
//   kWeights        registers of weights, of the 2, that are held at a time
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "cpu/isa/isa.h"

#ifdef CVM_SMALL_TILES  // for sanitizers, whose checks would take minutes to compile
#define CVM_INLINE inline
#define CVM_UNROLL
#define CVM_MOST_PIXELS 3
#else
#define CVM_INLINE [[gnu::always_inline]] inline
#ifndef CVM_UNROLL
#define CVM_UNROLL _Pragma("GCC unroll 32")
#endif
#define CVM_MOST_PIXELS kMaxPixels
#endif

namespace cvm {
namespace {

constexpr int kNoPairLimit = 256;  // which no two weights exceed

template <class V>
constexpr bool kSplits = V::kPairLimit < kNoPairLimit;

template <class V>
constexpr int kPixels = V::kTile < CVM_MOST_PIXELS ? V::kTile : CVM_MOST_PIXELS;

// ---- tiles and epilogues ----------------------------------------------------

template <class V, int P, int N>
struct Tile {
  using Reg = typename V::Reg;
  Reg v[P][N];

  template <class F>
  CVM_INLINE void each(F f) {
    CVM_UNROLL for (int p = 0; p < P; ++p)
      CVM_UNROLL for (int n = 0; n < N; ++n) f(v[p][n], p, n);
  }
};

// The channels of a tile: all lanes but those of the last register, which may be a part.
template <class V, int N>
struct Channels {
  int64_t first;
  bool full;
  typename V::Mask last;

  CVM_INLINE explicit Channels(const Piece& piece)
      : first(piece.channel),
        full(piece.channels == N * V::kLanes),
        last(V::first(static_cast<int>(piece.channels) - (N - 1) * V::kLanes)) {}

  template <class T>
  CVM_INLINE typename V::Reg load(const T* channel0, int n) const {
    const T* from = channel0 + first + n * V::kLanes;
    return n == N - 1 ? V::load(from, last) : V::load(from);
  }
};

// f(v, u) for all of the tile, with u from a tensor of type T.
template <class T, class V, int P, int N, class F>
CVM_INLINE void with_tensor(Tile<V, P, N>& t, const Piece& piece, const MapOp& op, const Channels<V, N>& c, F f) {
  char* const* places = piece.places[op.index];
  t.each([&](typename V::Reg& v, int p, int n) {
    v = f(v, c.load(reinterpret_cast<const T*>(places[p]), n));
  });
}

template <class V, int P, int N, class F>
CVM_INLINE void with_tensor(Tile<V, P, N>& t, const Piece& piece, const MapOp& op, const Channels<V, N>& c, F f) {
  if (op.storage == Storage::kByte)
    with_tensor<uint8_t>(t, piece, op, c, f);
  else if (op.storage == Storage::kShort)
    with_tensor<int16_t>(t, piece, op, c, f);
  else
    with_tensor<int32_t>(t, piece, op, c, f);
}

template <class T, class V, int P, int N>
CVM_INLINE void store_tensor(Tile<V, P, N>& t, const Piece& piece, const MapOp& op, const Channels<V, N>& c) {
  char* const* places = piece.places[op.index];
  const auto place = [&](int p, int n) { return reinterpret_cast<T*>(places[p]) + c.first + n * V::kLanes; };
  const auto store = [&](typename V::Reg v, int p, int n) { V::store(place(p, n), v); };
  if (!c.full) {
    t.each([&](typename V::Reg& v, int p, int n) {
      if (n < N - 1)
        store(v, p, n);
      else
        V::store(place(p, n), v, c.last);
    });
  } else if constexpr (N == 2 && sizeof(T) == 1) {
    CVM_UNROLL for (int p = 0; p < P / 2 * 2; p += 2) V::store_two(place(p, 0), t.v[p], place(p + 1, 0), t.v[p + 1]);
    if (P % 2) store(t.v[P - 1][0], P - 1, 0), store(t.v[P - 1][1], P - 1, 1);
  } else {
    t.each(store);
  }
}

// f(v, u) with u from a slot.
template <class V, int P, int N, class F>
CVM_INLINE void with_slot(Tile<V, P, N>& t, const Piece& piece, const MapOp& op, F f) {
  int32_t* slot = piece.slots + op.index * kSlotElements;
  t.each([&](typename V::Reg& v, int p, int n) { f(v, slot + (p * N + n) * V::kLanes); });
}

// f(v, u) with u a constant.
template <class V, int P, int N, class F>
CVM_INLINE void with_constant(Tile<V, P, N>& t, const MapOp& op, const Channels<V, N>& c, F f) {
  typename V::Reg u[N];
  CVM_UNROLL for (int n = 0; n < N; ++n) u[n] = op.channels ? c.load(op.channels, n) : V::set(op.value);
  t.each([&](typename V::Reg& v, int, int n) { v = f(v, u[n]); });
}

template <class V, int P, int N>
CVM_INLINE void run_epilogue(Tile<V, P, N>& t, const Piece& piece) {
  using Reg = typename V::Reg;
  const Channels<V, N> c(piece);
  const auto add = [](Reg a, Reg b) { return V::add(a, b); };
  const auto sub = [](Reg a, Reg b) { return V::sub(a, b); };
  const auto reverse_sub = [](Reg a, Reg b) { return V::sub(b, a); };
  const auto mul = [](Reg a, Reg b) { return V::mul(a, b); };
  const auto max = [](Reg a, Reg b) { return V::max(a, b); };
  const auto min = [](Reg a, Reg b) { return V::min(a, b); };
  const auto slot = [](auto f) { return [f](Reg& v, const int32_t* s) { v = f(v, V::load(s)); }; };
  const MapOp* const end = piece.ops + piece.num_ops;
  for (const MapOp* op = piece.ops; op != end; ++op) {
    switch (op->code) {
      case OpCode::kLoad: with_tensor(t, piece, *op, c, [](Reg, Reg b) { return b; }); break;
      case OpCode::kAddTensor: with_tensor(t, piece, *op, c, add); break;
      case OpCode::kSubTensor: with_tensor(t, piece, *op, c, sub); break;
      case OpCode::kReverseSubTensor: with_tensor(t, piece, *op, c, reverse_sub); break;
      case OpCode::kMulTensor: with_tensor(t, piece, *op, c, mul); break;
      case OpCode::kMaxTensor: with_tensor(t, piece, *op, c, max); break;
      case OpCode::kStore:
        if (op->storage == Storage::kByte)
          store_tensor<uint8_t>(t, piece, *op, c);
        else if (op->storage == Storage::kShort)
          store_tensor<int16_t>(t, piece, *op, c);
        else
          store_tensor<int32_t>(t, piece, *op, c);
        break;
      case OpCode::kSave: with_slot(t, piece, *op, [](Reg& v, int32_t* s) { V::store(s, v); }); break;
      case OpCode::kRestore: with_slot(t, piece, *op, [](Reg& v, const int32_t* s) { v = V::load(s); }); break;
      case OpCode::kAddSlot: with_slot(t, piece, *op, slot(add)); break;
      case OpCode::kSubSlot: with_slot(t, piece, *op, slot(sub)); break;
      case OpCode::kReverseSubSlot: with_slot(t, piece, *op, slot(reverse_sub)); break;
      case OpCode::kMulSlot: with_slot(t, piece, *op, slot(mul)); break;
      case OpCode::kMaxSlot: with_slot(t, piece, *op, slot(max)); break;
      case OpCode::kAdd: with_constant(t, *op, c, add); break;
      case OpCode::kMul: with_constant(t, *op, c, mul); break;
      case OpCode::kMax: with_constant(t, *op, c, max); break;
      case OpCode::kMin: with_constant(t, *op, c, min); break;
      case OpCode::kFloorShift: {
        const auto shift = V::shift(op->value);
        t.each([&](Reg& v, int, int) { v = V::shift_right(v, shift); });
        break;
      }
      case OpCode::kLeftShift: {
        const auto shift = V::shift(op->value);
        t.each([&](Reg& v, int, int) { v = V::shift_left(v, shift); });
        break;
      }
      case OpCode::kNegate: t.each([](Reg& v, int, int) { v = V::sub(V::set(0), v); }); break;
      case OpCode::kAbs: t.each([](Reg& v, int, int) { v = V::abs(v); }); break;
      case OpCode::kLookUp: {
        const Reg last = V::set(op->value);
        t.each([&](Reg& v, int, int) { v = V::gather(op->table, V::min(V::max(v, V::set(0)), last)); });
        break;
      }
    }
  }
}

// ---- matrix products --------------------------------------------------------

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
    for (int64_t c = 0; c < channels; ++c) std::memcpy(group + c * kGroup, rows + c * depth + k, kGroup);
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
    for (int64_t c = 0; c < channels; ++c) std::memcpy(panel + k * kPanel<V> + c * 2, rows + c * depth + k, 2);
}

// Every pixel's activations with every register of weights, of which V::kWeights are held at a time.
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
                      [&](int p, int n, const auto& x, const auto& w) { t.v[p][n] = V::pair_dot(t.v[p][n], x, w); });
}

// Adds the products of 4 of depth.
template <class V, int P, int N>
CVM_INLINE void add_group(Tile<V, P, N>& t, const uint8_t* const* in, int64_t offset, const int8_t* weights) {
  multiply<V, P, N>([&](int n) { return V::load_weights(weights + n * V::kLanes * kGroup); },
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
    for (int64_t k = 0; k < piece.run; k += kGroup, weights += kBytes) add_group(t, in, start + k, weights);
    if (kSplits<V>)
      for (; *rest_depths < (tap + 1) * piece.run; ++rest_depths, rest += kBytes)
        add_group(t, in, start + *rest_depths - tap * piece.run, rest);
  }
}

// ---- depthwise --------------------------------------------------------------

struct Rows {
  int count;
};

// Four rows of one column of the window lie in the 4 bytes of a lane, so that
// one dot takes four taps. Rows that the kernel does not have repeat another
// one, with weights of 0.

inline int64_t column_groups(int kernel_h) { return (kernel_h + kGroup - 1) / kGroup; }

template <class V>
int64_t depthwise_bytes(int64_t channels, int kernel_h, int kernel_w) {
  return (channels + V::kLanes - 1) / V::kLanes * kernel_w * column_groups(kernel_h) * V::kColumnBytes;
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

// A square kernel of K; pixels lie Ratio columns apart, and each column serves all of them that it meets.
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
      const auto row = [&](int a) { return rows[g * kGroup + a < K ? g * kGroup + a : g * kGroup] + at; };
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
      CVM_UNROLL for (int p = 0; p < P; ++p, i += piece.pixel_step)
        t.v[p][0] = V::column_dot(t.v[p][0], V::interleave(r0 + i, r1 + i, r2 + i, r3 + i, mask), w);
    }
}

template <class V, int P>
CVM_INLINE void depthwise_any(Tile<V, P, 1>& t, const DepthwisePiece& piece) {
  t.each([&](typename V::Reg& v, int, int) { v = V::load(piece.bias + piece.channel); });
  const int64_t tap = piece.tap_step, pixel = piece.pixel_step;
  const int k = piece.channels == V::kLanes && piece.kernel_h == piece.kernel_w ? piece.kernel_h : 0;
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

// ---- windows -------------------------------------------------------

template <class T, class V, int P, int N, class F>
CVM_INLINE void window_values(Tile<V, P, N>& t, const WindowPiece& piece, F f) {
  using Reg = typename V::Reg;
  const Channels<V, N> c(piece);
  const auto load = [&](int p, int n, int64_t tap) {
    return c.load(reinterpret_cast<const T*>(piece.in[p] + piece.taps[tap]), n);
  };
  t.each([&](Reg& v, int p, int n) { v = load(p, n, 0); });
  for (int64_t tap = 1; tap < piece.num_taps; ++tap)
    t.each([&](Reg& v, int p, int n) { v = f(v, load(p, n, tap)); });
}

// Bytes are compared as bytes.
template <class V, int P, int N>
CVM_INLINE void window_max_bytes(Tile<V, P, N>& t, const WindowPiece& piece) {
  using Bytes = typename V::Bytes;
  const typename V::Mask last = V::first(static_cast<int>(piece.channels) - (N - 1) * V::kLanes);
  const auto load = [&](int p, int n, int64_t tap) {
    const char* from = piece.in[p] + piece.taps[tap] + piece.channel + n * V::kLanes;
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(from);
    return n == N - 1 ? V::load_bytes(bytes, last) : V::load_bytes(bytes);
  };
  Bytes best[P][N];
  CVM_UNROLL for (int p = 0; p < P; ++p)
    CVM_UNROLL for (int n = 0; n < N; ++n) best[p][n] = load(p, n, 0);
  for (int64_t tap = 1; tap < piece.num_taps; ++tap)
    CVM_UNROLL for (int p = 0; p < P; ++p)
      CVM_UNROLL for (int n = 0; n < N; ++n) best[p][n] = V::max_bytes(best[p][n], load(p, n, tap));
  t.each([&](typename V::Reg& v, int p, int n) { v = V::widen_bytes(best[p][n]); });
}

template <class V, int P, int N>
CVM_INLINE void window_any(Tile<V, P, N>& t, const WindowPiece& piece) {
  using Reg = typename V::Reg;
  const auto add = [](Reg a, Reg b) { return V::add(a, b); };
  const auto max = [](Reg a, Reg b) { return V::max(a, b); };
  if (piece.storage == Storage::kByte && !piece.sums)
    window_max_bytes(t, piece);
  else if (piece.storage == Storage::kByte)
    window_values<uint8_t>(t, piece, add);
  else if (piece.storage == Storage::kShort)
    piece.sums ? window_values<int16_t>(t, piece, add) : window_values<int16_t>(t, piece, max);
  else
    piece.sums ? window_values<int32_t>(t, piece, add) : window_values<int32_t>(t, piece, max);
}

// ---- table ------------------------------------------------------------------

enum class Source { kConv, kDepthwise, kWindow, kMap };

// One function for all sources of values, which share the code of the epilogue.
template <class V, int P, int N>
void run_tile(Source source, const Piece& piece) {
  Tile<V, P, N> t;
  if (source == Source::kConv) {
    conv_sums(t, static_cast<const ConvPiece&>(piece));
  } else if (source == Source::kWindow) {
    window_any(t, static_cast<const WindowPiece&>(piece));
  } else if (source == Source::kMap) {
    t.each([](typename V::Reg& v, int, int) { v = V::set(0); });
  } else {
    if constexpr (N == 1) depthwise_any(t, static_cast<const DepthwisePiece&>(piece));
  }
  run_epilogue(t, piece);
}

// The functions for each number of pixels.
template <class V, class Pixels>
struct Table;

template <class V, int... P>
struct Table<V, std::integer_sequence<int, P...>> {
  using Function = void (*)(Source, const Piece&);
  static constexpr Function kFunctions[2][kPixels<V>] = {{run_tile<V, P + 1, 1>...}, {run_tile<V, P + 1, 2>...}};

  template <Source source, class AnyPiece>
  static void run(const AnyPiece& piece) {
    kFunctions[piece.channels > V::kLanes][piece.pixels - 1](source, piece);
  }
};

template <class V>
constexpr Isa table_of(const char* name, bool (*available)()) {
  static_assert(kPixels<V> <= kMaxPixels && kPixels<V> * 2 * V::kLanes <= kSlotElements);
  using T = Table<V, std::make_integer_sequence<int, kPixels<V>>>;
  Isa isa = {};
  isa.name = name;
  isa.available = available;
  isa.conv_pixels = isa.map_pixels = isa.depthwise_pixels = kPixels<V>;
  isa.byte_offset = V::kByteOffset;
  isa.panel = isa.map_channels = kPanel<V>;
  isa.depthwise_channels = V::kLanes;
  isa.widens = kWidens<V>;
  isa.panel_bytes = panel_bytes<V>;
  isa.pack = pack<V>;
  isa.depthwise_bytes = depthwise_bytes<V>;
  isa.pack_depthwise = pack_depthwise<V>;
  isa.conv = T::template run<Source::kConv, ConvPiece>;
  isa.depthwise = T::template run<Source::kDepthwise, DepthwisePiece>;
  isa.window = T::template run<Source::kWindow, WindowPiece>;
  isa.map = T::template run<Source::kMap, Piece>;
  return isa;
}

}  // namespace
}  // namespace cvm
