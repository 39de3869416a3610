// AVX-512 of processors without VNNI.
#include "cpu/isa/vectors512.h"

namespace cvm {
namespace {

struct Avx512 : Vectors512 {
  // 24 sums, 2 registers of weights, one of activations, one of ones, products
  static constexpr int kTile = 12;
  static constexpr int kPairLimit = 128;  // 255 * 128 < 2^15
  CVM_INLINE static Reg dot(Reg sum, Dwords x, Dwords w) {
    return _mm512_add_epi32(sum,
                            _mm512_madd_epi16(_mm512_maddubs_epi16(x, w), _mm512_set1_epi16(1)));
  }

  using Pairs = __m512i;
  static constexpr int kPairBytes = 32;
  CVM_INLINE static Pairs load_pairs(const int8_t* p) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  CVM_INLINE static Pairs broadcast_pair(const int16_t* p) {
    return broadcast(reinterpret_cast<const uint8_t*>(p));
  }
  CVM_INLINE static Reg pair_dot(Reg sum, Pairs x, Pairs w) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, w));
  }

  // Pairs of rows in 16 bits.
  struct Columns {
    __m512i first, second;
  };
  using ColumnWeights = Columns;
  static constexpr int kColumnBytes = 128;
  static void pack_column(const int8_t (*w)[kGroup], char* to) { pack_column_pairs<kLanes>(w, to); }
  CVM_INLINE static ColumnWeights load_column_weights(const char* p) {
    return {_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64)};
  }
  CVM_INLINE static Reg column_dot(Reg sum, const Columns& x, const ColumnWeights& w) {
    return add(add(sum, _mm512_madd_epi16(x.first, w.first)),
               _mm512_madd_epi16(x.second, w.second));
  }
  CVM_INLINE static __m512i pairs(__m128i a, __m128i b) {
    const __m256i low = _mm256_castsi128_si256(_mm_unpacklo_epi8(a, b));
    return _mm512_cvtepu8_epi16(_mm256_inserti128_si256(low, _mm_unpackhi_epi8(a, b), 1));
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Rows) {
    return {pairs(load_bytes(r0), load_bytes(r1)), pairs(load_bytes(r2), load_bytes(r3))};
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Mask m) {
    return {pairs(load_bytes(r0, m), load_bytes(r1, m)),
            pairs(load_bytes(r2, m), load_bytes(r3, m))};
  }
};

bool available() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

}  // namespace

const Isa kAvx512 = table_of<Avx512>("avx512", available);

}  // namespace cvm
