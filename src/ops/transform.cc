// Operators that only move data: every output element is one input element.
#include "ops/transform.h"

#include <algorithm>
#include <cstring>

#include "ops/arith.h"

namespace cvm {

std::array<int64_t, kMaxRank> row_major_strides(const Shape& shape) {
  std::array<int64_t, kMaxRank> strides{};
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0; stride *= shape[i]) strides[i] = stride;
  return strides;
}

std::array<int64_t, kMaxRank> transpose_axes(const TupleAttrs& attrs, size_t rank) {
  std::array<int64_t, kMaxRank> axes{};
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

namespace {

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

}  // namespace

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

namespace {

std::vector<int> first_precision(const NodeInfo& n) { return {n.in_precision[0]}; }

Operator transform(const char* name) {
  Operator op;
  op.name = name;
  op.arity = [](const Attrs*) { return 1; };
  op.precision = first_precision;
  return op;
}

void copy_kernel(const NodeInfo& n, const Buffers& b) {
  if (b.in[0] != b.out[0]) std::memcpy(b.out[0], b.in[0], size_of(n.out[0]) * sizeof(int32_t));
}

// Calls f with every index of `shape`, in row-major order.
template <class F>
void for_each_index(const Shape& shape, F f) {
  std::array<int64_t, kMaxRank> index{};
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
                   const std::array<int64_t, kMaxRank>& strides) {
  for_each_index(n.out[0], [&](int64_t i, const std::array<int64_t, kMaxRank>& index) {
    int64_t from = offset;
    for (size_t k = 0; k < n.out[0].size(); ++k) from += index[k] * strides[k];
    b.out[0][i] = b.in[0][from];
  });
}

std::unique_ptr<Attrs> parse_tuple_attr(const AttrText& text, const char* key, bool required) {
  auto a = std::make_unique<TupleAttrs>();
  AttrReader in(text);
  if (required)
    in.required(key, &a->items);
  else
    in.optional(key, &a->items);
  in.finish();
  return a;
}

// ---- repeat, tile ----------------------------------------------------------

Operator repeat() {
  Operator op = transform("repeat");
  op.parse = [](const AttrText& text) -> std::unique_ptr<Attrs> {
    auto a = std::make_unique<RepeatAttrs>();
    AttrReader in(text);
    in.required("repeats", &a->repeats);
    in.optional("axis", &a->axis);
    in.finish();
    return a;
  };
  op.shape = [](const NodeInfo& n) {
    const auto& a = n.as<RepeatAttrs>();
    if (a.repeats < 1) logic_error("attribute 'repeats' is ", a.repeats, ", expected at least 1");
    Shape out = n.in[0];
    out[normal_axis(a.axis, static_cast<int64_t>(out.size()), "axis")] *= a.repeats;
    return std::vector<Shape>{out};
  };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const auto& a = n.as<RepeatAttrs>();
    const Shape& x = n.in[0];
    const size_t axis = normal_axis(a.axis, static_cast<int64_t>(x.size()), "axis");
    const int64_t outer = size_of(x, 0, axis + 1), inner = size_of(x, axis + 1, x.size());
    int32_t* out = b.out[0];
    for (int64_t i = 0; i < outer; ++i)
      for (int32_t r = 0; r < a.repeats; ++r, out += inner)
        std::memcpy(out, b.in[0] + i * inner, inner * sizeof(int32_t));
  };
  return op;
}

Operator tile() {
  Operator op = transform("tile");
  op.parse = [](const AttrText& text) -> std::unique_ptr<Attrs> {
    auto a = std::make_unique<TupleAttrs>();
    a->items = {0};  // the default is itself outside the permitted range
    AttrReader in(text);
    in.optional("reps", &a->items);
    in.finish();
    return a;
  };
  op.shape = [](const NodeInfo& n) {
    const Tuple& reps = n.as<TupleAttrs>().items;
    if (reps.empty()) logic_error("attribute 'reps' is empty");
    for (int64_t r : reps) expect_range(r, 1, 4096, "reps");
    Shape out(std::max(reps.size(), n.in[0].size()), 1);
    std::copy_backward(n.in[0].begin(), n.in[0].end(), out.end());
    for (size_t i = 0; i < reps.size(); ++i) out[out.size() - reps.size() + i] *= reps[i];
    return std::vector<Shape>{out};
  };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const Shape &x = n.in[0], &y = n.out[0];
    const size_t lead = y.size() - x.size();
    const auto strides = row_major_strides(x);
    for_each_index(y, [&](int64_t i, const std::array<int64_t, kMaxRank>& index) {
      int64_t from = 0;
      for (size_t k = 0; k < x.size(); ++k) from += index[lead + k] % x[k] * strides[k];
      b.out[0][i] = b.in[0][from];
    });
  };
  return op;
}

