#include "ops/reduce.h"

#include <algorithm>
#include <array>
#include <limits>

#include "ops/arith.h"

namespace cvm {

std::array<bool, kMaxRank> reduced_axes(const ReduceAttrs& attrs, size_t rank) {
  std::array<bool, kMaxRank> reduced{};
  if (attrs.axis.empty()) {
    reduced.fill(true);
    return reduced;
  }
  for (int64_t item : attrs.axis) {
    const int64_t axis = normal_axis(item, static_cast<int64_t>(rank), "an item of axis");
    if (reduced[axis]) logic_error("axis ", to_string(attrs.axis), " lists axis ", axis, " twice");
    reduced[axis] = true;
  }
  if (attrs.exclude)
    for (bool& axis : reduced) axis = !axis;
  return reduced;
}

namespace {

std::unique_ptr<Attrs> parse_reduce(const AttrText& text) {
  auto a = std::make_unique<ReduceAttrs>();
  AttrReader in(text);
  std::string dtype = "int32";  // parsed, without effect
  in.optional("axis", &a->axis);
  in.optional("keepdims", &a->keepdims);
  in.optional("exclude", &a->exclude);
  in.word("dtype", &dtype, {"float16", "float32", "float64", "uint8", "uint16", "uint32", "uint64",
                            "int8", "int16", "int32", "int64"});
  in.finish();
  return a;
}

std::vector<Shape> reduce_shape(const NodeInfo& n) {
  const auto& a = n.as<ReduceAttrs>();
  const Shape& in = n.in[0];
  const auto reduced = reduced_axes(a, in.size());
  Shape out;
  for (size_t i = 0; i < in.size(); ++i) {
    if (!reduced[i]) out.push_back(in[i]);
    else if (a.keepdims) out.push_back(1);
  }
  if (out.empty()) out.push_back(1);
  return {out};
}

// Folds every input element into the output element it belongs to. The first
// one that arrives is copied, unless the output was started by the caller.
template <class F>
void reduce(const NodeInfo& n, const Buffers& b, bool started, F fold) {
  const Shape& in = n.in[0];
  const auto reduced = reduced_axes(n.as<ReduceAttrs>(), in.size());
  std::array<int64_t, kMaxRank> strides{};  // of the output along the input's axes
  int64_t stride = 1;
  for (size_t i = in.size(); i-- > 0;) {
    if (reduced[i]) continue;
    strides[i] = stride;
    stride *= in[i];
  }
  std::array<int64_t, kMaxRank> index{};
  const int64_t size = size_of(in);
  for (int64_t i = 0; i < size; ++i) {
    int64_t to = 0;
    bool first = !started;
    for (size_t k = 0; k < in.size(); ++k) {
      to += index[k] * strides[k];
      if (reduced[k] && index[k] != 0) first = false;
    }
    b.out[0][to] = first ? b.in[0][i] : fold(b.out[0][to], b.in[0][i]);
    for (size_t k = in.size(); k-- > 0;) {
      if (++index[k] < in[k]) break;
      index[k] = 0;
    }
  }
}

Operator reduce_operator(const char* name) {
  Operator op;
  op.name = name;
  op.arity = [](const Attrs*) { return 1; };
  op.parse = parse_reduce;
  op.shape = reduce_shape;
  return op;
}

int64_t terms_per_output(const NodeInfo& n) { return size_of(n.in[0]) / size_of(n.out[0]); }

Operator sum() {
  Operator op = reduce_operator("sum");
  op.precision = [](const NodeInfo& n) {
    return std::vector<int>{n.in_precision[0] + sum_bits(terms_per_output(n))};
  };
  op.cost = terms_per_output;
  op.kernel = [](const NodeInfo& n, const Buffers& b) { reduce(n, b, false, wrap_add); };
  return op;
}

Operator max() {
  Operator op = reduce_operator("max");
  op.precision = [](const NodeInfo& n) { return std::vector<int>{n.in_precision[0]}; };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const bool from_zero = max_starts_at_zero(n.as<ReduceAttrs>());
    if (from_zero) b.out[0][0] = 0;
    reduce(n, b, from_zero, [](int32_t x, int32_t y) { return std::max(x, y); });
  };
  return op;
}

}  // namespace

std::vector<Operator> reduce_operators() { return {sum(), max()}; }

}  // namespace cvm
