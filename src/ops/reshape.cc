// Operators that keep the row-major order: flatten, expand_dims, reshape and squeeze.
#include <algorithm>
#include <array>
#include <cstring>

#include "ops/arith.h"
#include "ops/lowering.h"
#include "ops/tuple_attrs.h"

namespace cvm {
namespace {

void copy_kernel(const NodeInfo& n, const Buffers& b) {
  if (b.in[0] != b.out[0]) std::memcpy(b.out[0], b.in[0], size_of(n.out[0]) * sizeof(int32_t));
}

// The value itself, where the order of the channels stays as it is.
int lower_same_order(Lowering& l) {
  const Shape &from = l.node().in[0], &to = l.node().out[0];
  if ((from.size() != 4 && from.size() != 2) || (to.size() != 4 && to.size() != 2)) return kNone;
  const int x = l.value(0);
  if (x == kNone) return kNone;
  const Dims d = l[x].dims;
  if (to[0] != d.n) return kNone;
  if (to.size() == 2) return x;  // (n, c, h, w) -> (n, c * h * w)
  return to[1] == d.c && to[2] == d.h && to[3] == d.w ? x : kNone;
}

// ---- flatten ---------------------------------------------------------------

std::vector<Shape> flatten_shape(const NodeInfo& n) {
  const Shape& x = n.in[0];
  return {{x[0], size_of(x, 1, x.size())}};
}

Operator flatten() {
  Operator op("flatten", takes<1>, flatten_shape, first_precision, copy_kernel, lower_same_order,
              kOneThread);
  op.in_place = true;
  return op;
}

// ---- expand_dims -----------------------------------------------------------

struct ExpandDimsAttrs : Attrs {
  int32_t axis = 0, num_newaxis = 1;
};

std::unique_ptr<Attrs> parse_expand_dims(const AttrText& text) {
  auto a = std::make_unique<ExpandDimsAttrs>();
  AttrReader in(text);
  in.required("axis", &a->axis);
  in.optional("num_newaxis", &a->num_newaxis);
  in.finish();
  if (a->num_newaxis < 1)
    runtime_error("attribute 'num_newaxis' is ", a->num_newaxis, ", expected at least 1");
  return a;
}

std::vector<Shape> expand_dims_shape(const NodeInfo& n) {
  const auto& a = n.as<ExpandDimsAttrs>();
  Shape out = n.in[0];
  expect_range(a.num_newaxis, 1, 4096, "num_newaxis");
  const int64_t at = normal_axis(a.axis, static_cast<int64_t>(out.size()) + 1, "axis");
  out.insert(out.begin() + at, a.num_newaxis, 1);
  return {out};
}

Operator expand_dims() {
  Operator op("expand_dims", takes<1>, expand_dims_shape, first_precision, copy_kernel, kByKernel,
              kOneThread);
  op.in_place = true;
  op.parse = parse_expand_dims;
  return op;
}

// ---- reshape ---------------------------------------------------------------

// The output of a reshape under construction.
struct Reshaper {
  const Shape& in;
  const Tuple& items;
  Shape out;
  size_t source = 0;      // next input axis
  int64_t open_slot = -1;  // index of the -1 in the attribute

  int64_t take() {
    if (source >= in.size())
      logic_error("attribute 'shape' ", to_string(items), " asks for more axes than ",
                  to_string(in), " has");
    return in[source++];
  }

  // -4, a, b: one axis in two; returns the number of items consumed.
  size_t split(size_t i) {
    if (i + 2 >= items.size()) logic_error("-4 in attribute 'shape' needs two items after it");
    int64_t a = items[i + 1], b = items[i + 2];
    const int64_t extent = take();
    if (a == -1 && b == -1) logic_error("-4 in attribute 'shape' is followed by two -1");
    if ((a == -1 && b == 0) || (b == -1 && a == 0))
      logic_error("-4 in attribute 'shape' divides by zero");
    // Truncating division; the clamped divisor gives 0 as any larger one does,
    // and keeps the product below from overflowing.
    const int64_t far = 2 * kMaxDim;
    a = std::clamp(a, -far, far);
    b = std::clamp(b, -far, far);
    if (a == -1) a = extent / b;
    if (b == -1) b = extent / a;
    if (a * b != extent)
      logic_error("-4 in attribute 'shape' splits ", extent, " into ", a, " and ", b);
    out.push_back(a);
    out.push_back(b);
    return 3;
  }

