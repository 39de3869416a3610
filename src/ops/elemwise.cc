// Element-by-element operators on inputs of one shape. All of them read
// element i before they write element i, so input and output may coincide.
#include <algorithm>
#include <limits>

#include "ops/arith.h"
#include "ops/attr_reader.h"
#include "ops/broadcast.h"
#include "ops/loop.h"
#include "ops/lowering.h"

namespace cvm {
namespace {

struct ClipAttrs : Attrs {
  int32_t a_min = 0, a_max = 0;
};

// cvm_clip and the shifts; shift_bit stays 1 where there is none.
struct BitsAttrs : Attrs {
  int32_t precision = 0, shift_bit = 1;
};

// ---- of one input: F, made of the node's attributes, gives what an element becomes

template <class F>
void unary_kernel(const NodeInfo& n, const Buffers& b) {
  const F f(n);
  const int64_t size = size_of(n.out[0]);
  for (int64_t i = 0; i < size; ++i) b.out[0][i] = f(b.in[0][i]);
}

template <class F>
std::unique_ptr<Loop> unary_loop(const NodeInfo& n) {
  return make_loop(size_of(n.out[0]), kGrain,
                   [f = F(n)](const Buffers& b, int64_t begin, int64_t end) {
                     const F local = f;  // nothing that out[] could be
                     const int32_t* in = b.in[0];
                     int32_t* out = b.out[0];
                     for (int64_t i = begin; i < end; ++i) out[i] = local(in[i]);
                   });
}

template <class F>
Operator unary(const char* name, Operator::ShapeRule shape, Operator::PrecisionRule precision,
               Operator::Lower lower) {
  Operator op(name, takes<1>, shape, precision, unary_kernel<F>, lower, unary_loop<F>);
  op.in_place = true;
  return op;
}

// A primitive of the input and 0.
template <Primitive primitive>
int lower_unary(Lowering& l) {
  const int x = l.value(0);
  return x == kNone ? kNone : l.ir().map(primitive, x, {0});
}

struct Relu {
  explicit Relu(const NodeInfo&) {}
  int32_t operator()(int32_t x) const { return std::max(x, 0); }
};

struct Abs {
  explicit Abs(const NodeInfo&) {}
  int32_t operator()(int32_t x) const { return x < 0 ? wrap_neg(x) : x; }
};

struct Negative {
  explicit Negative(const NodeInfo&) {}
  int32_t operator()(int32_t x) const { return wrap_neg(x); }
};

Operator relu() {
  Operator op = unary<Relu>("relu", first_shape, first_precision, lower_unary<Primitive::kMax>);
  op.aliases = {"nn.relu"};
  return op;
}

Operator abs() {
  return unary<Abs>("abs", first_shape, first_precision, lower_unary<Primitive::kAbs>);
}

Operator negative() {
  Operator op =
      unary<Negative>("negative", first_shape, first_precision, lower_unary<Primitive::kNegate>);
  op.in_place = false;  // meant to be, but misspelled in the original's list
  return op;
}

// ---- cvm_precision

struct Precision {
  explicit Precision(const NodeInfo&) {}
  int32_t operator()(int32_t x) const {
    const int64_t wide = x;
    return x == 0 ? 1 : bit_length(wide < 0 ? -wide : wide);
  }
};

Operator cvm_precision() {
  Operator op("cvm_precision", takes<1>, first_shape,
              [](const NodeInfo&) { return std::vector<int>{6}; }, unary_kernel<Precision>,
              kByKernel, kOneThread);
  op.in_place = true;
  return op;
}

// ---- clip

constexpr int32_t kBound = std::numeric_limits<int32_t>::max();

struct Clip {
  int32_t low, high;
  explicit Clip(const NodeInfo& n) : low(n.as<ClipAttrs>().a_min), high(n.as<ClipAttrs>().a_max) {}
  int32_t operator()(int32_t x) const { return std::min(std::max(x, low), high); }
};

std::unique_ptr<Attrs> parse_clip(const AttrText& text) {
  auto a = std::make_unique<ClipAttrs>();
  AttrReader in(text);
  in.required("a_min", &a->a_min);
  in.required("a_max", &a->a_max);
  in.finish();
  return a;
}

std::vector<Shape> clip_shape(const NodeInfo& n) {
  const auto& a = n.as<ClipAttrs>();
  expect_range(a.a_min, -kBound, kBound, "a_min");
  expect_range(a.a_max, -kBound, kBound, "a_max");
  if (a.a_min >= a.a_max)
    logic_error("a_min is ", a.a_min, " and a_max is ", a.a_max, ", expected a_min < a_max");
  return first_shape(n);
}

std::vector<int> clip_precision(const NodeInfo& n) {
  const auto& a = n.as<ClipAttrs>();
  return {num_bits(std::max<int64_t>(std::abs(a.a_min), std::abs(a.a_max)))};
}

int lower_clip(Lowering& l) {
  const auto& a = l.node().as<ClipAttrs>();
  const int x = l.value(0);
  return x == kNone ? kNone : l.ir().clamp(x, a.a_min, a.a_max);
}

Operator clip() {
  Operator op = unary<Clip>("clip", clip_shape, clip_precision, lower_clip);
  op.parse = parse_clip;
  op.sound = always_sound;
  return op;
}

// ---- cvm_clip, cvm_right_shift, cvm_left_shift

struct Bits {
  int32_t bound, shift;
  explicit Bits(const NodeInfo& n)
      : bound(int_max(n.as<BitsAttrs>().precision)), shift(n.as<BitsAttrs>().shift_bit) {}
};

struct CvmClip : Bits {
  using Bits::Bits;
  int32_t operator()(int32_t x) const { return clamp_to(x, bound); }
};

struct RightShift : Bits {
  using Bits::Bits;
  int32_t operator()(int32_t x) const { return clamp_to(round_shift(x, shift), bound); }
};

struct LeftShift : Bits {
  using Bits::Bits;
  int32_t operator()(int32_t x) const { return clamp_to(wrap_shl(x, shift), bound); }
};

template <bool with_shift>
std::unique_ptr<Attrs> parse_bits(const AttrText& text) {
  auto a = std::make_unique<BitsAttrs>();
  AttrReader in(text);
  bool is_sign = true;  // parsed, without effect anywhere
  in.required("precision", &a->precision);
  in.optional("is_sign", &is_sign);
  if (with_shift) in.required("shift_bit", &a->shift_bit);
  in.finish();
  return a;
}

std::vector<Shape> bits_shape(const NodeInfo& n) {
  const auto& a = n.as<BitsAttrs>();
  expect_range(a.precision, 1, 32, "precision");
  expect_range(a.shift_bit, 1, 32, "shift_bit");
  return first_shape(n);
}

std::vector<int> bits_precision(const NodeInfo& n) { return {n.as<BitsAttrs>().precision}; }

std::vector<int> left_shift_precision(const NodeInfo& n) {
  const auto& a = n.as<BitsAttrs>();
  // The class of this one is odd (the model is at fault), and normative.
  if (n.in_precision[0] + a.shift_bit > kMaxPrecision)
    runtime_error("input precision ", n.in_precision[0], " plus shift_bit ", a.shift_bit,
                  " is above ", kMaxPrecision);
  return bits_precision(n);
}

int clamp(Lowering& l, int x) {
  const int64_t bound = int_max(l.node().as<BitsAttrs>().precision);
  return x == kNone ? kNone : l.ir().clamp(x, -bound, bound);
}

int lower_cvm_clip(Lowering& l) { return clamp(l, l.value(0)); }

int lower_right_shift(Lowering& l) {
  const int x = l.value(0);
  return x == kNone ? kNone : clamp(l, l.ir().round_shift(x, l.node().as<BitsAttrs>().shift_bit));
}

int lower_left_shift(Lowering& l) {
  const int32_t bits = l.node().as<BitsAttrs>().shift_bit;
  const int x = l.value(0);
  return x == kNone ? kNone : clamp(l, l.ir().map(Primitive::kLeftShift, x, {bits}));
}

Operator cvm_clip() {
  Operator op = unary<CvmClip>("cvm_clip", bits_shape, bits_precision, lower_cvm_clip);
  op.parse = parse_bits<false>;
  op.sound = always_sound;
  return op;
}

Operator cvm_right_shift() {
  Operator op = unary<RightShift>("cvm_right_shift", bits_shape, bits_precision, lower_right_shift);
  op.parse = parse_bits<true>;
  op.sound = always_sound;
  return op;
}

Operator cvm_left_shift() {
  Operator op =
      unary<LeftShift>("cvm_left_shift", bits_shape, left_shift_precision, lower_left_shift);
  op.parse = parse_bits<true>;
  op.sound = always_sound;
  return op;
}

// ---- of two inputs

using Binary = int32_t (*)(int32_t, int32_t);

template <Binary F>
void binary_kernel(const NodeInfo& n, const Buffers& b) {
  const int64_t size = size_of(n.out[0]);
  for (int64_t i = 0; i < size; ++i) b.out[0][i] = F(b.in[0][i], b.in[1][i]);
}

template <Binary F>
std::unique_ptr<Loop> binary_loop(const NodeInfo& n) {
  return make_loop(size_of(n.out[0]), kGrain, [](const Buffers& b, int64_t begin, int64_t end) {
    const int32_t *x = b.in[0], *y = b.in[1];
    int32_t* out = b.out[0];
    for (int64_t i = begin; i < end; ++i) out[i] = F(x[i], y[i]);
  });
}

std::vector<Shape> binary_shape(const NodeInfo& n) {
  if (n.in[0] != n.in[1])
    logic_error("the inputs have shapes ", to_string(n.in[0]), " and ", to_string(n.in[1]),
                ", expected equal shapes");
  return first_shape(n);
}

template <Binary F, Primitive primitive>
Operator binary(const char* name) {
  Operator op(name, takes<2>, binary_shape, one_bit_more, binary_kernel<F>, lower_join<primitive>,
              binary_loop<F>);
  op.in_place = true;
  return op;
}

}  // namespace

std::vector<Operator> elemwise_operators() {
  return {relu(),
          abs(),
          negative(),
          cvm_precision(),
          clip(),
          cvm_clip(),
          cvm_right_shift(),
          cvm_left_shift(),
          binary<wrap_add, Primitive::kAdd>("elemwise_add"),
          binary<wrap_sub, Primitive::kSub>("elemwise_sub")};
}

}  // namespace cvm
