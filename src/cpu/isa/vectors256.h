// 8 lanes of AVX2. See kernels.h.
#pragma once

#include <immintrin.h>

#include <type_traits>

#include "cpu/isa/kernels.h"

namespace cvm {
namespace {

struct Vectors256 {
  static constexpr int kLanes = 8;
  static constexpr int kWeights = 2;
  // 12 sums, 2 registers of weights, one of activations, one of products
  static constexpr int kTile = 6;
  static constexpr int kByteOffset = 0;
  using Reg = __m256i;
  using Bytes = __m128i;  // the lower half
  using Dwords = __m256i;
  using Weights = Dwords;
  struct Mask {
    int count;
    __m256i lanes;
  };

  CVM_INLINE static Mask first(int n) {
    return {n, _mm256_cmpgt_epi32(set(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))};
  }
  CVM_INLINE static Reg load(const int32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  CVM_INLINE static Reg load(const int16_t* p) {
    return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  CVM_INLINE static Reg load(const uint8_t* p) { return widen_bytes(load_bytes(p)); }
  CVM_INLINE static Reg load(const int32_t* p, const Mask& m) {
    return _mm256_maskload_epi32(p, m.lanes);
  }
  CVM_INLINE static Reg load(const int16_t* p, const Mask& m) {
    if (m.count == kLanes) return load(p);
    const uint64_t low = partial(p, m.count < 4 ? m.count : 4);
    const uint64_t high = m.count > 4 ? partial(p + 4, m.count - 4) : 0;
    return _mm256_cvtepi16_epi32(
        _mm_set_epi64x(static_cast<int64_t>(high), static_cast<int64_t>(low)));
  }
  CVM_INLINE static Reg load(const uint8_t* p, const Mask& m) {
    return widen_bytes(load_bytes(p, m));
  }
  CVM_INLINE static void store(int32_t* p, Reg v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
  CVM_INLINE static void store(int16_t* p, Reg v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(v));
  }
  CVM_INLINE static void store(uint8_t* p, Reg v) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes(v));
  }
  CVM_INLINE static void store(int32_t* p, Reg v, const Mask& m) {
    _mm256_maskstore_epi32(p, m.lanes, v);
  }
  CVM_INLINE static void store(int16_t* p, Reg v, const Mask& m) {
    if (m.count == kLanes) return store(p, v);
    const __m128i x = narrow(v);
    store_partial(p, static_cast<uint64_t>(_mm_cvtsi128_si64(x)), m.count < 4 ? m.count : 4);
    if (m.count > 4)
      store_partial(p + 4, static_cast<uint64_t>(_mm_extract_epi64(x, 1)), m.count - 4);
  }
  CVM_INLINE static void store(uint8_t* p, Reg v, const Mask& m) {
    if (m.count == kLanes) return store(p, v);
    store_partial(p, static_cast<uint64_t>(_mm_cvtsi128_si64(bytes(v))), m.count);
  }

  CVM_INLINE static void store_two(uint8_t* p, const Reg (&v)[2], uint8_t* q, const Reg (&u)[2]) {
    const __m256i mixed =
        _mm256_packus_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(u[0], u[1]));
    const __m256i bytes =
        _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(bytes));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm256_extracti128_si256(bytes, 1));
  }

  CVM_INLINE static Reg set(int32_t x) { return _mm256_set1_epi32(x); }
  CVM_INLINE static Reg add(Reg a, Reg b) { return _mm256_add_epi32(a, b); }
  CVM_INLINE static Reg sub(Reg a, Reg b) { return _mm256_sub_epi32(a, b); }
  CVM_INLINE static Reg mul(Reg a, Reg b) { return _mm256_mullo_epi32(a, b); }
  CVM_INLINE static Reg max(Reg a, Reg b) { return _mm256_max_epi32(a, b); }
  CVM_INLINE static Reg min(Reg a, Reg b) { return _mm256_min_epi32(a, b); }
  CVM_INLINE static Reg abs(Reg a) { return _mm256_abs_epi32(a); }
  CVM_INLINE static __m128i shift(int32_t bits) { return _mm_cvtsi32_si128(bits); }
  CVM_INLINE static Reg shift_right(Reg a, __m128i bits) { return _mm256_sra_epi32(a, bits); }
  CVM_INLINE static Reg shift_left(Reg a, __m128i bits) { return _mm256_sll_epi32(a, bits); }
  CVM_INLINE static Reg gather(const int32_t* table, Reg index) {
    return _mm256_i32gather_epi32(table, index, 4);
  }

  CVM_INLINE static Bytes load_bytes(const uint8_t* p) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  }
  CVM_INLINE static Bytes load_bytes(const uint8_t* p, const Mask& m) {
    if (m.count == kLanes) return load_bytes(p);
    return _mm_cvtsi64_si128(static_cast<int64_t>(partial(p, m.count)));
  }
  CVM_INLINE static Bytes max_bytes(Bytes a, Bytes b) { return _mm_max_epu8(a, b); }
  CVM_INLINE static Reg widen_bytes(Bytes b) { return _mm256_cvtepu8_epi32(b); }

  CVM_INLINE static Weights load_weights(const int8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  CVM_INLINE static Dwords broadcast(const uint8_t* p) {
    int x;
    std::memcpy(&x, p, sizeof x);
    return _mm256_set1_epi32(x);
  }

 private:
  // Saturation changes only what becomes 255 anyway: shorts are proven to fit.
  CVM_INLINE static __m128i narrow(Reg v) {
    return _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  }
  CVM_INLINE static __m128i bytes(Reg v) {
    const __m128i x = narrow(v);
    return _mm_packus_epi16(x, x);
  }

  // The first elements of 8 bytes at p, and nothing after them, in at most 3 accesses.
  template <class Half, class T>
  CVM_INLINE static uint64_t read(const T* p) {
    Half x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  template <class T>
  CVM_INLINE static uint64_t partial(const T* p, int n) {
    const int bytes = n * static_cast<int>(sizeof(T));
    if (bytes >= 4) {
      const auto* end = reinterpret_cast<const char*>(p) + bytes;
      return read<uint32_t>(p) | read<uint32_t>(end - 4) << 8 * (bytes - 4);
    }
    using Bits = std::conditional_t<sizeof(T) == 1, uint8_t, uint16_t>;
    constexpr int kBits = 8 * sizeof(T);
    return read<Bits>(p) | read<Bits>(p + n / 2) << kBits * (n / 2) |
           read<Bits>(p + n - 1) << kBits * (n - 1);
  }
  template <class T>
  CVM_INLINE static void store_partial(T* p, uint64_t x, int n) {
    const int bytes = n * static_cast<int>(sizeof(T));
    if (bytes >= 4) {
      const auto low = static_cast<uint32_t>(x);
      const auto high = static_cast<uint32_t>(x >> 8 * (bytes - 4));
      std::memcpy(p, &low, sizeof low);
      std::memcpy(reinterpret_cast<char*>(p) + bytes - 4, &high, sizeof high);
      return;
    }
    constexpr int kBits = 8 * sizeof(T);
    p[0] = static_cast<T>(x);
    p[n / 2] = static_cast<T>(x >> kBits * (n / 2));
    p[n - 1] = static_cast<T>(x >> kBits * (n - 1));
  }
};

}  // namespace
}  // namespace cvm
