#include "plan/ir.h"

#include <algorithm>
#include <utility>

namespace cvm {
namespace {

constexpr int kDeepest = 8;  // operations that an added constant moves through

}  // namespace

int Ir::make(Value value) {
  value.node = node;
  values_.push_back(std::move(value));
  return size() - 1;
}

const int32_t* Ir::keep(std::vector<int32_t> channels) {
  const auto padding = static_cast<size_t>(kChannelPadding);
  channels.resize((channels.size() + padding - 1) / padding * padding, 0);
  kept_ += static_cast<int64_t>(channels.size());
  constants_.push_back(std::move(channels));
  return constants_.back().data();
}

Range Ir::spread(Constant c, int64_t channels) const {
  if (!c.channels) return {c.value, c.value};
  const auto [low, high] = std::minmax_element(c.channels, c.channels + channels);
  return {*low, *high};
}

// f of two constants; must fit int32.
Constant Ir::combine(Constant a, Constant b, int64_t channels, int64_t (*f)(int64_t, int64_t)) {
  if (!a.channels && !b.channels) return {static_cast<int32_t>(f(a.value, b.value))};
  std::vector<int32_t> result(static_cast<size_t>(channels));
  for (int64_t c = 0; c < channels; ++c)
    result[static_cast<size_t>(c)] = static_cast<int32_t>(
        f(a.channels ? a.channels[c] : a.value, b.channels ? b.channels[c] : b.value));
  return {0, keep(std::move(result))};
}

int Ir::map(OpCode code, int x, Constant c, Range range) {
  Value value;
  value.kind = Kind::kMap;
  value.code = code;
  value.dims = (*this)[x].dims;
  value.range = range;
  value.inputs = {x};
  value.constant = c;
  return make(std::move(value));
}

// Whether a constant added to x melts into one that is added there already.
bool Ir::takes_add(int x, int depth) const {
  const Value& v = (*this)[x];
  if (v.kind != Kind::kMap || depth == kDeepest) return false;
  switch (v.code) {
    case OpCode::kAdd: return true;
    case OpCode::kFloorShift: {
      const Value& below = (*this)[v.inputs[0]];
      return below.kind == Kind::kMap && below.code == OpCode::kAdd;
    }
    case OpCode::kMin:
    case OpCode::kMax: return takes_add(v.inputs[0], depth + 1);
    default: return false;
  }
}

int Ir::add(int x, Constant c) {
  const Value v = (*this)[x];
  const Range r = spread(c, v.dims.c);
  if (r.low == 0 && r.high == 0) return x;
  const auto sum = [](int64_t a, int64_t b) { return a + b; };
  if (takes_add(x) && has_room(v.dims.c + kChannelPadding)) {
    const Range own = spread(v.constant, v.dims.c);
    const Range both = {own.low + r.low, own.high + r.high};
    if (v.code == OpCode::kAdd && both.fits_int32())
      return add(v.inputs[0], combine(v.constant, c, v.dims.c, sum));
    if ((v.code == OpCode::kMin || v.code == OpCode::kMax) && both.fits_int32()) {
      const Range in = (*this)[v.inputs[0]].range;
      if (Range{in.low + r.low, in.high + r.high}.fits_int32()) {
        const Constant limit = combine(v.constant, c, v.dims.c, sum);
        const int moved = add(v.inputs[0], c);
        return v.code == OpCode::kMin ? min(moved, limit) : max(moved, limit);
      }
    }
    if (v.code == OpCode::kFloorShift) {
      // (y >> s) + c = (y + (c << s)) >> s
      const int64_t unit = int64_t{1} << v.constant.value;
      const Range in = (*this)[v.inputs[0]].range;
      const Range moved = {r.low * unit, r.high * unit};
      if (moved.fits_int32() && Range{in.low + moved.low, in.high + moved.high}.fits_int32()) {
        const Constant shifted = combine(c, {v.constant.value}, v.dims.c,
                                         [](int64_t a, int64_t s) { return a * (int64_t{1} << s); });
        return floor_shift(add(v.inputs[0], shifted), v.constant.value);
      }
    }
  }
  return map(OpCode::kAdd, x, c, {v.range.low + r.low, v.range.high + r.high});
}

int Ir::mul(int x, Constant c) {
  const Value& v = (*this)[x];
  const Range r = spread(c, v.dims.c);
  if (r.low == 1 && r.high == 1) return x;
  const int64_t ends[] = {v.range.low * r.low, v.range.low * r.high, v.range.high * r.low,
                          v.range.high * r.high};
  return map(OpCode::kMul, x, c, {*std::min_element(ends, ends + 4), *std::max_element(ends, ends + 4)});
}

// Whether x is `code` with one constant for all channels, like c.
bool Ir::repeats(OpCode code, int x, Constant c) const {
  const Value& v = (*this)[x];
  return v.kind == Kind::kMap && v.code == code && !v.constant.channels && !c.channels;
}

int Ir::max(int x, Constant c) {
  const Value& v = (*this)[x];
  const Range r = spread(c, v.dims.c);
  if (v.range.low >= r.high) return x;
  if (repeats(OpCode::kMax, x, c)) return max(v.inputs[0], {std::max(c.value, v.constant.value)});
  return map(OpCode::kMax, x, c, {std::max(v.range.low, r.low), std::max(v.range.high, r.high)});
}

int Ir::min(int x, Constant c) {
  const Value& v = (*this)[x];
  const Range r = spread(c, v.dims.c);
  if (v.range.high <= r.low) return x;
  if (repeats(OpCode::kMin, x, c)) return min(v.inputs[0], {std::min(c.value, v.constant.value)});
  return map(OpCode::kMin, x, c, {std::min(v.range.low, r.low), std::min(v.range.high, r.high)});
}

int Ir::clamp(int x, int64_t low, int64_t high) {
  return min(max(x, {static_cast<int32_t>(low)}), {static_cast<int32_t>(high)});
}

int Ir::floor_shift(int x, int32_t bits) {
  if (bits == 0) return x;
  const Range& r = (*this)[x].range;
  return map(OpCode::kFloorShift, x, {bits}, {r.low >> bits, r.high >> bits});
}

int Ir::left_shift(int x, int32_t bits) {
  const Range& r = (*this)[x].range;
  const int64_t unit = int64_t{1} << bits;
  return map(OpCode::kLeftShift, x, {bits}, {r.low * unit, r.high * unit});
}

int Ir::negate(int x) {
  const Range& r = (*this)[x].range;
  return map(OpCode::kNegate, x, {}, {-r.high, -r.low});
}

int Ir::abs(int x) {
  const Range& r = (*this)[x].range;
  if (r.low >= 0) return x;
  return map(OpCode::kAbs, x, {}, {r.high < 0 ? -r.high : 0, std::max(-r.low, r.high)});
}

int Ir::look_up(int x, const int32_t* table, int32_t last, Range range) {
  const int v = map(OpCode::kLookUp, x, {last}, range);
  at(v).table = table;
  return v;
}

int Ir::round_shift(int x, int32_t bits) {
  const int64_t half = int64_t{1} << (bits - 1), high = (*this)[x].range.high;
  if (bits <= 30 && high + half <= INT32_MAX)
    return floor_shift(add(x, {static_cast<int32_t>(half)}), bits);
  if ((high >> (bits - 1)) + 1 > INT32_MAX) return -1;
  return floor_shift(add(floor_shift(x, bits - 1), {1}), 1);
}

int Ir::join(OpCode code, int x, int y) {
  const Value &a = (*this)[x], &b = (*this)[y];
  Value value;
  value.kind = Kind::kJoin;
  value.code = code;
  value.dims = a.dims;
  value.inputs = {x, y};
  const Range p = a.range, q = b.range;
  switch (code) {
    case OpCode::kAddTensor: value.range = {p.low + q.low, p.high + q.high}; break;
    case OpCode::kSubTensor: value.range = {p.low - q.high, p.high - q.low}; break;
    case OpCode::kMaxTensor: value.range = {std::max(p.low, q.low), std::max(p.high, q.high)}; break;
    default: {
      const int64_t ends[] = {p.low * q.low, p.low * q.high, p.high * q.low, p.high * q.high};
      value.range = {*std::min_element(ends, ends + 4), *std::max_element(ends, ends + 4)};
    }
  }
  return make(std::move(value));
}

int Ir::reapply(const Value& op, std::vector<int> inputs) {
  if (op.kind == Kind::kJoin) return join(op.code, inputs[0], inputs[1]);
  const int x = inputs[0];
  switch (op.code) {
    case OpCode::kAdd: return add(x, op.constant);
    case OpCode::kMul: return mul(x, op.constant);
    case OpCode::kMax: return max(x, op.constant);
    case OpCode::kMin: return min(x, op.constant);
    case OpCode::kFloorShift: return floor_shift(x, op.constant.value);
    case OpCode::kLeftShift: return left_shift(x, op.constant.value);
    case OpCode::kNegate: return negate(x);
    case OpCode::kAbs: return abs(x);
    case OpCode::kLookUp: return look_up(x, op.table, op.constant.value, op.range);
    default: return x;  // a copy
  }
}

}  // namespace cvm
