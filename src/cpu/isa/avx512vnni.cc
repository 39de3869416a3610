// AVX-512 with byte dot products (VNNI).
#include "cpu/isa/vectors512.h"

namespace cvm {
namespace {

struct Avx512Vnni : Vectors512 {
  static constexpr int kTile = 14;  // 28 sums, 2 registers of weights and one of activations
  static constexpr bool kSplits = false;
  CVM_INLINE static Reg dot(Reg sum, Dwords x, Dwords w) { return _mm512_dpbusd_epi32(sum, x, w); }

  using Columns = __m512i;
  using ColumnWeights = __m512i;
  static constexpr int kColumnBytes = 64;
  static void pack_column(const int8_t (*w)[kGroup], char* to) { std::memcpy(to, w, kColumnBytes); }
  CVM_INLINE static ColumnWeights load_column_weights(const char* p) { return _mm512_loadu_si512(p); }
  CVM_INLINE static Reg column_dot(Reg sum, Columns x, ColumnWeights w) { return dot(sum, x, w); }

  // Each row is a quarter of a register; its dwords, then their bytes, change places.
  CVM_INLINE static Columns transpose(__m512i rows) {
    const __m512i bytes = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(dword_columns(), rows), bytes);
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2, const uint8_t* r3, Rows n) {
    __m512i rows = _mm512_broadcast_i32x4(load_bytes(r0));
    if (n.count > 1) rows = _mm512_mask_broadcast_i32x4(rows, 0x00f0, load_bytes(r1));
    if (n.count > 2) rows = _mm512_mask_broadcast_i32x4(rows, 0x0f00, load_bytes(r2));
    if (n.count > 3) rows = _mm512_mask_broadcast_i32x4(rows, 0xf000, load_bytes(r3));
    return transpose(rows);
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2, const uint8_t* r3, Mask m) {
    __m512i rows = _mm512_castsi128_si512(load_bytes(r0, m));
    rows = _mm512_inserti32x4(rows, load_bytes(r1, m), 1);
    rows = _mm512_inserti32x4(rows, load_bytes(r2, m), 2);
    return transpose(_mm512_inserti32x4(rows, load_bytes(r3, m), 3));
  }
};

bool available() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}

}  // namespace

const Isa kAvx512Vnni = table_of<Avx512Vnni>("avx512vnni", available);

}  // namespace cvm
