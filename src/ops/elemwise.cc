// Element-by-element operators on inputs of one shape. All of them read
// element i before they write element i, so input and output may coincide.
#include <algorithm>
#include <limits>

#include "ops/arith.h"
#include "ops/attr_reader.h"
#include "ops/elemwise.h"

namespace cvm {
namespace {

constexpr int32_t kBound = std::numeric_limits<int32_t>::max();

std::vector<Shape> same_shape(const NodeInfo& n) { return {n.in[0]}; }
std::vector<int> same_precision(const NodeInfo& n) { return {n.in_precision[0]}; }
bool always_sound(const NodeInfo&) { return true; }

template <class F>
void map(const NodeInfo& n, const Buffers& b, F f) {
  const int64_t size = size_of(n.out[0]);
  for (int64_t i = 0; i < size; ++i) b.out[0][i] = f(b.in[0][i]);
}

Operator unary(const char* name) {
  Operator op;
  op.name = name;
  op.in_place = true;
  op.arity = [](const Attrs*) { return 1; };
  op.shape = same_shape;
  op.precision = same_precision;
  return op;
}

Operator relu() {
  Operator op = unary("relu");
  op.aliases = {"nn.relu"};
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    map(n, b, [](int32_t x) { return std::max(x, 0); });
  };
  return op;
}

Operator abs() {
  Operator op = unary("abs");
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    map(n, b, [](int32_t x) { return x < 0 ? wrap_neg(x) : x; });
  };
  return op;
}

Operator negative() {
  Operator op = unary("negative");
  op.in_place = false;  // meant to be, but misspelled in the original's list
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    map(n, b, [](int32_t x) { return wrap_neg(x); });
  };
  return op;
}

Operator cvm_precision() {
  Operator op = unary("cvm_precision");
  op.precision = [](const NodeInfo&) { return std::vector<int>{6}; };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    map(n, b, [](int32_t x) {
      const int64_t wide = x;
      return x == 0 ? 1 : bit_length(wide < 0 ? -wide : wide);
    });
  };
  return op;
}

Operator binary(const char* name) {
  Operator op = unary(name);
  op.arity = [](const Attrs*) { return 2; };
  op.shape = [](const NodeInfo& n) {
    if (n.in[0] != n.in[1])
      logic_error("the inputs have shapes ", to_string(n.in[0]), " and ", to_string(n.in[1]),
                  ", expected equal shapes");
    return same_shape(n);
  };
  op.precision = [](const NodeInfo& n) {
    return std::vector<int>{std::max(n.in_precision[0], n.in_precision[1]) + 1};
  };
  return op;
}

Operator elemwise_add() {
  Operator op = binary("elemwise_add");
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const int64_t size = size_of(n.out[0]);
    for (int64_t i = 0; i < size; ++i) b.out[0][i] = wrap_add(b.in[0][i], b.in[1][i]);
  };
  return op;
}

Operator elemwise_sub() {
  Operator op = binary("elemwise_sub");
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const int64_t size = size_of(n.out[0]);
    for (int64_t i = 0; i < size; ++i) b.out[0][i] = wrap_sub(b.in[0][i], b.in[1][i]);
  };
  return op;
}

Operator clip() {
  Operator op = unary("clip");
  op.parse = [](const AttrText& text) -> std::unique_ptr<Attrs> {
    auto a = std::make_unique<ClipAttrs>();
    AttrReader in(text);
    in.required("a_min", &a->a_min);
    in.required("a_max", &a->a_max);
    in.finish();
    return a;
  };
  op.shape = [](const NodeInfo& n) {
    const auto& a = n.as<ClipAttrs>();
    expect_range(a.a_min, -kBound, kBound, "a_min");
    expect_range(a.a_max, -kBound, kBound, "a_max");
    if (a.a_min >= a.a_max)
      logic_error("a_min is ", a.a_min, " and a_max is ", a.a_max, ", expected a_min < a_max");
    return same_shape(n);
  };
  op.precision = [](const NodeInfo& n) {
    const auto& a = n.as<ClipAttrs>();
    return std::vector<int>{num_bits(std::max<int64_t>(std::abs(a.a_min), std::abs(a.a_max)))};
  };
  op.sound = always_sound;
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const auto& a = n.as<ClipAttrs>();
    map(n, b, [&](int32_t x) { return std::min(std::max(x, a.a_min), a.a_max); });
  };
  return op;
}

std::unique_ptr<Attrs> parse_bits(const AttrText& text, bool with_shift) {
  auto a = std::make_unique<BitsAttrs>();
  AttrReader in(text);
  bool is_sign = true;  // parsed, without effect anywhere
  in.required("precision", &a->precision);
  in.optional("is_sign", &is_sign);
  if (with_shift) in.required("shift_bit", &a->shift_bit);
  in.finish();
  return a;
}

Operator bits_operator(const char* name, bool with_shift) {
  Operator op = unary(name);
  if (with_shift)
    op.parse = [](const AttrText& text) { return parse_bits(text, true); };
  else
    op.parse = [](const AttrText& text) { return parse_bits(text, false); };
  op.shape = [](const NodeInfo& n) {
    const auto& a = n.as<BitsAttrs>();
    expect_range(a.precision, 1, 32, "precision");
    expect_range(a.shift_bit, 1, 32, "shift_bit");
    return same_shape(n);
  };
  op.precision = [](const NodeInfo& n) { return std::vector<int>{n.as<BitsAttrs>().precision}; };
  op.sound = always_sound;
  return op;
}

Operator cvm_clip() {
  Operator op = bits_operator("cvm_clip", false);
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const int32_t bound = int_max(n.as<BitsAttrs>().precision);
    map(n, b, [=](int32_t x) { return clamp_to(x, bound); });
  };
  return op;
}

Operator cvm_right_shift() {
  Operator op = bits_operator("cvm_right_shift", true);
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const auto& a = n.as<BitsAttrs>();
    const int32_t bound = int_max(a.precision);
    map(n, b, [&](int32_t x) { return clamp_to(round_shift(x, a.shift_bit), bound); });
  };
  return op;
}

Operator cvm_left_shift() {
  Operator op = bits_operator("cvm_left_shift", true);
  op.precision = [](const NodeInfo& n) {
    const auto& a = n.as<BitsAttrs>();
    // The class of this one is odd (the model is at fault), and normative.
    if (n.in_precision[0] + a.shift_bit > kMaxPrecision)
      runtime_error("input precision ", n.in_precision[0], " plus shift_bit ", a.shift_bit,
                    " is above ", kMaxPrecision);
    return std::vector<int>{a.precision};
  };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const auto& a = n.as<BitsAttrs>();
    const int32_t bound = int_max(a.precision);
    map(n, b, [&](int32_t x) { return clamp_to(wrap_shl(x, a.shift_bit), bound); });
  };
  return op;
}

}  // namespace

std::vector<Operator> elemwise_operators() {
  return {relu(), abs(),      negative(),        cvm_precision(),  elemwise_add(), elemwise_sub(),
          clip(), cvm_clip(), cvm_right_shift(), cvm_left_shift()};
}

}  // namespace cvm
