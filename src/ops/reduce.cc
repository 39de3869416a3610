// sum and max over axes.
#include <algorithm>
#include <array>
#include <limits>

#include "ops/arith.h"
#include "ops/attr_reader.h"
#include "ops/loop.h"
#include "ops/lowering.h"

namespace cvm {
namespace {

using Fold = int32_t (*)(int32_t, int32_t);

struct ReduceAttrs : Attrs {
  Tuple axis;
  bool keepdims = false, exclude = false;
};

// Whether a max starts from 0 rather than from the first element: an odd and
// normative corner of an empty `axis` without exclude.
bool starts_at_zero(const NodeInfo& n) {
  const auto& a = n.as<ReduceAttrs>();
  return a.axis.empty() && !a.exclude;
}

// Which axes are reduced; logic error for bad or repeated items of `axis`.
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

int32_t max_of(int32_t x, int32_t y) { return std::max(x, y); }

void sum_kernel(const NodeInfo& n, const Buffers& b) { reduce(n, b, false, wrap_add); }

void max_kernel(const NodeInfo& n, const Buffers& b) {
  const bool from_zero = starts_at_zero(n);
  if (from_zero) b.out[0][0] = 0;
  reduce(n, b, from_zero, max_of);
}

// ---- loops, where the reduced axes are neighbours: (outer, reduced, inner)

struct Span {
  int64_t outer = 1, terms = 1, inner = 1;
  bool adjacent = true;
};

// Axes of extent 1 belong to no side.
Span find_span(const NodeInfo& n) {
  const Shape& in = n.in[0];
  const auto reduced = reduced_axes(n.as<ReduceAttrs>(), in.size());
  Span s;
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i] == 1) continue;
    if (!reduced[i])
      (s.terms == 1 ? s.outer : s.inner) *= in[i];
    else if (s.inner != 1)
      s.adjacent = false;
    else
      s.terms *= in[i];
  }
  return s;
}

// `from_zero` only without inner axes: all axes are reduced then.
template <Fold F>
void reduce_one(const Span& s, bool from_zero, const int32_t* in, int32_t* out) {
  if (s.inner == 1) {
    int32_t value = from_zero ? F(0, in[0]) : in[0];
    for (int64_t t = 1; t < s.terms; ++t) value = F(value, in[t]);
    *out = value;
    return;
  }
  std::copy_n(in, s.inner, out);
  for (int64_t t = 1; t < s.terms; ++t)
    for (int64_t i = 0; i < s.inner; ++i) out[i] = F(out[i], in[t * s.inner + i]);
}

template <Fold F>
std::unique_ptr<Loop> reduce_loop(const NodeInfo& n, bool from_zero) {
  const Span s = find_span(n);
  if (!s.adjacent) return nullptr;
  const int64_t work = s.terms * s.inner;
  return make_loop(s.outer, kGrain / work, [=](const Buffers& b, int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k)
      reduce_one<F>(s, from_zero, b.in[0] + k * work, b.out[0] + k * s.inner);
  });
}

std::unique_ptr<Loop> sum_loop(const NodeInfo& n) { return reduce_loop<wrap_add>(n, false); }
std::unique_ptr<Loop> max_loop(const NodeInfo& n) {
  return reduce_loop<max_of>(n, starts_at_zero(n));
}

// ---- the operators

int64_t terms_per_output(const NodeInfo& n) { return size_of(n.in[0]) / size_of(n.out[0]); }

std::vector<int> sum_precision(const NodeInfo& n) {
  return {n.in_precision[0] + sum_bits(terms_per_output(n))};
}

// Sums over all of height and width.
int lower_sum(Lowering& l) {
  const Shape& s = l.node().in[0];
  if (s.size() != 4) return kNone;
  const auto axes = reduced_axes(l.node().as<ReduceAttrs>(), s.size());
  const int x = l.value(0);
  if (x == kNone || axes[0] || axes[1] || !axes[2] || !axes[3]) return kNone;
  const Dims in = l[x].dims;
  const int64_t count = in.h * in.w;
  Value v;
  v.kind = Kind::kSum;
  v.dims = {in.n, 1, 1, in.c};
  v.range = {l[x].range.low * count, l[x].range.high * count};
  v.inputs = {x};
  v.conv.kernel_h = in.h, v.conv.kernel_w = in.w;
  // The byte codes of values are summed, which are up to 128 larger.
  if (!l.takes_taps(count) || v.range.high + kZeroPoint * count > INT32_MAX) return kNone;
  return l.ir().make(std::move(v));
}

Operator sum() {
  Operator op("sum", takes<1>, reduce_shape, sum_precision, sum_kernel, lower_sum, sum_loop);
  op.parse = parse_reduce;
  op.cost = terms_per_output;
  return op;
}

Operator max() {
  Operator op("max", takes<1>, reduce_shape, first_precision, max_kernel, kByKernel, max_loop);
  op.parse = parse_reduce;
  return op;
}

}  // namespace

std::vector<Operator> reduce_operators() { return {sum(), max()}; }

}  // namespace cvm
