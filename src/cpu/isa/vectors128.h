// 8 lanes in two registers of NEON. See kernels.h.
//
// Products are of signed bytes: the top bit of a byte of memory is flipped, which takes 128 off.
#pragma once

#include <arm_neon.h>
#include <sys/auxv.h>

#include "cpu/isa/kernels.h"

namespace cvm {
namespace {

struct Vectors128 {
  static constexpr int kLanes = 8;
  static constexpr int kWeights = 2;
  // 24 sums, 4 registers of weights, and those of activations and products
  static constexpr int kTile = 6;
  static constexpr int kByteOffset = -128;
  struct Reg {
    int32x4_t low, high;
  };
  using Bytes = uint8x8_t;
  using Mask = int;

  CVM_INLINE static Mask first(int n) { return n; }
  CVM_INLINE static Reg load(const int32_t* p) { return {vld1q_s32(p), vld1q_s32(p + 4)}; }
  CVM_INLINE static Reg load(const int16_t* p) {
    const int16x8_t x = vld1q_s16(p);
    return {vmovl_s16(vget_low_s16(x)), vmovl_high_s16(x)};
  }
  CVM_INLINE static Reg load(const uint8_t* p) { return widen_bytes(load_bytes(p)); }
  CVM_INLINE static void store(int32_t* p, Reg v) { vst1q_s32(p, v.low), vst1q_s32(p + 4, v.high); }
  CVM_INLINE static void store(int16_t* p, Reg v) {
    vst1q_s16(p, vqmovn_high_s32(vqmovn_s32(v.low), v.high));
  }
  CVM_INLINE static void store(uint8_t* p, Reg v) { vst1_u8(p, bytes(v)); }

  // A part of the lanes goes through memory.
  template <class T>
  CVM_INLINE static Reg load(const T* p, Mask n) {
    if (n == kLanes) return load(p);
    T x[kLanes] = {};
    copy(p, n, x);
    return load(x);
  }
  template <class T>
  CVM_INLINE static void store(T* p, Reg v, Mask n) {
    if (n == kLanes) return store(p, v);
    T x[kLanes];
    store(x, v);
    copy(x, n, p);
  }

  CVM_INLINE static void store_two(uint8_t* p, const Reg (&v)[2], uint8_t* q, const Reg (&u)[2]) {
    vst1q_u8(p, vcombine_u8(bytes(v[0]), bytes(v[1])));
    vst1q_u8(q, vcombine_u8(bytes(u[0]), bytes(u[1])));
  }

  CVM_INLINE static Reg set(int32_t x) { return {vdupq_n_s32(x), vdupq_n_s32(x)}; }
  CVM_INLINE static Reg add(Reg a, Reg b) {
    return wrapped(vaddq_u32(bits(a.low), bits(b.low)), vaddq_u32(bits(a.high), bits(b.high)));
  }
  CVM_INLINE static Reg sub(Reg a, Reg b) {
    return wrapped(vsubq_u32(bits(a.low), bits(b.low)), vsubq_u32(bits(a.high), bits(b.high)));
  }
  CVM_INLINE static Reg mul(Reg a, Reg b) {
    return wrapped(vmulq_u32(bits(a.low), bits(b.low)), vmulq_u32(bits(a.high), bits(b.high)));
  }
  CVM_INLINE static Reg max(Reg a, Reg b) {
    return {vmaxq_s32(a.low, b.low), vmaxq_s32(a.high, b.high)};
  }
  CVM_INLINE static Reg min(Reg a, Reg b) {
    return {vminq_s32(a.low, b.low), vminq_s32(a.high, b.high)};
  }
  CVM_INLINE static Reg abs(Reg a) { return {vabsq_s32(a.low), vabsq_s32(a.high)}; }
  CVM_INLINE static int32x4_t shift(int32_t n) { return vdupq_n_s32(n); }
  CVM_INLINE static Reg shift_right(Reg a, int32x4_t n) { return shift_left(a, vnegq_s32(n)); }
  CVM_INLINE static Reg shift_left(Reg a, int32x4_t n) {
    return {vshlq_s32(a.low, n), vshlq_s32(a.high, n)};
  }
  CVM_INLINE static Reg gather(const int32_t* table, Reg index) {
    int32_t x[kLanes];
    store(x, index);
    CVM_UNROLL for (int k = 0; k < kLanes; ++k) x[k] = table[x[k]];
    return load(x);
  }

  CVM_INLINE static Bytes load_bytes(const uint8_t* p) { return vld1_u8(p); }
  CVM_INLINE static Bytes load_bytes(const uint8_t* p, Mask n) {
    if (n == kLanes) return load_bytes(p);
    uint8_t x[kLanes] = {};
    copy(p, n, x);
    return load_bytes(x);
  }
  CVM_INLINE static Bytes max_bytes(Bytes a, Bytes b) { return vmax_u8(a, b); }
  CVM_INLINE static Reg widen_bytes(Bytes b) {
    const uint16x8_t x = vmovl_u8(b);
    return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(x))),
            vreinterpretq_s32_u32(vmovl_high_u16(x))};
  }

  // Four of them, flipped before they become a vector: the vector units have enough to do.
  CVM_INLINE static uint32_t signed_bytes(const uint8_t* p) {
    uint32_t x;
    std::memcpy(&x, p, sizeof x);
    return x ^ 0x80808080;
  }

 private:
  // Sums of signed integers may wrap, but GCC's intrinsics for them are C++ that must not.
  CVM_INLINE static uint32x4_t bits(int32x4_t x) { return vreinterpretq_u32_s32(x); }
  CVM_INLINE static Reg wrapped(uint32x4_t low, uint32x4_t high) {
    return {vreinterpretq_s32_u32(low), vreinterpretq_s32_u32(high)};
  }

  CVM_INLINE static Bytes bytes(Reg v) {
    return vqmovn_u16(vqmovun_high_s32(vqmovun_s32(v.low), v.high));
  }

  // Unrolled, so that it does not become a call for which all registers are saved.
  template <class T>
  CVM_INLINE static void copy(const T* from, int n, T* to) {
    CVM_UNROLL for (int k = 0; k < kLanes; ++k)
      if (k < n) to[k] = from[k];
  }
};

bool machine_has(unsigned long features) { return (getauxval(AT_HWCAP) & features) == features; }

}  // namespace
}  // namespace cvm
