// Registers of a few pixels times a few channels. See kernels.h.
#pragma once

#include <cstdint>

#include "cpu/isa/isa.h"

#ifdef CVM_SMALL_TILES  // for sanitizers, whose checks would take minutes to compile
#define CVM_INLINE inline
#define CVM_UNROLL
#define CVM_MAX_PIXELS 3
#else
#define CVM_INLINE [[gnu::always_inline]] inline
#ifndef CVM_UNROLL
#define CVM_UNROLL _Pragma("GCC unroll 32")
#endif
#define CVM_MAX_PIXELS kMaxPixels
#endif

namespace cvm {
namespace {

template <class V>
constexpr int kPixels = V::kTile < CVM_MAX_PIXELS ? V::kTile : CVM_MAX_PIXELS;

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

}  // namespace
}  // namespace cvm