// ---- flatten, expand_dims, reshape, squeeze: copies ------------------------

Operator flatten() {
  Operator op = transform("flatten");
  op.in_place = true;
  op.shape = [](const NodeInfo& n) {
    const Shape& x = n.in[0];
    return std::vector<Shape>{{x[0], size_of(x, 1, x.size())}};
  };
  op.kernel = copy_kernel;
  return op;
}

Operator expand_dims() {
  Operator op = transform("expand_dims");
  op.in_place = true;
  op.parse = [](const AttrText& text) -> std::unique_ptr<Attrs> {
    auto a = std::make_unique<ExpandDimsAttrs>();
    AttrReader in(text);
    in.required("axis", &a->axis);
    in.optional("num_newaxis", &a->num_newaxis);
    in.finish();
    if (a->num_newaxis < 1)
      runtime_error("attribute 'num_newaxis' is ", a->num_newaxis, ", expected at least 1");
    return a;
  };
  op.shape = [](const NodeInfo& n) {
    const auto& a = n.as<ExpandDimsAttrs>();
    Shape out = n.in[0];
    expect_range(a.num_newaxis, 1, 4096, "num_newaxis");
    const int64_t at = normal_axis(a.axis, static_cast<int64_t>(out.size()) + 1, "axis");
    out.insert(out.begin() + at, a.num_newaxis, 1);
    return std::vector<Shape>{out};
  };
  op.kernel = copy_kernel;
  return op;
}

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
  Operator op = transform("reshape");
  op.in_place = true;
  op.parse = [](const AttrText& text) { return parse_tuple_attr(text, "shape", true); };
  op.shape = reshape_shape;
  op.kernel = copy_kernel;
  return op;
}

Operator squeeze() {
  Operator op = transform("squeeze");
  op.in_place = true;
  op.parse = [](const AttrText& text) { return parse_tuple_attr(text, "axis", false); };
  op.shape = [](const NodeInfo& n) {
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
    return std::vector<Shape>{out};
  };
  op.kernel = copy_kernel;
  return op;
}

// ---- concatenate -----------------------------------------------------------

Operator concatenate() {
  Operator op = transform("concatenate");
  op.arity = [](const Attrs*) { return -1; };
  op.parse = [](const AttrText& text) -> std::unique_ptr<Attrs> {
    auto a = std::make_unique<AxisAttrs>();
    AttrReader in(text);
    in.optional("axis", &a->axis);
    in.finish();
    return a;
  };
  op.shape = [](const NodeInfo& n) {
    Shape out = n.in[0];
    const int64_t axis =
        normal_axis(n.as<AxisAttrs>().axis, static_cast<int64_t>(out.size()), "axis");
    out[axis] = 0;
    for (size_t k = 0; k < n.in.size(); ++k) {
      Shape others = n.in[k];
      if (others.size() == out.size()) others[axis] = out[axis];
      if (others != out)
        logic_error("input ", k, " has shape ", to_string(n.in[k]), ", expected that of input 0, ",
                    to_string(n.in[0]), ", except on axis ", axis);
      out[axis] += n.in[k][axis];
    }
    return std::vector<Shape>{out};
  };
  op.precision = [](const NodeInfo& n) {
    return std::vector<int>{*std::max_element(n.in_precision.begin(), n.in_precision.end())};
  };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const Shape& y = n.out[0];
    const size_t axis =
        normal_axis(n.as<AxisAttrs>().axis, static_cast<int64_t>(y.size()), "axis");
    const int64_t outer = size_of(y, 0, axis);
    int32_t* out = b.out[0];
    for (int64_t i = 0; i < outer; ++i)
      for (size_t k = 0; k < n.in.size(); ++k) {
        const int64_t run = size_of(n.in[k], axis, y.size());
        std::memcpy(out, b.in[k] + i * run, run * sizeof(int32_t));
        out += run;
      }
  };
  return op;
}

