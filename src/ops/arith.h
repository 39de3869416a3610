// Integer arithmetic shared by the rules and the kernels.
//
// The wrap_ functions are two's complement modulo 2^32. In a sound model they
// never wrap (the precision rules prove it); where a rule is unsound, wrapping
// is what every executor must do alike.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "error.h"
#include "shape.h"

namespace cvm {

inline int32_t wrap_add(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}
inline int32_t wrap_sub(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b));
}
inline int32_t wrap_mul(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
}
inline int32_t wrap_shl(int32_t a, int32_t bits) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) << bits);
}
inline int32_t wrap_neg(int32_t a) { return wrap_sub(0, a); }

// Largest value of Int(precision); the smallest is its negative.
inline int32_t int_max(int precision) {
  return static_cast<int32_t>((int64_t{1} << (precision - 1)) - 1);
}
inline int32_t clamp_to(int32_t x, int32_t bound) {
  return x < -bound ? -bound : (x > bound ? bound : x);
}
inline int64_t clamp_index(int32_t i, int64_t size) {
  return i < 0 ? 0 : (i >= size ? size - 1 : i);
}

// Round-half-up division by 2^shift, 1 <= shift <= 32. At shift 1 and
// x = 2^31-1 the +1 wraps, which every build of the original agrees on.
inline int32_t round_shift(int32_t x, int32_t shift) {
  return wrap_add(x >> (shift - 1), 1) >> 1;
}

// Truncating division; 0 for a zero divisor.
inline int32_t safe_div(int32_t a, int32_t b) {
  if (b == 0) return 0;
  return b == -1 ? wrap_neg(a) : a / b;
}

// Number of binary digits: bit_length(0) = 0, bit_length(4) = 3.
inline int bit_length(int64_t n) {
  int bits = 0;
  for (; n > 0; n >>= 1) ++bits;
  return bits;
}
// Bits by which a sum of n terms may grow.
inline int sum_bits(int64_t n) { return bit_length(n); }
// Declared bits of the range -v..v. One too many where v+1 is a power of two;
// the loose value is the normative one.
inline int num_bits(int64_t v) { return bit_length(v + 1) + 1; }

// `axis` counted from the front; logic error unless it lies in -rank..rank-1.
inline int64_t normal_axis(int64_t axis, int64_t rank, const char* what) {
  if (axis < -rank || axis >= rank)
    logic_error(what, " is ", axis, ", expected ", -rank, "..", rank - 1);
  return axis < 0 ? axis + rank : axis;
}

inline void expect_range(int64_t value, int64_t low, int64_t high, const char* what) {
  if (value < low || value > high)
    logic_error("attribute '", what, "' is ", value, ", expected ", low, "..", high);
}

inline void expect_rank(const Shape& shape, size_t rank, const char* what) {
  if (shape.size() != rank)
    logic_error(what, " has shape ", to_string(shape), ", expected rank ", rank);
}

}  // namespace cvm