  size_t step(size_t i) {
    const int64_t item = items[i];
    if (item > 0) {
      out.push_back(item);
      ++source;
    } else if (item == 0) {
      out.push_back(take());
    } else if (item == -1) {
      if (open_slot >= 0) logic_error("attribute 'shape' ", to_string(items), " has two -1");
      open_slot = static_cast<int64_t>(i);
      out.push_back(1);
      ++source;
    } else if (item == -2) {
      while (source < in.size()) out.push_back(in[source++]);
    } else if (item == -3) {
      const int64_t first = take();
      out.push_back(first * take());
    } else if (item == -4) {
      return split(i);
    }  // anything below -4 emits nothing
    return 1;
  }

  // Product of the emitted extents, or 0 once it exceeds the size limit.
  int64_t emitted_size() const {
    int64_t size = 1;
    for (int64_t d : out) {
      if (__builtin_mul_overflow(size, d, &size) || size > kMaxElements || size < 1) return 0;
    }
    return size;
  }
};

std::vector<Shape> reshape_shape(const NodeInfo& n) {
  const Tuple& items = n.as<TupleAttrs>().items;
  if (items.empty()) logic_error("attribute 'shape' is empty");
  Reshaper r{n.in[0], items, {}};
  for (size_t i = 0; i < items.size();) i += r.step(i);
  const int64_t size = size_of(n.in[0]);
  if (r.open_slot >= 0) {
    // The slot is remembered by its index in the attribute, not in the result:
    // normative, although wrong after items that emit more or fewer axes.
    if (r.open_slot >= static_cast<int64_t>(r.out.size()))
      logic_error("the -1 of attribute 'shape' ", to_string(items), " has no place in the result");
    const int64_t rest = r.emitted_size();
    r.out[r.open_slot] = rest ? size / rest : 0;
  }
  if (r.emitted_size() != size)
    logic_error("attribute 'shape' ", to_string(items), " turns ", to_string(n.in[0]), " into ",
                to_string(r.out), " of another size");
  return {r.out};
}

Operator reshape() {
  Operator op("reshape", takes<1>, reshape_shape, first_precision, copy_kernel, lower_same_order,
              kOneThread);
  op.in_place = true;
  op.parse = [](const AttrText& text) { return parse_tuple(text, "shape", true); };
  return op;
}

// ---- squeeze ---------------------------------------------------------------

std::vector<Shape> squeeze_shape(const NodeInfo& n) {
  const Shape& x = n.in[0];
  const Tuple& axes = n.as<TupleAttrs>().items;
  std::array<bool, kMaxRank> drop{};
  for (size_t i = 0; i < x.size(); ++i) drop[i] = axes.empty() && x[i] == 1;
  for (int64_t item : axes) {
    const int64_t axis = normal_axis(item, static_cast<int64_t>(x.size()), "an item of axis");
    if (x[axis] != 1) logic_error("axis ", axis, " has extent ", x[axis], ", expected 1");
    drop[axis] = true;
  }
  Shape out;
  for (size_t i = 0; i < x.size(); ++i)
    if (!drop[i]) out.push_back(x[i]);
  if (out.empty()) out.push_back(1);
  return {out};
}

Operator squeeze() {
  Operator op("squeeze", takes<1>, squeeze_shape, first_precision, copy_kernel, lower_same_order,
              kOneThread);
  op.in_place = true;
  op.parse = [](const AttrText& text) { return parse_tuple(text, "axis", false); };
  return op;
}

}  // namespace

std::vector<Operator> reshape_operators() {
  return {flatten(), expand_dims(), reshape(), squeeze()};
}

}  // namespace cvm
