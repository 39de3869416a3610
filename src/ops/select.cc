// Operators that select elements by value: take, cvm_lut and where.
#include <algorithm>
#include <cstring>

#include "ops/arith.h"
#include "ops/attr_reader.h"
#include "ops/lowering.h"
#include "ops/move.h"

namespace cvm {
namespace {

// ---- take ------------------------------------------------------------------

struct TakeAttrs : Attrs {
  std::optional<int32_t> axis;
};

std::unique_ptr<Attrs> parse_take(const AttrText& text) {
  auto a = std::make_unique<TakeAttrs>();
  AttrReader in(text);
  in.optional("axis", &a->axis);
  in.finish();
  return a;
}

std::vector<Shape> take_shape(const NodeInfo& n) {
  const auto& a = n.as<TakeAttrs>();
  if (!a.axis) return {n.in[1]};
  const Shape& x = n.in[0];
  const int64_t axis = normal_axis(*a.axis, static_cast<int64_t>(x.size()), "axis");
  Shape out(x.begin(), x.begin() + axis);
  out.insert(out.end(), n.in[1].begin(), n.in[1].end());
  out.insert(out.end(), x.begin() + axis + 1, x.end());
  return {out};
}

// x as (outer, extent, inner), and how many of `extent` are taken.
struct TakeExtents {
  int64_t outer, extent, inner, indices;
};

TakeExtents take_extents(const NodeInfo& n) {
  const auto& a = n.as<TakeAttrs>();
  const Shape& x = n.in[0];
  const int64_t indices = size_of(n.in[1]);
  if (!a.axis) return {1, size_of(x), 1, indices};
  const size_t axis = normal_axis(*a.axis, static_cast<int64_t>(x.size()), "axis");
  return {size_of(x, 0, axis), x[axis], size_of(x, axis + 1, x.size()), indices};
}

void take_kernel(const NodeInfo& n, const Buffers& b) {
  const auto [outer, extent, inner, indices] = take_extents(n);
  int32_t* out = b.out[0];
  for (int64_t i = 0; i < outer; ++i)
    for (int64_t k = 0; k < indices; ++k, out += inner) {
      const int64_t from = clamp_index(b.in[1][k], extent);
      std::memcpy(out, b.in[0] + (i * extent + from) * inner, inner * sizeof(int32_t));
    }
}

std::unique_ptr<Loop> take_loop(const NodeInfo& n) {
  const TakeExtents t = take_extents(n);
  return make_loop(t.outer * t.indices, kGrain / t.inner,
                   [t](const Buffers& b, int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t k = clamp_index(b.in[1][i % t.indices], t.extent);
                       const int64_t from = i / t.indices * t.extent + k;
                       copy_run(b.in[0] + from * t.inner, t.inner, b.out[0] + i * t.inner);
                     }
                   });
}

Operator take() {
  Operator op("take", takes<2>, take_shape, first_precision, take_kernel, kByKernel, take_loop);
  op.parse = parse_take;
  op.sound = [](const NodeInfo& n) { return n.in_sound[0] != 0; };
  return op;
}

// ---- cvm_lut ---------------------------------------------------------------

struct LutAttrs : Attrs {
  int32_t in_dim = 0;
};

std::unique_ptr<Attrs> parse_cvm_lut(const AttrText& text) {
  auto a = std::make_unique<LutAttrs>();
  AttrReader in(text);
  in.required("in_dim", &a->in_dim);
  in.finish();
  return a;
}

std::vector<Shape> cvm_lut_shape(const NodeInfo& n) {
  const int32_t in_dim = n.as<LutAttrs>().in_dim;
  if (in_dim != size_of(n.in[1]))
    logic_error("attribute 'in_dim' is ", in_dim, ", expected the table's size ",
                size_of(n.in[1]));
  return {n.in[0]};
}

void cvm_lut_kernel(const NodeInfo& n, const Buffers& b) {
  const int64_t size = size_of(n.out[0]), entries = size_of(n.in[1]);
  for (int64_t i = 0; i < size; ++i) b.out[0][i] = b.in[1][clamp_index(b.in[0][i], entries)];
}

std::unique_ptr<Loop> cvm_lut_loop(const NodeInfo& n) {
  const auto last = static_cast<int32_t>(size_of(n.in[1]) - 1);
  return make_loop(size_of(n.out[0]), kGrain, [=](const Buffers& b, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      b.out[0][i] = b.in[1][std::min(std::max(b.in[0][i], 0), last)];  // without a branch
  });
}

int lower_lut(Lowering& l) {
  const int x = l.value(0);
  if (x == kNone) return kNone;
  const Param& table = l.param(1);
  if (!table || !l.spend_integers(table.count)) return kNone;
  std::vector<int32_t> values(static_cast<size_t>(table.count));
  for (int64_t i = 0; i < table.count; ++i) values[static_cast<size_t>(i)] = table[i];
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const Range range = {*low, *high};
  const auto last = static_cast<int32_t>(table.count - 1);
  return l.ir().look_up(x, l.ir().keep(std::move(values)), last, range);
}

Operator cvm_lut() {
  Operator op(
      "cvm_lut", takes<2>, cvm_lut_shape,
      [](const NodeInfo& n) { return std::vector<int>{n.in_precision[1]}; }, cvm_lut_kernel,
      lower_lut, cvm_lut_loop);
  op.parse = parse_cvm_lut;
  op.sound = [](const NodeInfo& n) { return n.in_sound[1] != 0; };
  return op;
}

// ---- where -----------------------------------------------------------------

std::vector<Shape> where_shape(const NodeInfo& n) {
  const Shape &cond = n.in[0], &a = n.in[1];
  if (a != n.in[2])
    logic_error("the inputs 1 and 2 have shapes ", to_string(a), " and ", to_string(n.in[2]),
                ", expected equal shapes");
  if (cond != a && cond != Shape{a[0]})
    logic_error("the condition has shape ", to_string(cond), ", expected ", to_string(a),
                " or (", a[0], ",)");
  return {a};
}

// The precision is that of the condition, however wide the data are.
bool where_sound(const NodeInfo& n) {
  return n.in_sound[1] && n.in_sound[2] && n.in_precision[1] <= n.in_precision[0] &&
         n.in_precision[2] <= n.in_precision[0];
}

void where_kernel(const NodeInfo& n, const Buffers& b) {
  // One condition decides `run` elements: 1, or a whole slab of axis 0.
  const int64_t size = size_of(n.out[0]), run = size / size_of(n.in[0]);
  for (int64_t i = 0; i < size; ++i) b.out[0][i] = b.in[b.in[0][i / run] != 0 ? 1 : 2][i];
}

std::unique_ptr<Loop> where_loop(const NodeInfo& n) {
  const int64_t conditions = size_of(n.in[0]), run = size_of(n.out[0]) / conditions;
  if (run == 1)
    return make_loop(conditions, kGrain, [](const Buffers& b, int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        b.out[0][i] = b.in[0][i] != 0 ? b.in[1][i] : b.in[2][i];
    });
  return make_loop(conditions, kGrain / run, [=](const Buffers& b, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      copy_run(b.in[b.in[0][i] != 0 ? 1 : 2] + i * run, run, b.out[0] + i * run);
  });
}

Operator where() {
  Operator op("where", takes<3>, where_shape, first_precision, where_kernel, kByKernel, where_loop);
  op.sound = where_sound;
  return op;
}

}  // namespace

std::vector<Operator> select_operators() { return {take(), cvm_lut(), where()}; }

}  // namespace cvm
