// AArch64 with byte dot products.
#include "cpu/isa/vectors128.h"

namespace cvm {
namespace {

struct Dotprod : Vectors128 {
  static constexpr int kPairLimit = kNoPairLimit;

  using Dwords = int8x8_t;  // the 4 bytes in its lower half
  struct Weights {
    int8x16_t low, high;
  };
  CVM_INLINE static Weights load_weights(const int8_t* p) {
    return {vld1q_s8(p), vld1q_s8(p + 16)};
  }
  CVM_INLINE static Dwords broadcast(const uint8_t* p) { return vcreate_s8(signed_bytes(p)); }
  CVM_INLINE static Reg dot(Reg sum, Dwords x, Weights w) {
    return {vdotq_lane_s32(sum.low, w.low, x, 0), vdotq_lane_s32(sum.high, w.high, x, 0)};
  }

  using Columns = Weights;
  using ColumnWeights = Weights;
  static constexpr int kColumnBytes = 32;
  static void pack_column(const int8_t (*w)[kGroup], char* to) { std::memcpy(to, w, kColumnBytes); }
  CVM_INLINE static ColumnWeights load_column_weights(const char* p) {
    return load_weights(reinterpret_cast<const int8_t*>(p));
  }
  CVM_INLINE static Reg column_dot(Reg sum, const Columns& x, const ColumnWeights& w) {
    return {vdotq_s32(sum.low, x.low, w.low), vdotq_s32(sum.high, x.high, w.high)};
  }
  CVM_INLINE static uint16x8_t pairs(Bytes a, Bytes b) {
    const Bytes none = vdup_n_u8(0);
    return vreinterpretq_u16_u8(vzip1q_u8(vcombine_u8(a, none), vcombine_u8(b, none)));
  }
  CVM_INLINE static int8x16_t flip(uint16x8_t x) {
    return vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_u16(x), vdupq_n_u8(0x80)));
  }
  CVM_INLINE static Columns interleave(Bytes r0, Bytes r1, Bytes r2, Bytes r3) {
    const uint16x8_t a = pairs(r0, r1), b = pairs(r2, r3);
    return {flip(vzip1q_u16(a, b)), flip(vzip2q_u16(a, b))};
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Rows) {
    return interleave(load_bytes(r0), load_bytes(r1), load_bytes(r2), load_bytes(r3));
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Mask n) {
    return interleave(load_bytes(r0, n), load_bytes(r1, n), load_bytes(r2, n), load_bytes(r3, n));
  }
};

bool available() { return machine_has(HWCAP_ASIMD | HWCAP_ASIMDDP); }

}  // namespace

const Isa kDotprod = table_of<Dotprod>("dotprod", available);

}  // namespace cvm
