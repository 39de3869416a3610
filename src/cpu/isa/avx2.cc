// AVX2.
#include "cpu/isa/vectors256.h"

namespace cvm {
namespace {

struct Avx2 : Vectors256 {
  // all 16 registers: 12 sums, the weights, activations, ones, products
  static constexpr int kWeights = 1;
  static constexpr int kPairLimit = 128;  // 255 * 128 < 2^15
  CVM_INLINE static Reg dot(Reg sum, Dwords x, Dwords w) {
    return _mm256_add_epi32(sum,
                            _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
  }

  using Pairs = __m256i;
  static constexpr int kPairBytes = 16;
  CVM_INLINE static Pairs load_pairs(const int8_t* p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  CVM_INLINE static Pairs broadcast_pair(const int16_t* p) {
    return broadcast(reinterpret_cast<const uint8_t*>(p));
  }
  CVM_INLINE static Reg pair_dot(Reg sum, Pairs x, Pairs w) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
  }

  // Pairs of rows in 16 bits.
  struct Columns {
    __m256i first, second;
  };
  using ColumnWeights = Columns;
  static constexpr int kColumnBytes = 64;
  static void pack_column(const int8_t (*w)[kGroup], char* to) { pack_column_pairs<kLanes>(w, to); }
  CVM_INLINE static ColumnWeights load_column_weights(const char* p) {
    const int8_t* w = reinterpret_cast<const int8_t*>(p);
    return {load_weights(w), load_weights(w + 32)};
  }
  CVM_INLINE static Reg column_dot(Reg sum, const Columns& x, const ColumnWeights& w) {
    return add(add(sum, _mm256_madd_epi16(x.first, w.first)),
               _mm256_madd_epi16(x.second, w.second));
  }
  CVM_INLINE static __m256i pairs(__m128i a, __m128i b) {
    return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Rows) {
    return {pairs(load_bytes(r0), load_bytes(r1)), pairs(load_bytes(r2), load_bytes(r3))};
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, const Mask& m) {
    return {pairs(load_bytes(r0, m), load_bytes(r1, m)),
            pairs(load_bytes(r2, m), load_bytes(r3, m))};
  }
};

bool available() { return __builtin_cpu_supports("avx2"); }

}  // namespace

const Isa kAvx2 = table_of<Avx2>("avx2", available);

}  // namespace cvm
