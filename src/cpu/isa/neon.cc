// AArch64.
#include "cpu/isa/vectors128.h"

namespace cvm {
namespace {

struct Neon : Vectors128 {
  static constexpr int kPairLimit = 255;  // 128 * 255 < 2^15

  // Bytes 0 and 2, and bytes 1 and 3 of each lane.
  struct Dwords {
    int8x16_t even, odd;
  };
  using Weights = Dwords;
  CVM_INLINE static Weights load_weights(const int8_t* p) {
    const int8x16_t low = vld1q_s8(p), high = vld1q_s8(p + 16);
    return {vuzp1q_s8(low, high), vuzp2q_s8(low, high)};
  }
  CVM_INLINE static Dwords broadcast(const uint8_t* p) {
    const int8x16_t x = vreinterpretq_s8_u32(vdupq_n_u32(signed_bytes(p)));
    return {vuzp1q_s8(x, x), vuzp2q_s8(x, x)};
  }
  CVM_INLINE static Reg dot(Reg sum, Dwords x, Weights w) {
    const int16x8_t low = vmull_s8(vget_low_s8(x.even), vget_low_s8(w.even));
    const int16x8_t high = vmull_high_s8(x.even, w.even);
    return {vpadalq_s16(sum.low, vmlal_s8(low, vget_low_s8(x.odd), vget_low_s8(w.odd))),
            vpadalq_s16(sum.high, vmlal_high_s8(high, x.odd, w.odd))};
  }

  // Rows in 16 bits.
  struct Columns {
    int16x8_t rows[kGroup];
    int count;
  };
  struct ColumnWeights {
    int16x8_t rows[kGroup];
  };
  static constexpr int kColumnBytes = 64;
  static void pack_column(const int8_t (*w)[kGroup], char* to) {
    int16_t rows[kGroup][kLanes];
    for (int k = 0; k < kGroup; ++k)
      for (int c = 0; c < kLanes; ++c) rows[k][c] = w[c][k];
    std::memcpy(to, rows, sizeof rows);
  }
  CVM_INLINE static ColumnWeights load_column_weights(const char* p) {
    const int16_t* w = reinterpret_cast<const int16_t*>(p);
    return {{vld1q_s16(w), vld1q_s16(w + 8), vld1q_s16(w + 16), vld1q_s16(w + 24)}};
  }
  CVM_INLINE static Reg column_dot(Reg sum, const Columns& x, const ColumnWeights& w) {
    CVM_UNROLL for (int k = 0; k < kGroup; ++k) {
      if (k >= x.count) break;
      sum.low = vmlal_s16(sum.low, vget_low_s16(x.rows[k]), vget_low_s16(w.rows[k]));
      sum.high = vmlal_high_s16(sum.high, x.rows[k], w.rows[k]);
    }
    return sum;
  }
  CVM_INLINE static int16x8_t widen(Bytes b) {
    return vreinterpretq_s16_u16(vsubl_u8(b, vdup_n_u8(128)));
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Rows n) {
    return {{widen(load_bytes(r0)), widen(load_bytes(r1)), widen(load_bytes(r2)),
             widen(load_bytes(r3))},
            n.count < kGroup ? n.count : kGroup};
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Mask n) {
    return {{widen(load_bytes(r0, n)), widen(load_bytes(r1, n)), widen(load_bytes(r2, n)),
             widen(load_bytes(r3, n))},
            kGroup};
  }
};

bool available() { return machine_has(HWCAP_ASIMD); }

}  // namespace

const Isa kNeon = table_of<Neon>("neon", available);

}  // namespace cvm
