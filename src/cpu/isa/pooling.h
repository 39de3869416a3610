// Maxima and sums over windows. See kernels.h.
#pragma once

#include <cstdint>

#include "cpu/isa/tile.h"

namespace cvm {
namespace {

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

}  // namespace
}  // namespace cvm