// ---- transpose, strided_slice, slice_like ----------------------------------

Operator transpose() {
  Operator op = transform("transpose");
  op.parse = [](const AttrText& text) { return parse_tuple_attr(text, "axes", false); };
  op.shape = [](const NodeInfo& n) {
    const Shape& x = n.in[0];
    const auto axes = transpose_axes(n.as<TupleAttrs>(), x.size());
    Shape out(x.size());
    for (size_t i = 0; i < x.size(); ++i) out[i] = x[axes[i]];
    return std::vector<Shape>{out};
  };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const auto axes = transpose_axes(n.as<TupleAttrs>(), n.in[0].size());
    const auto in_strides = row_major_strides(n.in[0]);
    std::array<int64_t, kMaxRank> strides{};
    for (size_t i = 0; i < n.in[0].size(); ++i) strides[i] = in_strides[axes[i]];
    gather_kernel(n, b, 0, strides);
  };
  return op;
}

Operator strided_slice() {
  Operator op = transform("strided_slice");
  op.parse = [](const AttrText& text) -> std::unique_ptr<Attrs> {
    auto a = std::make_unique<SliceAttrs>();
    AttrReader in(text);
    in.optional("begin", &a->begin);
    in.optional("end", &a->end);
    in.optional("stride", &a->stride);
    in.finish();
    return a;
  };
  op.shape = [](const NodeInfo& n) {
    const auto axes = slice_axes(n.as<SliceAttrs>(), n.in[0]);
    Shape out(n.in[0].size());
    for (size_t i = 0; i < out.size(); ++i) out[i] = axes[i].extent;
    return std::vector<Shape>{out};
  };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const auto axes = slice_axes(n.as<SliceAttrs>(), n.in[0]);
    auto strides = row_major_strides(n.in[0]);
    int64_t offset = 0;
    for (size_t i = 0; i < n.in[0].size(); ++i) {
      offset += axes[i].begin * strides[i];
      strides[i] *= axes[i].stride;
    }
    gather_kernel(n, b, offset, strides);
  };
  return op;
}

Operator slice_like() {
  Operator op = transform("slice_like");
  op.arity = [](const Attrs*) { return 2; };
  op.parse = [](const AttrText& text) -> std::unique_ptr<Attrs> {
    auto a = parse_tuple_attr(text, "axis", false);
    for (int64_t item : static_cast<TupleAttrs&>(*a).items)
      if (item != static_cast<int32_t>(item))
        runtime_error("attribute 'axis' has the item ", item, ", expected a 32-bit integer");
    return a;
  };
  op.shape = [](const NodeInfo& n) {
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
    return std::vector<Shape>{out};
  };
  op.sound = [](const NodeInfo& n) { return n.in_sound[0] != 0; };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    gather_kernel(n, b, 0, row_major_strides(n.in[0]));
  };
  return op;
}

// ---- take, cvm_lut, where --------------------------------------------------

