// The operations of a step on a tile. See kernels.h.
#pragma once

#include <cstdint>

#include "cpu/isa/tile.h"

namespace cvm {
namespace {

// ---- v = f(v, u) for all of the tile, with u from a tensor, a slot, or a constant

template <class T, class V, int P, int N, class F>
CVM_INLINE void with_tensor(Tile<V, P, N>& t, const Piece& piece, const MapOp& op,
                            const Channels<V, N>& c, F f) {
  char* const* places = piece.places[op.index];
  t.each([&](typename V::Reg& v, int p, int n) {
    v = f(v, c.load(reinterpret_cast<const T*>(places[p]), n));
  });
}

template <class V, int P, int N, class F>
CVM_INLINE void with_tensor(Tile<V, P, N>& t, const Piece& piece, const MapOp& op,
                            const Channels<V, N>& c, F f) {
  switch (op.storage) {
    case Storage::kByte: with_tensor<uint8_t>(t, piece, op, c, f); break;
    case Storage::kShort: with_tensor<int16_t>(t, piece, op, c, f); break;
    case Storage::kInt: with_tensor<int32_t>(t, piece, op, c, f); break;
  }
}

template <class V, int P, int N>
CVM_INLINE int32_t* place_in_slot(const Piece& piece, const MapOp& op, int p, int n) {
  return piece.slots + op.index * kSlotElements + (p * N + n) * V::kLanes;
}

template <class V, int P, int N, class F>
CVM_INLINE void with_slot(Tile<V, P, N>& t, const Piece& piece, const MapOp& op, F f) {
  t.each([&](typename V::Reg& v, int p, int n) {
    v = f(v, V::load(place_in_slot<V, P, N>(piece, op, p, n)));
  });
}

template <class V, int P, int N, class F>
CVM_INLINE void with_constant(Tile<V, P, N>& t, const MapOp& op, const Channels<V, N>& c, F f) {
  typename V::Reg u[N];
  CVM_UNROLL for (int n = 0; n < N; ++n)
    u[n] = op.channels ? c.load(op.channels, n) : V::set(op.value);
  t.each([&](typename V::Reg& v, int, int n) { v = f(v, u[n]); });
}

template <class V, int P, int N, class F>
CVM_INLINE void with_operand(Tile<V, P, N>& t, const Piece& piece, const MapOp& op,
                             const Channels<V, N>& c, F f) {
  switch (op.operand) {
    case Operand::kConstant: with_constant(t, op, c, f); break;
    case Operand::kTensor: with_tensor(t, piece, op, c, f); break;
    case Operand::kSlot: with_slot(t, piece, op, f); break;
  }
}

// ---- u = v

template <class T, class V, int P, int N>
CVM_INLINE void store_tensor(Tile<V, P, N>& t, const Piece& piece, const MapOp& op,
                             const Channels<V, N>& c) {
  char* const* places = piece.places[op.index];
  const auto place = [&](int p, int n) {
    return reinterpret_cast<T*>(places[p]) + c.first + n * V::kLanes;
  };
  const auto store = [&](typename V::Reg v, int p, int n) { V::store(place(p, n), v); };
  if (!c.full) {
    t.each([&](typename V::Reg& v, int p, int n) {
      if (n < N - 1)
        store(v, p, n);
      else
        V::store(place(p, n), v, c.last);
    });
  } else if constexpr (N == 2 && sizeof(T) == 1) {
    CVM_UNROLL for (int p = 0; p < P / 2 * 2; p += 2)
      V::store_two(place(p, 0), t.v[p], place(p + 1, 0), t.v[p + 1]);
    if (P % 2) store(t.v[P - 1][0], P - 1, 0), store(t.v[P - 1][1], P - 1, 1);
  } else {
    t.each(store);
  }
}

template <class V, int P, int N>
CVM_INLINE void store_tensor(Tile<V, P, N>& t, const Piece& piece, const MapOp& op,
                             const Channels<V, N>& c) {
  switch (op.storage) {
    case Storage::kByte: store_tensor<uint8_t>(t, piece, op, c); break;
    case Storage::kShort: store_tensor<int16_t>(t, piece, op, c); break;
    case Storage::kInt: store_tensor<int32_t>(t, piece, op, c); break;
  }
}

template <class V, int P, int N>
CVM_INLINE void store(Tile<V, P, N>& t, const Piece& piece, const MapOp& op,
                      const Channels<V, N>& c) {
  switch (op.operand) {
    case Operand::kConstant: break;  // nothing to store to
    case Operand::kTensor: store_tensor(t, piece, op, c); break;
    case Operand::kSlot:
      t.each([&](typename V::Reg& v, int p, int n) {
        V::store(place_in_slot<V, P, N>(piece, op, p, n), v);
      });
  }
}

// ---- all operations

// What each primitive does to registers; ir/primitive.h says the rest.
template <class V, int P, int N>
CVM_INLINE void run_op(Tile<V, P, N>& t, const Piece& piece, const MapOp& op,
                       const Channels<V, N>& c) {
  using Reg = typename V::Reg;
  const auto with = [&](auto f) { with_operand(t, piece, op, c, f); };
  const auto each = [&](auto f) { t.each([&](Reg& v, int, int) { v = f(v); }); };
  switch (op.primitive) {
    case Primitive::kLoad: with([](Reg, Reg u) { return u; }); break;
    case Primitive::kStore: store(t, piece, op, c); break;
    case Primitive::kAdd: with([](Reg v, Reg u) { return V::add(v, u); }); break;
    case Primitive::kSub: with([](Reg v, Reg u) { return V::sub(v, u); }); break;
    case Primitive::kReverseSub: with([](Reg v, Reg u) { return V::sub(u, v); }); break;
    case Primitive::kMul: with([](Reg v, Reg u) { return V::mul(v, u); }); break;
    case Primitive::kMax: with([](Reg v, Reg u) { return V::max(v, u); }); break;
    case Primitive::kMin: with([](Reg v, Reg u) { return V::min(v, u); }); break;
    case Primitive::kFloorShift:
      each([bits = V::shift(op.value)](Reg v) { return V::shift_right(v, bits); });
      break;
    case Primitive::kLeftShift:
      each([bits = V::shift(op.value)](Reg v) { return V::shift_left(v, bits); });
      break;
    case Primitive::kNegate: each([](Reg v) { return V::sub(V::set(0), v); }); break;
    case Primitive::kAbs: each([](Reg v) { return V::abs(v); }); break;
    case Primitive::kLookUp:
      each([&, last = V::set(op.value)](Reg v) {
        return V::gather(op.table, V::min(V::max(v, V::set(0)), last));
      });
  }
}

template <class V, int P, int N>
CVM_INLINE void run_epilogue(Tile<V, P, N>& t, const Piece& piece) {
  const Channels<V, N> c(piece);
  const MapOp* const end = piece.ops + piece.num_ops;
  for (const MapOp* op = piece.ops; op != end; ++op) run_op(t, piece, *op, c);
}

}  // namespace
}  // namespace cvm
