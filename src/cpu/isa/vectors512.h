// 16 lanes of AVX-512 (F, BW, VL, DQ). See kernels.h.
#pragma once

#include <immintrin.h>

#include "cpu/isa/kernels.h"

namespace cvm {
namespace {

struct Vectors512 {
  static constexpr int kLanes = 16;
  static constexpr int kWeights = 2;
  static constexpr int kByteOffset = 0;
  using Reg = __m512i;
  using Bytes = __m128i;
  using Dwords = __m512i;
  using Weights = Dwords;
  using Mask = __mmask16;

  CVM_INLINE static Mask first(int n) { return static_cast<Mask>((1u << n) - 1); }
  CVM_INLINE static Reg load(const int32_t* p) { return _mm512_loadu_si512(p); }
  CVM_INLINE static Reg load(const int16_t* p) {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  CVM_INLINE static Reg load(const uint8_t* p) { return widen_bytes(load_bytes(p)); }
  CVM_INLINE static Reg load(const int32_t* p, Mask m) { return _mm512_maskz_loadu_epi32(m, p); }
  CVM_INLINE static Reg load(const int16_t* p, Mask m) {
    return _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(m, p));
  }
  CVM_INLINE static Reg load(const uint8_t* p, Mask m) { return widen_bytes(load_bytes(p, m)); }
  CVM_INLINE static void store(int32_t* p, Reg v) { _mm512_storeu_si512(p, v); }
  CVM_INLINE static void store(int16_t* p, Reg v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtsepi32_epi16(v));
  }
  CVM_INLINE static void store(uint8_t* p, Reg v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtusepi32_epi8(v));
  }
  CVM_INLINE static void store(int32_t* p, Reg v, Mask m) { _mm512_mask_storeu_epi32(p, m, v); }
  CVM_INLINE static void store(int16_t* p, Reg v, Mask m) {
    _mm256_mask_storeu_epi16(p, m, _mm512_cvtsepi32_epi16(v));
  }
  CVM_INLINE static void store(uint8_t* p, Reg v, Mask m) {
    _mm_mask_storeu_epi8(p, m, _mm512_cvtusepi32_epi8(v));
  }

  CVM_INLINE static void store_two(uint8_t* p, const Reg (&v)[2], uint8_t* q, const Reg (&u)[2]) {
    const __m512i mixed =
        _mm512_packus_epi16(_mm512_packs_epi32(v[0], v[1]), _mm512_packs_epi32(u[0], u[1]));
    const __m512i bytes = _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), mixed);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(bytes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), _mm512_extracti64x4_epi64(bytes, 1));
  }

  CVM_INLINE static Reg set(int32_t x) { return _mm512_set1_epi32(x); }
  CVM_INLINE static Reg add(Reg a, Reg b) { return _mm512_add_epi32(a, b); }
  CVM_INLINE static Reg sub(Reg a, Reg b) { return _mm512_sub_epi32(a, b); }
  CVM_INLINE static Reg mul(Reg a, Reg b) { return _mm512_mullo_epi32(a, b); }
  CVM_INLINE static Reg max(Reg a, Reg b) { return _mm512_max_epi32(a, b); }
  CVM_INLINE static Reg min(Reg a, Reg b) { return _mm512_min_epi32(a, b); }
  CVM_INLINE static Reg abs(Reg a) { return _mm512_abs_epi32(a); }
  CVM_INLINE static Reg shift(int32_t bits) { return set(bits); }
  CVM_INLINE static Reg shift_right(Reg a, Reg bits) { return _mm512_srav_epi32(a, bits); }
  CVM_INLINE static Reg shift_left(Reg a, Reg bits) { return _mm512_sllv_epi32(a, bits); }
  CVM_INLINE static Reg gather(const int32_t* table, Reg index) {
    return _mm512_i32gather_epi32(index, table, 4);
  }

  CVM_INLINE static Bytes load_bytes(const uint8_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  CVM_INLINE static Bytes load_bytes(const uint8_t* p, Mask m) {
    return _mm_maskz_loadu_epi8(m, p);
  }
  CVM_INLINE static Bytes max_bytes(Bytes a, Bytes b) { return _mm_max_epu8(a, b); }
  CVM_INLINE static Reg widen_bytes(Bytes b) { return _mm512_cvtepu8_epi32(b); }

  CVM_INLINE static Weights load_weights(const int8_t* p) { return _mm512_loadu_si512(p); }
  CVM_INLINE static Dwords broadcast(const uint8_t* p) {
    int x;
    std::memcpy(&x, p, sizeof x);
    return _mm512_set1_epi32(x);
  }
};

}  // namespace
}  // namespace cvm
