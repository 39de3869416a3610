// concatenate, which is also how networks pad their tensors.
#include <algorithm>
#include <cstring>

#include "ops/arith.h"
#include "ops/attr_reader.h"
#include "ops/lowering.h"
#include "ops/move.h"

namespace cvm {
namespace {

struct ConcatenateAttrs : Attrs {
  int32_t axis = 1;
};

std::unique_ptr<Attrs> parse_concatenate(const AttrText& text) {
  auto a = std::make_unique<ConcatenateAttrs>();
  AttrReader in(text);
  in.optional("axis", &a->axis);
  in.finish();
  return a;
}

std::vector<Shape> concatenate_shape(const NodeInfo& n) {
  Shape out = n.in[0];
  const int64_t axis =
      normal_axis(n.as<ConcatenateAttrs>().axis, static_cast<int64_t>(out.size()), "axis");
  out[axis] = 0;
  for (size_t k = 0; k < n.in.size(); ++k) {
    Shape others = n.in[k];
    if (others.size() == out.size()) others[axis] = out[axis];
    if (others != out)
      logic_error("input ", k, " has shape ", to_string(n.in[k]), ", expected that of input 0, ",
                  to_string(n.in[0]), ", except on axis ", axis);
    out[axis] += n.in[k][axis];
  }
  return {out};
}

std::vector<int> concatenate_precision(const NodeInfo& n) {
  return {*std::max_element(n.in_precision.begin(), n.in_precision.end())};
}

void concatenate_kernel(const NodeInfo& n, const Buffers& b) {
  const Shape& y = n.out[0];
  const size_t axis =
      normal_axis(n.as<ConcatenateAttrs>().axis, static_cast<int64_t>(y.size()), "axis");
  const int64_t outer = size_of(y, 0, axis);
  int32_t* out = b.out[0];
  for (int64_t i = 0; i < outer; ++i)
    for (size_t k = 0; k < n.in.size(); ++k) {
      const int64_t run = size_of(n.in[k], axis, y.size());
      std::memcpy(out, b.in[k] + i * run, run * sizeof(int32_t));
      out += run;
    }
}

std::unique_ptr<Loop> concatenate_loop(const NodeInfo& n) {
  const Shape& y = n.out[0];
  const auto rank = static_cast<int64_t>(y.size());
  const size_t axis = normal_axis(n.as<ConcatenateAttrs>().axis, rank, "axis");
  const int64_t parts = static_cast<int64_t>(n.in.size()), row = size_of(y, axis, y.size());
  std::vector<int64_t> place = {0};  // of each input within a row, and the end
  for (const Shape& x : n.in) place.push_back(place.back() + size_of(x, axis, x.size()));
  return make_loop(size_of(y, 0, axis) * parts, kGrain * parts / row,
                   [=](const Buffers& b, int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t k = i % parts, run = place[k + 1] - place[k];
                       int32_t* to = b.out[0] + i / parts * row + place[k];
                       copy_run(b.in[k] + i / parts * run, run, to);
                     }
                   });
}

// Rows or columns of one constant before and after a tensor.
int lower_pad(Lowering& l, int64_t axis) {
  int x = kNone;
  int64_t before = 0, after = 0;
  bool found = false, any = false;
  int32_t constant = 0;
  for (size_t k = 0; k < l.node().in.size(); ++k) {
    const Param& p = l.param(k);
    if (!p) {
      if (found) return kNone;
      found = true;
      x = l.value(k);
      continue;
    }
    if (!l.spend(p.count)) return kNone;
    for (int64_t i = 0; i < p.count; ++i) {
      if (any && p[i] != constant) return kNone;
      any = true, constant = p[i];
    }
    (found ? after : before) += l.node().in[k][static_cast<size_t>(axis)];
  }
  if (x == kNone) return kNone;
  if (!any) return x;
  Value v;
  const Value in = l[x];
  v.kind = Kind::kPad;
  v.dims = in.dims;
  v.padding.value = constant;
  int inner = x;
  if (in.kind == Kind::kPad && in.padding.value == constant) {
    v.padding = in.padding;  // one padding around both
    inner = in.inputs[0];
  }
  (axis == 2 ? v.dims.h : v.dims.w) += before + after;
  (axis == 2 ? v.padding.top : v.padding.left) += before;
  (axis == 2 ? v.padding.bottom : v.padding.right) += after;
  if (!grows_little(l[inner].dims, v.padding)) return kNone;
  v.range = {std::min<int64_t>(in.range.low, constant), std::max<int64_t>(in.range.high, constant)};
  v.inputs = {inner};
  return l.ir().make(std::move(v));
}

int lower_channels(Lowering& l, size_t rank) {
  Value v;
  v.kind = Kind::kConcat;
  v.range = {INT64_MAX, INT64_MIN};
  for (size_t k = 0; k < l.node().in.size(); ++k) {
    const int x = l.value(k);
    if (x == kNone) return kNone;
    const Value& in = l[x];
    if (rank == 2 && in.dims.h * in.dims.w != 1) return kNone;
    if (v.inputs.empty()) v.dims = {in.dims.n, in.dims.h, in.dims.w, 0};
    v.dims.c += in.dims.c;
    v.range = {std::min(v.range.low, in.range.low), std::max(v.range.high, in.range.high)};
    v.inputs.push_back(x);
  }
  return l.ir().make(std::move(v));
}

int lower_concatenate(Lowering& l) {
  const size_t rank = l.node().out[0].size();
  const int64_t axis =
      normal_axis(l.node().as<ConcatenateAttrs>().axis, static_cast<int64_t>(rank), "axis");
  if (rank != 4 && rank != 2) return kNone;
  if (axis >= 2) return lower_pad(l, axis);
  return axis == 1 ? lower_channels(l, rank) : kNone;
}

Operator concatenate() {
  Operator op("concatenate", takes<-1>, concatenate_shape, concatenate_precision,
              concatenate_kernel, lower_concatenate, concatenate_loop);
  op.parse = parse_concatenate;
  return op;
}

}  // namespace

std::vector<Operator> concatenate_operators() { return {concatenate()}; }

}  // namespace cvm