Operator take() {
  Operator op = transform("take");
  op.arity = [](const Attrs*) { return 2; };
  op.parse = [](const AttrText& text) -> std::unique_ptr<Attrs> {
    auto a = std::make_unique<TakeAttrs>();
    AttrReader in(text);
    in.optional("axis", &a->axis);
    in.finish();
    return a;
  };
  op.shape = [](const NodeInfo& n) {
    const auto& a = n.as<TakeAttrs>();
    if (!a.axis) return std::vector<Shape>{n.in[1]};
    const Shape& x = n.in[0];
    const int64_t axis = normal_axis(*a.axis, static_cast<int64_t>(x.size()), "axis");
    Shape out(x.begin(), x.begin() + axis);
    out.insert(out.end(), n.in[1].begin(), n.in[1].end());
    out.insert(out.end(), x.begin() + axis + 1, x.end());
    return std::vector<Shape>{out};
  };
  op.sound = [](const NodeInfo& n) { return n.in_sound[0] != 0; };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const auto& a = n.as<TakeAttrs>();
    const Shape& x = n.in[0];
    int64_t outer = 1, extent = size_of(x), inner = 1;
    if (a.axis) {
      const size_t axis = normal_axis(*a.axis, static_cast<int64_t>(x.size()), "axis");
      outer = size_of(x, 0, axis);
      extent = x[axis];
      inner = size_of(x, axis + 1, x.size());
    }
    const int64_t indices = size_of(n.in[1]);
    int32_t* out = b.out[0];
    for (int64_t i = 0; i < outer; ++i)
      for (int64_t k = 0; k < indices; ++k, out += inner) {
        const int64_t from = clamp_index(b.in[1][k], extent);
        std::memcpy(out, b.in[0] + (i * extent + from) * inner, inner * sizeof(int32_t));
      }
  };
  return op;
}

Operator cvm_lut() {
  Operator op = transform("cvm_lut");
  op.arity = [](const Attrs*) { return 2; };
  op.parse = [](const AttrText& text) -> std::unique_ptr<Attrs> {
    auto a = std::make_unique<LutAttrs>();
    AttrReader in(text);
    in.required("in_dim", &a->in_dim);
    in.finish();
    return a;
  };
  op.shape = [](const NodeInfo& n) {
    const int32_t in_dim = n.as<LutAttrs>().in_dim;
    if (in_dim != size_of(n.in[1]))
      logic_error("attribute 'in_dim' is ", in_dim, ", expected the table's size ",
                  size_of(n.in[1]));
    return std::vector<Shape>{n.in[0]};
  };
  op.precision = [](const NodeInfo& n) { return std::vector<int>{n.in_precision[1]}; };
  op.sound = [](const NodeInfo& n) { return n.in_sound[1] != 0; };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    const int64_t size = size_of(n.out[0]), entries = size_of(n.in[1]);
    for (int64_t i = 0; i < size; ++i) b.out[0][i] = b.in[1][clamp_index(b.in[0][i], entries)];
  };
  return op;
}

Operator where() {
  Operator op = transform("where");
  op.arity = [](const Attrs*) { return 3; };
  op.shape = [](const NodeInfo& n) {
    const Shape &cond = n.in[0], &a = n.in[1];
    if (a != n.in[2])
      logic_error("the inputs 1 and 2 have shapes ", to_string(a), " and ", to_string(n.in[2]),
                  ", expected equal shapes");
    if (cond != a && cond != Shape{a[0]})
      logic_error("the condition has shape ", to_string(cond), ", expected ", to_string(a),
                  " or (", a[0], ",)");
    return std::vector<Shape>{a};
  };
  // The precision is that of the condition, however wide the data are.
  op.sound = [](const NodeInfo& n) {
    return n.in_sound[1] && n.in_sound[2] && n.in_precision[1] <= n.in_precision[0] &&
           n.in_precision[2] <= n.in_precision[0];
  };
  op.kernel = [](const NodeInfo& n, const Buffers& b) {
    // One condition decides `run` elements: 1, or a whole slab of axis 0.
    const int64_t size = size_of(n.out[0]), run = size / size_of(n.in[0]);
    for (int64_t i = 0; i < size; ++i) b.out[0][i] = b.in[b.in[0][i / run] != 0 ? 1 : 2][i];
  };
  return op;
}

}  // namespace

std::vector<Operator> transform_operators() {
  return {repeat(),  tile(),      flatten(),       expand_dims(), reshape(), squeeze(), concatenate(),
          transpose(), strided_slice(), slice_like(), take(),      cvm_lut(), where()};
}

}  // namespace cvm
