// AVX2 with byte dot products (AVX-VNNI).
#include "cpu/isa/vectors256.h"

namespace cvm {
namespace {

struct AvxVnni : Vectors256 {
  static constexpr int kPairLimit = kNoPairLimit;
  CVM_INLINE static Reg dot(Reg sum, Dwords x, Dwords w) {
#ifdef __AVXVNNI__
    return _mm256_dpbusd_avx_epi32(sum, x, w);
#else
    return _mm256_dpbusd_epi32(sum, x, w);  // the same instruction of AVX-512, for tests
#endif
  }

  using Columns = __m256i;
  using ColumnWeights = __m256i;
  static constexpr int kColumnBytes = 32;
  static void pack_column(const int8_t (*w)[kGroup], char* to) { std::memcpy(to, w, kColumnBytes); }
  CVM_INLINE static ColumnWeights load_column_weights(const char* p) {
    return load_weights(reinterpret_cast<const int8_t*>(p));
  }
  CVM_INLINE static Reg column_dot(Reg sum, Columns x, ColumnWeights w) { return dot(sum, x, w); }
  CVM_INLINE static Columns interleave(Bytes r0, Bytes r1, Bytes r2, Bytes r3) {
    const __m128i a = _mm_unpacklo_epi8(r0, r1), b = _mm_unpacklo_epi8(r2, r3);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi16(a, b)),
                                   _mm_unpackhi_epi16(a, b), 1);
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Rows) {
    return interleave(load_bytes(r0), load_bytes(r1), load_bytes(r2), load_bytes(r3));
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, const Mask& m) {
    return interleave(load_bytes(r0, m), load_bytes(r1, m), load_bytes(r2, m), load_bytes(r3, m));
  }
};

bool available() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avxvnni"); }

}  // namespace

const Isa kAvxVnni = table_of<AvxVnni>("avxvnni", available);

}  // namespace cvm
