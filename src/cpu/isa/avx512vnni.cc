// AVX-512 with byte dot products (VNNI).
#include "cpu/isa/vectors512.h"

namespace cvm {
namespace {

struct Avx512Vnni : Vectors512 {
  static constexpr int kTile = 14;  // 28 sums, 2 registers of weights and one of activations
  static constexpr int kPairLimit = kNoPairLimit;
  CVM_INLINE static Reg dot(Reg sum, Dwords x, Dwords w) { return _mm512_dpbusd_epi32(sum, x, w); }

  using Columns = __m512i;
  using ColumnWeights = __m512i;
  static constexpr int kColumnBytes = 64;
  static void pack_column(const int8_t (*w)[kGroup], char* to) { std::memcpy(to, w, kColumnBytes); }
  CVM_INLINE static ColumnWeights load_column_weights(const char* p) {
    return _mm512_loadu_si512(p);
  }
  CVM_INLINE static Reg column_dot(Reg sum, Columns x, ColumnWeights w) { return dot(sum, x, w); }

  // The dwords of the rows, then the bytes of each four dwords, change places.
  CVM_INLINE static Columns transpose(__m256i rows01, __m256i rows23) {
    const __m512i dwords =
        _mm512_setr_epi32(0, 4, 16, 20, 1, 5, 17, 21, 2, 6, 18, 22, 3, 7, 19, 23);
    const __m512i bytes =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i mixed = _mm512_permutex2var_epi32(_mm512_castsi256_si512(rows01), dwords,
                                                    _mm512_castsi256_si512(rows23));
    return _mm512_shuffle_epi8(mixed, bytes);
  }
  CVM_INLINE static __m256i two(Bytes a, Bytes b) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Rows n) {
    const __m256i rows01 = two(load_bytes(r0), load_bytes(r1));
    if (n.count <= 2) return transpose(rows01, rows01);
    const Bytes row2 = load_bytes(r2);
    return transpose(rows01,
                     n.count == 3 ? _mm256_castsi128_si256(row2) : two(row2, load_bytes(r3)));
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Mask m) {
    return transpose(two(load_bytes(r0, m), load_bytes(r1, m)),
                     two(load_bytes(r2, m), load_bytes(r3, m)));
  }
};

bool available() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

}  // namespace

const Isa kAvx512Vnni = table_of<Avx512Vnni>("avx512vnni", available);

}  // namespace cvm
