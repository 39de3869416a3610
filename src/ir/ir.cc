#include "ir/ir.h"

#include <algorithm>
#include <utility>

namespace cvm {
namespace {

constexpr int kMaxDepth = 8;  // operations that an added constant moves through

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

int Ir::make_map(Primitive primitive, int x, Constant c, Range range) {
  Value value;
  value.kind = Kind::kMap;
  value.primitive = primitive;
  value.dims = (*this)[x].dims;
  value.range = range;
  value.inputs = {x};
  value.constant = c;
  return make(std::move(value));
}

int Ir::map(Primitive primitive, int x, Constant c) {
  const PrimitiveFacts& f = facts(primitive);
  const Value& v = (*this)[x];
  const Range range = v.range, u = spread(c, v.dims.c);
  if (primitive == Primitive::kReverseSub) return add(map(Primitive::kNegate, x), c);
  if (primitive == Primitive::kSub)
    return add(x, combine(c, {-1}, v.dims.c, facts(Primitive::kMul).apply));
  if (f.changes_nothing(range, u)) return x;
  const bool again = v.kind == Kind::kMap && v.primitive == primitive;
  if (f.repeats && again && !v.constant.channels && !c.channels)
    return map(primitive, v.inputs[0], {static_cast<int32_t>(f.apply(v.constant.value, c.value))});
  if (primitive == Primitive::kAdd)
    if (const int sum = add_within(x, c, u); sum != kNone) return sum;
  return make_map(primitive, x, c, results(primitive, range, u));
}

// Whether a constant added to x melts into one that is added there already.
bool Ir::takes_add(int x, int depth) const {
  const Value& v = (*this)[x];
  if (v.kind != Kind::kMap || depth == kMaxDepth) return false;
  if (v.primitive == Primitive::kFloorShift) {
    const Value& shifted = (*this)[v.inputs[0]];
    return shifted.kind == Kind::kMap && shifted.primitive == Primitive::kAdd;
  }
  if (facts(v.primitive).translates) return takes_add(v.inputs[0], depth + 1);
  return v.primitive == Primitive::kAdd;
}

// x + c, all of which lies in r, with c added further up; kNone where that does not melt it.
int Ir::add_within(int x, Constant c, Range r) {
  const Value v = (*this)[x];
  if (!takes_add(x) || !has_room(v.dims.c + kChannelPadding)) return kNone;
  const auto sum = facts(Primitive::kAdd).apply;
  const Range own = spread(v), in = (*this)[v.inputs[0]].range;
  const auto fits = [](Range a, Range b) { return results(Primitive::kAdd, a, b).fits_int32(); };
  if (v.primitive == Primitive::kAdd)
    return fits(own, r) ? add(v.inputs[0], combine(v.constant, c, v.dims.c, sum)) : kNone;
  if (facts(v.primitive).translates) {
    if (!fits(own, r) || !fits(in, r)) return kNone;
    const Constant limit = combine(v.constant, c, v.dims.c, sum);
    return map(v.primitive, add(v.inputs[0], c), limit);
  }
  // (y >> s) + c = (y + (c << s)) >> s
  const auto shift = facts(Primitive::kLeftShift).apply;
  const int32_t bits = v.constant.value;
  const Range moved = {shift(r.low, bits), shift(r.high, bits)};
  if (!moved.fits_int32() || !fits(in, moved)) return kNone;
  const Constant shifted = combine(c, {bits}, v.dims.c, shift);
  return map(Primitive::kFloorShift, add(v.inputs[0], shifted), {bits});
}

int Ir::join(Primitive primitive, int x, int y) {
  Value value;
  value.kind = Kind::kJoin;
  value.primitive = primitive;
  value.dims = (*this)[x].dims;
  value.range = results(primitive, (*this)[x].range, (*this)[y].range);
  value.inputs = {x, y};
  return make(std::move(value));
}

int Ir::clamp(int x, int64_t low, int64_t high) {
  const int above = map(Primitive::kMax, x, {static_cast<int32_t>(low)});
  return map(Primitive::kMin, above, {static_cast<int32_t>(high)});
}

int Ir::look_up(int x, const int32_t* table, int32_t last, Range range) {
  const int v = make_map(Primitive::kLookUp, x, {last}, range);
  at(v).table = table;
  return v;
}

int Ir::round_shift(int x, int32_t bits) {
  const auto shift = [&](int y, int32_t b) { return map(Primitive::kFloorShift, y, {b}); };
  const int64_t half = int64_t{1} << (bits - 1), high = (*this)[x].range.high;
  if (bits <= 30 && high + half <= INT32_MAX)
    return shift(add(x, {static_cast<int32_t>(half)}), bits);
  if ((high >> (bits - 1)) + 1 > INT32_MAX) return kNone;
  return shift(add(shift(x, bits - 1), {1}), 1);
}

int Ir::reapply(const Value& op, std::vector<int> inputs) {
  if (op.kind == Kind::kJoin) return join(op.primitive, inputs[0], inputs[1]);
  if (op.primitive == Primitive::kLoad) return inputs[0];  // a copy
  if (op.primitive == Primitive::kLookUp)
    return look_up(inputs[0], op.table, op.constant.value, op.range);
  return map(op.primitive, inputs[0], op.constant);
}

}  // namespace cvm
