// Operators that are strided copies: repeat, tile, transpose, strided_slice and slice_like.
#include <algorithm>
#include <array>
#include <cstring>

#include "ops/arith.h"
#include "ops/move.h"
#include "ops/tuple_attrs.h"

namespace cvm {
namespace {

using PerAxis = std::array<int64_t, kMaxRank>;

// Row-major element strides.
PerAxis row_major_strides(const Shape& shape) {
  PerAxis strides{};
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0; stride *= shape[i]) strides[i] = stride;
  return strides;
}

// Calls f with every index of `shape`, in row-major order.
template <class F>
void for_each_index(const Shape& shape, F f) {
  PerAxis index{};
  const int64_t size = size_of(shape);
  for (int64_t i = 0; i < size; ++i) {
    f(i, index);
    for (size_t k = shape.size(); k-- > 0;) {
      if (++index[k] < shape[k]) break;
      index[k] = 0;
    }
  }
}

// Y[index] = X[offset + sum of index * strides]
void gather_kernel(const NodeInfo& n, const Buffers& b, int64_t offset,
                   const PerAxis& strides) {
  for_each_index(n.out[0], [&](int64_t i, const PerAxis& index) {
    int64_t from = offset;
    for (size_t k = 0; k < n.out[0].size(); ++k) from += index[k] * strides[k];
    b.out[0][i] = b.in[0][from];
  });
}

// ---- repeat ----------------------------------------------------------------

struct RepeatAttrs : Attrs {
  int32_t repeats = 0, axis = 0;
};

std::unique_ptr<Attrs> parse_repeat(const AttrText& text) {
  auto a = std::make_unique<RepeatAttrs>();
  AttrReader in(text);
  in.required("repeats", &a->repeats);
  in.optional("axis", &a->axis);
  in.finish();
  return a;
}

std::vector<Shape> repeat_shape(const NodeInfo& n) {
  const auto& a = n.as<RepeatAttrs>();
  if (a.repeats < 1) logic_error("attribute 'repeats' is ", a.repeats, ", expected at least 1");
  Shape out = n.in[0];
  out[normal_axis(a.axis, static_cast<int64_t>(out.size()), "axis")] *= a.repeats;
  return {out};
}

void repeat_kernel(const NodeInfo& n, const Buffers& b) {
  const auto& a = n.as<RepeatAttrs>();
  const Shape& x = n.in[0];
  const size_t axis = normal_axis(a.axis, static_cast<int64_t>(x.size()), "axis");
  const int64_t outer = size_of(x, 0, axis + 1), inner = size_of(x, axis + 1, x.size());
  int32_t* out = b.out[0];
  for (int64_t i = 0; i < outer; ++i)
    for (int32_t r = 0; r < a.repeats; ++r, out += inner)
      std::memcpy(out, b.in[0] + i * inner, inner * sizeof(int32_t));
}

std::unique_ptr<Loop> repeat_loop(const NodeInfo& n) {
  const auto& a = n.as<RepeatAttrs>();
  const Shape& x = n.in[0];
  const size_t axis = normal_axis(a.axis, static_cast<int64_t>(x.size()), "axis");
  const int64_t inner = size_of(x, axis + 1, x.size());
  Move move;
  move.add(size_of(x, 0, axis + 1), inner);
  move.add(a.repeats, 0);
  move.add(inner, 1);
  return move_loop(move);
}

Operator repeat() {
  Operator op("repeat", takes<1>, repeat_shape, first_precision, repeat_kernel, kByKernel,
              repeat_loop);
  op.parse = parse_repeat;
  return op;
}

// ---- tile ------------------------------------------------------------------

std::unique_ptr<Attrs> parse_tile(const AttrText& text) {
  auto a = std::make_unique<TupleAttrs>();
  a->items = {0};  // the default is itself outside the permitted range
  AttrReader in(text);
  in.optional("reps", &a->items);
  in.finish();
  return a;
}

std::vector<Shape> tile_shape(const NodeInfo& n) {
  const Tuple& reps = n.as<TupleAttrs>().items;
  if (reps.empty()) logic_error("attribute 'reps' is empty");
  for (int64_t r : reps) expect_range(r, 1, 4096, "reps");
  Shape out(std::max(reps.size(), n.in[0].size()), 1);
  std::copy_backward(n.in[0].begin(), n.in[0].end(), out.end());
  for (size_t i = 0; i < reps.size(); ++i) out[out.size() - reps.size() + i] *= reps[i];
  return {out};
}

void tile_kernel(const NodeInfo& n, const Buffers& b) {
  const Shape &x = n.in[0], &y = n.out[0];
  const size_t lead = y.size() - x.size();
  const auto strides = row_major_strides(x);
  for_each_index(y, [&](int64_t i, const PerAxis& index) {
    int64_t from = 0;
    for (size_t k = 0; k < x.size(); ++k) from += index[lead + k] % x[k] * strides[k];
    b.out[0][i] = b.in[0][from];
  });
}

std::unique_ptr<Loop> tile_loop(const NodeInfo& n) {
  const Shape &x = n.in[0], &y = n.out[0];
  const size_t lead = y.size() - x.size();
  const auto strides = row_major_strides(x);
  Move move;
  for (size_t i = 0; i < lead; ++i) move.add(y[i], 0);
  for (size_t i = 0; i < x.size(); ++i) {
    move.add(y[lead + i] / x[i], 0);
    move.add(x[i], strides[i]);
  }
  return move_loop(move);
}

Operator tile() {
  Operator op("tile", takes<1>, tile_shape, first_precision, tile_kernel, kByKernel, tile_loop);
  op.parse = parse_tile;
  return op;
}

// ---- transpose -------------------------------------------------------------

// Axis of the input that axis i of a transpose runs over.
PerAxis transpose_axes(const TupleAttrs& attrs, size_t rank) {
  PerAxis axes{};
  if (attrs.items.empty()) {
    for (size_t i = 0; i < rank; ++i) axes[i] = static_cast<int64_t>(rank - 1 - i);
    return axes;
  }
  if (attrs.items.size() != rank)
    logic_error("attribute 'axes' is ", to_string(attrs.items), ", expected ", rank, " items");
  std::array<bool, kMaxRank> used{};
  for (size_t i = 0; i < rank; ++i) {
    axes[i] = normal_axis(attrs.items[i], static_cast<int64_t>(rank), "an item of axes");
    if (used[axes[i]]) logic_error("axes ", to_string(attrs.items), " is not a permutation");
    used[axes[i]] = true;
  }
  return axes;
}

std::vector<Shape> transpose_shape(const NodeInfo& n) {
  const Shape& x = n.in[0];
  const auto axes = transpose_axes(n.as<TupleAttrs>(), x.size());
  Shape out(x.size());
  for (size_t i = 0; i < x.size(); ++i) out[i] = x[axes[i]];
  return {out};
}

void transpose_kernel(const NodeInfo& n, const Buffers& b) {
  const auto axes = transpose_axes(n.as<TupleAttrs>(), n.in[0].size());
  const auto in_strides = row_major_strides(n.in[0]);
  PerAxis strides{};
  for (size_t i = 0; i < n.in[0].size(); ++i) strides[i] = in_strides[axes[i]];
  gather_kernel(n, b, 0, strides);
}

std::unique_ptr<Loop> transpose_loop(const NodeInfo& n) {
  const Shape& x = n.in[0];
  const auto axes = transpose_axes(n.as<TupleAttrs>(), x.size());
  const auto strides = row_major_strides(x);
  Move move;
  for (size_t i = 0; i < x.size(); ++i) move.add(x[axes[i]], strides[axes[i]]);
  return move_loop(move);
}

Operator transpose() {
  Operator op("transpose", takes<1>, transpose_shape, first_precision, transpose_kernel, kByKernel,
              transpose_loop);
  op.parse = [](const AttrText& text) { return parse_tuple(text, "axes", false); };
  return op;
}

// ---- strided_slice ---------------------------------------------------------

struct SliceAttrs : Attrs {
  Tuple begin = {0}, end = {1}, stride;
};

// One axis of a strided slice: elements begin, begin + stride, ..., `extent` of them.
struct SliceAxis {
  int64_t begin, stride, extent;
};

SliceAxis slice_axis(int64_t begin, int64_t end, int64_t stride, int64_t extent) {
  if (stride == 0) logic_error("attribute 'stride' has the item 0");
  const int64_t low = stride < 0 ? -1 : 0, high = stride < 0 ? extent - 1 : extent;
  const auto place = [&](int64_t i) { return std::clamp(i < 0 ? i + extent : i, low, high); };
  begin = place(begin);
  end = place(end);
  const int64_t length = stride < 0 ? begin - end : end - begin;
  if (length <= 0)
    logic_error("the slice ", begin, ":", end, ":", stride, " of an axis of extent ", extent,
                " is empty");
  // A step beyond the axis equals one of its whole extent, and cannot overflow.
  stride = std::clamp(stride, -extent - 1, extent + 1);
  const int64_t step = stride < 0 ? -stride : stride;
  return {begin, stride, (length + step - 1) / step};
}

std::array<SliceAxis, kMaxRank> slice_axes(const SliceAttrs& attrs, const Shape& in) {
  for (const Tuple* t : {&attrs.begin, &attrs.end, &attrs.stride})
    if (t->size() > in.size())
      logic_error("the slice ", to_string(*t), " has ", t->size(), " items for an input of shape ",
                  to_string(in));
  std::array<SliceAxis, kMaxRank> axes{};
  for (size_t i = 0; i < in.size(); ++i)
    axes[i] = slice_axis(i < attrs.begin.size() ? attrs.begin[i] : 0,
                         i < attrs.end.size() ? attrs.end[i] : in[i],
                         i < attrs.stride.size() ? attrs.stride[i] : 1, in[i]);
  return axes;
}

std::unique_ptr<Attrs> parse_strided_slice(const AttrText& text) {
  auto a = std::make_unique<SliceAttrs>();
  AttrReader in(text);
  in.optional("begin", &a->begin);
  in.optional("end", &a->end);
  in.optional("stride", &a->stride);
  in.finish();
  return a;
}

std::vector<Shape> strided_slice_shape(const NodeInfo& n) {
  const auto axes = slice_axes(n.as<SliceAttrs>(), n.in[0]);
  Shape out(n.in[0].size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = axes[i].extent;
  return {out};
}

void strided_slice_kernel(const NodeInfo& n, const Buffers& b) {
  const auto axes = slice_axes(n.as<SliceAttrs>(), n.in[0]);
  auto strides = row_major_strides(n.in[0]);
  int64_t offset = 0;
  for (size_t i = 0; i < n.in[0].size(); ++i) {
    offset += axes[i].begin * strides[i];
    strides[i] *= axes[i].stride;
  }
  gather_kernel(n, b, offset, strides);
}

std::unique_ptr<Loop> strided_slice_loop(const NodeInfo& n) {
  const Shape& x = n.in[0];
  const auto axes = slice_axes(n.as<SliceAttrs>(), x);
  const auto strides = row_major_strides(x);
  Move move;
  for (size_t i = 0; i < x.size(); ++i) {
    move.offset += axes[i].begin * strides[i];
    move.add(axes[i].extent, axes[i].stride * strides[i]);
  }
  return move_loop(move);
}

Operator strided_slice() {
  Operator op("strided_slice", takes<1>, strided_slice_shape, first_precision, strided_slice_kernel,
              kByKernel, strided_slice_loop);
  op.parse = parse_strided_slice;
  return op;
}

// ---- slice_like ------------------------------------------------------------

std::unique_ptr<Attrs> parse_slice_like(const AttrText& text) {
  auto a = parse_tuple(text, "axis", false);
  for (int64_t item : static_cast<TupleAttrs&>(*a).items)
    if (item != static_cast<int32_t>(item))
      runtime_error("attribute 'axis' has the item ", item, ", expected a 32-bit integer");
  return a;
}

std::vector<Shape> slice_like_shape(const NodeInfo& n) {
  const Tuple& axes = n.as<TupleAttrs>().items;
  const Shape &x = n.in[0], &like = n.in[1];
  const int64_t rank = static_cast<int64_t>(x.size());
  if (axes.empty() && x.size() != like.size())
    logic_error("the inputs have shapes ", to_string(x), " and ", to_string(like),
                ", expected equal ranks");
  Shape out = axes.empty() ? like : x;
  for (int64_t item : axes) {
    const int64_t axis = item < 0 ? item + rank : item;
    if (axis < 0 || axis >= std::min<int64_t>(rank, static_cast<int64_t>(like.size())))
      logic_error("attribute 'axis' has the item ", item, ", which is no axis of both ",
                  to_string(x), " and ", to_string(like));
    out[axis] = like[axis];
  }
  for (size_t i = 0; i < x.size(); ++i)
    if (out[i] > x[i])
      logic_error("axis ", i, " is cut to ", out[i], ", but has only extent ", x[i]);
  return {out};
}

void slice_like_kernel(const NodeInfo& n, const Buffers& b) {
  gather_kernel(n, b, 0, row_major_strides(n.in[0]));
}

std::unique_ptr<Loop> slice_like_loop(const NodeInfo& n) {
  const auto strides = row_major_strides(n.in[0]);
  Move move;
  for (size_t i = 0; i < n.in[0].size(); ++i) move.add(n.out[0][i], strides[i]);
  return move_loop(move);
}

Operator slice_like() {
  Operator op("slice_like", takes<2>, slice_like_shape, first_precision, slice_like_kernel,
              kByKernel, slice_like_loop);
  op.parse = parse_slice_like;
  op.sound = [](const NodeInfo& n) { return n.in_sound[0] != 0; };
  return op;
}

}  // namespace

std::vector<Operator> transform_operators() {
  return {repeat(), tile(), transpose(), strided_slice(), slice_like()};
}

}  // namespace cvm
