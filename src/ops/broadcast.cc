#include "ops/broadcast.h"

#include <algorithm>
#include <array>

#include "ops/arith.h"
#include "ops/loop.h"

namespace cvm {
namespace {

using Binary = int32_t (*)(int32_t, int32_t);

// ---- shapes

// Logic error when an axis differs and neither extent is 1.
std::vector<Shape> broadcast_shape(const NodeInfo& n) {
  const Shape &a = n.in[0], &b = n.in[1];
  const size_t rank = std::max(a.size(), b.size());
  Shape out(rank);
  for (size_t i = 0; i < rank; ++i) {  // counted from the last axis
    const int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t db = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (da != db && da != 1 && db != 1)
      logic_error("the shapes ", to_string(a), " and ", to_string(b), " do not broadcast");
    out[rank - 1 - i] = std::max(da, db);
  }
  return {out};
}

using Strides = std::array<int64_t, kMaxRank>;

// Element strides of `in` along each axis of `out`; 0 where it is repeated.
Strides strides_of(const Shape& in, const Shape& out) {
  Strides strides{};
  int64_t stride = 1;
  for (size_t i = 0; i < in.size(); ++i) {
    const int64_t extent = in[in.size() - 1 - i];
    strides[out.size() - 1 - i] = extent == 1 ? 0 : stride;
    stride *= extent;
  }
  return strides;
}

// ---- the reference kernel

// Offset of row-major element `index` of `shape`, under other strides.
int64_t offset_of(int64_t index, const Shape& shape, const Strides& strides) {
  int64_t offset = 0;
  for (size_t i = shape.size(); i-- > 0; index /= shape[i]) offset += index % shape[i] * strides[i];
  return offset;
}

template <Binary F>
void broadcast_kernel(const NodeInfo& n, const Buffers& b) {
  const Shape& out = n.out[0];
  const Strides strides0 = strides_of(n.in[0], out), strides1 = strides_of(n.in[1], out);
  const int64_t size = size_of(out);
  for (int64_t i = 0; i < size; ++i)
    b.out[0][i] = F(b.in[0][offset_of(i, out, strides0)], b.in[1][offset_of(i, out, strides1)]);
}

// ---- the loop

struct Axis {
  int64_t extent, stride0, stride1;
};

// Axes along which both inputs advance alike are merged, so that the inner loop is as long as it
// can be and has constant strides. Innermost first; at least one.
std::vector<Axis> merged_axes(const NodeInfo& n) {
  const Shape& out = n.out[0];
  const Strides strides0 = strides_of(n.in[0], out), strides1 = strides_of(n.in[1], out);
  std::vector<Axis> axes;
  for (size_t i = out.size(); i-- > 0;) {
    if (out[i] == 1) continue;
    const Axis axis = {out[i], strides0[i], strides1[i]};
    Axis* inner = axes.empty() ? nullptr : &axes.back();
    if (inner && axis.stride0 == inner->stride0 * inner->extent &&
        axis.stride1 == inner->stride1 * inner->extent)
      inner->extent *= axis.extent;
    else
      axes.push_back(axis);
  }
  if (axes.empty()) axes.push_back({1, 0, 0});
  return axes;
}

// Strides of a merged inner axis are 0 or 1.
template <Binary F>
void run_row(const int32_t* x, int64_t x_stride, const int32_t* y, int64_t y_stride, int64_t count,
             int32_t* out) {
  if (x_stride == 0) {
    const int32_t a = *x;
    for (int64_t i = 0; i < count; ++i) out[i] = F(a, y[i * y_stride]);
  } else if (y_stride == 0) {
    const int32_t c = *y;
    for (int64_t i = 0; i < count; ++i) out[i] = F(x[i], c);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = F(x[i], y[i]);
  }
}

template <Binary F>
void run_range(const std::vector<Axis>& axes, const Buffers& b, int64_t begin, int64_t end) {
  const Axis& inner = axes[0];
  while (begin < end) {
    const int64_t at = begin % inner.extent;
    const int64_t count = std::min(inner.extent - at, end - begin);
    int64_t offset0 = at * inner.stride0, offset1 = at * inner.stride1;
    int64_t index = begin / inner.extent;
    for (size_t k = 1; k < axes.size(); ++k) {
      const int64_t position = index % axes[k].extent;
      index /= axes[k].extent;
      offset0 += position * axes[k].stride0;
      offset1 += position * axes[k].stride1;
    }
    run_row<F>(b.in[0] + offset0, inner.stride0, b.in[1] + offset1, inner.stride1, count,
               b.out[0] + begin);
    begin += count;
  }
}

template <Binary F>
std::unique_ptr<Loop> broadcast_loop(const NodeInfo& n) {
  return make_loop(size_of(n.out[0]), kGrain,
                   [axes = merged_axes(n)](const Buffers& b, int64_t begin, int64_t end) {
                     run_range<F>(axes, b, begin, end);
                   });
}

// ---- the operators

std::vector<int> widest(const NodeInfo& n) {
  return {std::max(n.in_precision[0], n.in_precision[1])};
}
std::vector<int> of_product(const NodeInfo& n) { return {n.in_precision[0] + n.in_precision[1]}; }

int32_t max_of(int32_t a, int32_t b) { return std::max(a, b); }
int32_t greater_of(int32_t a, int32_t b) { return a > b ? 1 : 0; }

template <Binary F>
Operator row(const char* name, std::vector<const char*> aliases, Operator::PrecisionRule precision,
             Operator::Lower lower) {
  Operator op(name, takes<2>, broadcast_shape, precision, broadcast_kernel<F>, lower,
              broadcast_loop<F>);
  op.aliases = std::move(aliases);
  return op;
}

Operator broadcast_greater() {
  Operator op = row<greater_of>("broadcast_greater", {}, first_precision, kByKernel);
  op.sound = [](const NodeInfo& n) { return n.in_precision[0] >= 2; };  // 1 is not in Int(1)
  return op;
}

}  // namespace

std::vector<int> one_bit_more(const NodeInfo& n) { return {widest(n)[0] + 1}; }

int lower_join(Lowering& l, Primitive primitive) {
  const bool swapped = bool(l.param(0));
  const size_t tensor = swapped ? 1 : 0, other = 1 - tensor;
  if (l.param(tensor) || l.node().in[tensor] != l.node().out[0]) return kNone;
  const int x = l.value(tensor);
  if (x == kNone) return kNone;
  if (l.param(other)) {
    Constant c;
    if (!l.constant(other, tensor, x, &c)) return kNone;
    return l.ir().map(swapped ? facts(primitive).swapped : primitive, x, c);
  }
  const int y = l.value(other);
  if (y == kNone || !(l[x].dims == l[y].dims) || l.node().in[1] != l.node().in[0]) return kNone;
  return l.ir().join(primitive, x, y);
}

std::vector<Operator> broadcast_operators() {
  // The __x_symbol__ aliases are left out: a trailing "_" is stripped from
  // every name, so they can never be looked up.
  return {
      row<wrap_add>("broadcast_add", {"add"}, one_bit_more, lower_join<Primitive::kAdd>),
      row<wrap_sub>("broadcast_sub", {"subtract"}, one_bit_more, lower_join<Primitive::kSub>),
      row<wrap_mul>("broadcast_mul", {"multiply"}, of_product, lower_join<Primitive::kMul>),
      row<safe_div>("broadcast_div", {}, first_precision, kByKernel),
      row<max_of>("broadcast_max", {}, widest, lower_join<Primitive::kMax>),
      broadcast_greater(),
  };
}

}  // namespace cvm
