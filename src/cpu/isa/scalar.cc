// Plain C++ for any machine.
#define CVM_UNROLL  // the compiler knows better
#include "cpu/isa/kernels.h"

namespace cvm {
namespace {

struct Scalar {
  static constexpr int kLanes = 4;
  static constexpr int kWeights = 2;
  static constexpr int kTile = 3;
  static constexpr int kByteOffset = 0;
  static constexpr int kPairLimit = kNoPairLimit;

  template <class T, int n>
  struct Array {
    T x[n];
  };
  using Reg = Array<int32_t, kLanes>;
  using Bytes = Array<uint8_t, kLanes>;
  using Mask = int;
  static Mask first(int n) { return n; }

  // Values after the channels of a piece may be anything: they wrap.
  template <class F>
  CVM_INLINE static Reg each(Reg a, Reg b, F f) {
    Reg c;
    for (int k = 0; k < kLanes; ++k)
      c.x[k] =
          static_cast<int32_t>(f(static_cast<uint32_t>(a.x[k]), static_cast<uint32_t>(b.x[k])));
    return c;
  }
  template <class T>
  CVM_INLINE static Reg load(const T* p, Mask n = kLanes) {
    Reg v;
    for (int k = 0; k < kLanes; ++k) v.x[k] = k < n ? p[k] : 0;
    return v;
  }
  CVM_INLINE static void store(int32_t* p, Reg v, Mask n = kLanes) {
    for (int k = 0; k < n; ++k) p[k] = v.x[k];
  }
  CVM_INLINE static void store(int16_t* p, Reg v, Mask n = kLanes) {
    v = min(max(v, set(INT16_MIN)), set(INT16_MAX));
    for (int k = 0; k < n; ++k) p[k] = static_cast<int16_t>(v.x[k]);
  }
  CVM_INLINE static void store(uint8_t* p, Reg v, Mask n = kLanes) {
    for (int k = 0; k < n; ++k) p[k] = static_cast<uint8_t>(v.x[k] < 255 ? v.x[k] : 255);
  }
  CVM_INLINE static void store_two(uint8_t* p, const Reg (&v)[2], uint8_t* q, const Reg (&u)[2]) {
    store(p, v[0]), store(p + kLanes, v[1]);
    store(q, u[0]), store(q + kLanes, u[1]);
  }
  CVM_INLINE static Reg set(int32_t x) {
    Reg v;
    for (int32_t& y : v.x) y = x;
    return v;
  }
  CVM_INLINE static Reg add(Reg a, Reg b) {
    return each(a, b, [](uint32_t x, uint32_t y) { return x + y; });
  }
  CVM_INLINE static Reg sub(Reg a, Reg b) {
    return each(a, b, [](uint32_t x, uint32_t y) { return x - y; });
  }
  CVM_INLINE static Reg mul(Reg a, Reg b) {
    return each(a, b, [](uint32_t x, uint32_t y) { return x * y; });
  }
  CVM_INLINE static Reg max(Reg a, Reg b) {
    for (int k = 0; k < kLanes; ++k) a.x[k] = a.x[k] > b.x[k] ? a.x[k] : b.x[k];
    return a;
  }
  CVM_INLINE static Reg min(Reg a, Reg b) {
    for (int k = 0; k < kLanes; ++k) a.x[k] = a.x[k] < b.x[k] ? a.x[k] : b.x[k];
    return a;
  }
  CVM_INLINE static Reg abs(Reg a) { return max(a, sub(set(0), a)); }
  CVM_INLINE static int shift(int32_t bits) { return bits; }
  CVM_INLINE static Reg shift_right(Reg a, int bits) {
    for (int32_t& x : a.x) x >>= bits;
    return a;
  }
  CVM_INLINE static Reg shift_left(Reg a, int bits) {
    for (int32_t& x : a.x) x = static_cast<int32_t>(static_cast<uint32_t>(x) << bits);
    return a;
  }
  CVM_INLINE static Reg gather(const int32_t* table, Reg index) {
    for (int32_t& x : index.x) x = table[x];
    return index;
  }

  CVM_INLINE static Bytes load_bytes(const uint8_t* p, Mask n = kLanes) {
    Bytes b = {};
    for (int k = 0; k < n; ++k) b.x[k] = p[k];
    return b;
  }
  CVM_INLINE static Bytes max_bytes(Bytes a, Bytes b) {
    for (int k = 0; k < kLanes; ++k) a.x[k] = a.x[k] > b.x[k] ? a.x[k] : b.x[k];
    return a;
  }
  CVM_INLINE static Reg widen_bytes(Bytes b) { return load(b.x); }

  using Dwords = Array<int16_t, kLanes * kGroup>;
  using Weights = Dwords;
  CVM_INLINE static Weights load_weights(const int8_t* p) {
    Weights d;
    for (int k = 0; k < kLanes * kGroup; ++k) d.x[k] = p[k];
    return d;
  }
  CVM_INLINE static Dwords broadcast(const uint8_t* p) {
    Dwords d;
    for (int k = 0; k < kLanes * kGroup; ++k) d.x[k] = p[k % kGroup];
    return d;
  }
  CVM_INLINE static Reg dot(Reg sum, const Dwords& a, const Weights& b) {
    Reg products;
    for (int k = 0; k < kLanes; ++k) {
      const int16_t *x = a.x + k * kGroup, *y = b.x + k * kGroup;
      products.x[k] = x[0] * y[0] + x[1] * y[1] + x[2] * y[2] + x[3] * y[3];
    }
    return add(sum, products);
  }

  using Columns = Dwords;
  using ColumnWeights = Dwords;
  static constexpr int kColumnBytes = kLanes * kGroup;
  static void pack_column(const int8_t (*w)[kGroup], char* to) { std::memcpy(to, w, kColumnBytes); }
  CVM_INLINE static ColumnWeights load_column_weights(const char* p) {
    return load_weights(reinterpret_cast<const int8_t*>(p));
  }
  CVM_INLINE static Reg column_dot(Reg sum, const Columns& x, const ColumnWeights& w) {
    return dot(sum, x, w);
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Rows) {
    return interleave(r0, r1, r2, r3, kLanes);
  }
  CVM_INLINE static Columns interleave(const uint8_t* r0, const uint8_t* r1, const uint8_t* r2,
                                       const uint8_t* r3, Mask n) {
    Columns d = {};
    const uint8_t* rows[kGroup] = {r0, r1, r2, r3};
    for (int c = 0; c < n; ++c)
      for (int k = 0; k < kGroup; ++k) d.x[c * kGroup + k] = rows[k][c];
    return d;
  }
};

bool available() { return true; }

}  // namespace

const Isa kScalar = table_of<Scalar>("scalar", available);

}  // namespace cvm
