// The operations on single elements that fused steps are made of, and all that is known of them.
//
// The compiler asks the table below; what each primitive does to a register is
// said once more, in cpu/isa/epilogue.h, in a switch that a new one does not
// compile without.
#pragma once

#include <cstdint>

namespace cvm {

// From low to high, both included.
struct Range {
  int64_t low = 0, high = 0;
  bool fits_int32() const { return low >= INT32_MIN && high <= INT32_MAX; }
  bool within(int64_t l, int64_t h) const { return low >= l && high <= h; }
};

// v is the element at hand, u the operand.
enum class Primitive : uint8_t {
  kLoad,   // v = u
  kStore,  // u = v, or the nearest that 16 bits hold; in a byte min(v, 255), v being not negative
  kAdd, kSub, kReverseSub, kMul, kMax, kMin,  // v = v + u, v - u, u - v, ...
  kFloorShift, kLeftShift,  // v = v >> u, v << u
  kNegate, kAbs,
  kLookUp,  // v = table[min(max(v, 0), u)]
};
constexpr Primitive kLastPrimitive = Primitive::kLookUp;

// Where the operand is.
enum class Operand : uint8_t {
  kConstant,  // one integer for all channels, or one for each; only joins have one for each
  kTensor,    // the same element of a tensor
  kSlot,      // the same element of what an earlier operation of the epilogue has left in a slot
};

// Whether results never decrease as v does not: never sure, always, or if u is a constant factor
// that is not negative.
enum class Order : uint8_t { kAny, kKept, kKeptByFactor };

struct PrimitiveFacts {
  Primitive primitive;
  const char* name;
  bool joins;         // two elements that are both computed, or read
  Primitive swapped;  // gives the same with v and u exchanged; of what commutes, itself
  Order order;        // of what joins kKept means: in both
  bool repeats;       // (v op a) op b = v op (a op b), which needs no more bits than a and b
  bool translates;    // (v op a) + b = (v + b) op (a + b)
  // The result in exact integers, monotone in u, and in v on either side of 0.
  // Null where it depends on more than v and u.
  int64_t (*apply)(int64_t v, int64_t u);
  bool (*changes_nothing)(Range v, Range u);
};

namespace primitive_table {

constexpr int64_t load(int64_t, int64_t u) { return u; }
constexpr int64_t add(int64_t v, int64_t u) { return v + u; }
constexpr int64_t sub(int64_t v, int64_t u) { return v - u; }
constexpr int64_t reverse_sub(int64_t v, int64_t u) { return u - v; }
constexpr int64_t mul(int64_t v, int64_t u) { return v * u; }
constexpr int64_t max(int64_t v, int64_t u) { return v > u ? v : u; }
constexpr int64_t min(int64_t v, int64_t u) { return v < u ? v : u; }
constexpr int64_t right(int64_t v, int64_t u) { return v >> u; }
constexpr int64_t left(int64_t v, int64_t u) { return v * (int64_t{1} << u); }
constexpr int64_t negate(int64_t v, int64_t) { return -v; }
constexpr int64_t abs(int64_t v, int64_t) { return v < 0 ? -v : v; }

constexpr bool never(Range, Range) { return false; }
constexpr bool by_0(Range, Range u) { return u.low == 0 && u.high == 0; }
constexpr bool by_1(Range, Range u) { return u.low == 1 && u.high == 1; }
constexpr bool above(Range v, Range u) { return v.low >= u.high; }
constexpr bool below(Range v, Range u) { return v.high <= u.low; }
constexpr bool positive(Range v, Range) { return v.low >= 0; }

using P = Primitive;
using O = Order;

// In the order of the enumeration.
constexpr PrimitiveFacts kTable[] = {
    // primitive, name, joins, swapped, order, repeats, translates, apply, changes nothing
    {P::kLoad, "load", false, P::kLoad, O::kAny, false, false, load, never},
    {P::kStore, "store", false, P::kStore, O::kAny, false, false, nullptr, never},
    {P::kAdd, "add", true, P::kAdd, O::kKept, false, false, add, by_0},
    {P::kSub, "sub", true, P::kReverseSub, O::kAny, false, false, sub, by_0},
    {P::kReverseSub, "reverse sub", true, P::kSub, O::kAny, false, false, reverse_sub, never},
    {P::kMul, "mul", true, P::kMul, O::kKeptByFactor, false, false, mul, by_1},
    {P::kMax, "max", true, P::kMax, O::kKept, true, true, max, above},
    {P::kMin, "min", true, P::kMin, O::kKept, true, true, min, below},
    {P::kFloorShift, "shift right", false, P::kFloorShift, O::kKept, false, false, right, by_0},
    {P::kLeftShift, "shift left", false, P::kLeftShift, O::kKept, false, false, left, by_0},
    {P::kNegate, "negate", false, P::kNegate, O::kAny, false, false, negate, never},
    {P::kAbs, "abs", false, P::kAbs, O::kAny, false, false, abs, positive},
    {P::kLookUp, "look up", false, P::kLookUp, O::kAny, false, false, nullptr, never},
};

constexpr bool is_in_order() {
  int k = 0;
  for (const PrimitiveFacts& row : kTable)
    if (row.primitive != static_cast<Primitive>(k++)) return false;
  return k == static_cast<int>(kLastPrimitive) + 1;
}
static_assert(is_in_order(), "a primitive has no row of its own, or not in its place");

}  // namespace primitive_table

constexpr const PrimitiveFacts& facts(Primitive p) {
  return primitive_table::kTable[static_cast<int>(p)];
}

// What the results for elements in v and operands in u surely lie in.
constexpr Range results(Primitive p, Range v, Range u) {
  const auto apply = facts(p).apply;
  Range all = {INT64_MAX, INT64_MIN};
  const int64_t ends[] = {v.low, v.high, v.low < 0 && v.high > 0 ? 0 : v.low};
  for (int64_t a : ends)
    for (int64_t b : {u.low, u.high}) {
      const int64_t y = apply(a, b);
      all = {y < all.low ? y : all.low, y > all.high ? y : all.high};
    }
  return all;
}

}  // namespace cvm
