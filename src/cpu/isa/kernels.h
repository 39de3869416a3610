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
// What V must have, beside the arithmetic that run_op() names:
//   Mask            the first lanes; first(n) for n = 1..kLanes
//   load, store     int32, int16 (sign extended, saturated) or unsigned bytes (zero extended;
//                   stored as min(v, 255) of v >= 0), of all lanes, or with a Mask of those alone
//   store_two       2 registers each to 2 places, as unsigned bytes
//   Bytes           kLanes unsigned bytes: load_bytes, max_bytes, widen_bytes
//   Weights, Dwords 4 weights and 4 activation bytes of each lane: load_weights, broadcast
//   dot             sum + the 4 products of each lane
//   kByteOffset     products, also those of depthwise kernels, are with the activation byte plus it
//   kPairLimit      dot is exact only where no two adjacent weights of one sign exceed it together;
//                   or kNoPairLimit
//   Pairs           if there are any: 2 weights of each lane (kPairBytes) in 16 bits: load_pairs,
//                   broadcast_pair, pair_dot; always exact
//   Columns, ColumnWeights, kColumnBytes, interleave, load_column_weights, pack_column, column_dot:
//                   the same for depthwise kernels, from 4 rows of memory, of which Rows may be
//                   fewer; always exact
//   kTile           most pixels of a tile of 2 registers each
//   kWeights        registers of weights, of the 2, that are held at a time
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/isa/depthwise.h"
#include "cpu/isa/epilogue.h"
#include "cpu/isa/pooling.h"
#include "cpu/isa/product.h"

namespace cvm {
namespace {

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
  static constexpr Function kFunctions[2][kPixels<V>] = {{run_tile<V, P + 1, 1>...},
                                                         {run_tile<V, P + 1, 2>...}};

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
