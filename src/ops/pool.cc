// max_pool2d and upsampling.
#include <algorithm>
#include <limits>

#include "ops/lowering.h"
#include "ops/move.h"
#include "ops/window.h"

namespace cvm {
namespace {

// ---- max_pool2d ------------------------------------------------------------

struct PoolAttrs : Attrs {
  Tuple pool_size, strides = {1, 1}, padding = {0, 0};
  std::string layout = "NCHW";
  bool ceil_mode = false;
  int64_t pad(int axis) const { return padding[padding.size() == 1 ? 0 : axis]; }
};

std::unique_ptr<Attrs> parse_pool(const AttrText& text) {
  auto a = std::make_unique<PoolAttrs>();
  AttrReader in(text);
  in.required("pool_size", &a->pool_size);
  in.optional("strides", &a->strides);
  in.optional("padding", &a->padding);
  in.optional("layout", &a->layout);
  in.optional("ceil_mode", &a->ceil_mode);
  in.finish();
  return a;
}

void check_pool(const PoolAttrs& a) {
  if (a.pool_size.size() != 2)
    logic_error("attribute 'pool_size' is ", to_string(a.pool_size), ", expected two items");
  expect_pair(a.strides, 1, "strides");
  if (a.padding.size() != 1 && a.padding.size() != 2)
    logic_error("attribute 'padding' is ", to_string(a.padding), ", expected one or two items");
  for (int64_t pad : a.padding) expect_range(pad, 0, kMaxBounded, "padding");
  expect_text(a.layout, "NCHW", "layout");
}

std::vector<Shape> pool_shape(const NodeInfo& n) {
  const auto& a = n.as<PoolAttrs>();
  check_pool(a);
  const Shape& x = n.in[0];
  expect_rank(x, 4, "the input");
  Shape out = {x[0], x[1], 0, 0};
  for (int i : {0, 1}) {
    const int64_t pool = a.pool_size[i], stride = a.strides[i], pad = a.pad(i), extent = x[2 + i];
    if (pool <= pad || pool > extent + 2 * pad)
      logic_error("attribute 'pool_size' has the item ", pool, ", expected more than the padding ",
                  pad, " and at most the padded extent ", extent + 2 * pad);
    const int64_t room = extent + 2 * pad - pool;
    out[2 + i] = (a.ceil_mode ? room + stride - 1 : room) / stride + 1;
    if ((out[2 + i] - 1) * stride - pad >= extent)
      logic_error("ceil_mode makes the last window start outside the input of extent ", extent);
  }
  return {out};
}

void pool_kernel(const NodeInfo& n, const Buffers& b) {
  const auto& a = n.as<PoolAttrs>();
  const Shape &x = n.in[0], &y = n.out[0];
  int32_t* out = b.out[0];
  for (int64_t plane = 0; plane < y[0] * y[1]; ++plane) {
    const int32_t* in = b.in[0] + plane * x[2] * x[3];
    for (int64_t p = 0; p < y[2]; ++p)
      for (int64_t q = 0; q < y[3]; ++q) {
        int32_t best = std::numeric_limits<int32_t>::min();
        const int64_t row0 = p * a.strides[0] - a.pad(0), col0 = q * a.strides[1] - a.pad(1);
        for (int64_t r = row0; r < row0 + a.pool_size[0]; ++r)
          for (int64_t c = col0; c < col0 + a.pool_size[1]; ++c)
            if (r >= 0 && r < x[2] && c >= 0 && c < x[3]) best = std::max(best, in[r * x[3] + c]);
        *out++ = best;
      }
  }
}

int lower_pool(Lowering& l) {
  const auto& a = l.node().as<PoolAttrs>();
  const int x = l.value(0);
  if (x == kNone) return kNone;
  const Dims in = l[x].dims;
  const Shape& y = l.node().out[0];
  Value v;
  v.kind = Kind::kMaxPool;
  v.dims = {y[0], y[2], y[3], y[1]};
  v.range = l[x].range;
  v.inputs = {x};
  v.conv.kernel_h = a.pool_size[0], v.conv.kernel_w = a.pool_size[1];
  v.conv.stride_h = a.strides[0], v.conv.stride_w = a.strides[1];
  const auto after = [&](int axis, int64_t out, int64_t extent) {
    return std::max<int64_t>(
        0, (out - 1) * a.strides[axis] + a.pool_size[axis] - a.pad(axis) - extent);
  };
  v.padding = {a.pad(0), a.pad(1), after(0, v.dims.h, in.h), after(1, v.dims.w, in.w), INT32_MIN};
  if (!l.takes_taps(a.pool_size[0] * a.pool_size[1]) || !grows_little(in, v.padding)) return kNone;
  return l.ir().make(std::move(v));
}

Operator max_pool2d() {
  Operator op("max_pool2d", takes<1>, pool_shape, first_precision, pool_kernel, lower_pool,
              kOneThread);
  op.parse = parse_pool;
  op.cost = [](const NodeInfo& n) {
    const auto& a = n.as<PoolAttrs>();
    return a.pool_size[0] * a.pool_size[1];
  };
  return op;
}

// ---- upsampling ------------------------------------------------------------

struct UpsamplingAttrs : Attrs {
  int32_t scale = 0;
  std::string layout = "NCHW", method = "NEAREST_NEIGHBOR";
};

std::unique_ptr<Attrs> parse_upsampling(const AttrText& text) {
  auto a = std::make_unique<UpsamplingAttrs>();
  AttrReader in(text);
  in.required("scale", &a->scale);
  in.optional("layout", &a->layout);
  in.optional("method", &a->method);
  in.finish();
  return a;
}

std::vector<Shape> upsampling_shape(const NodeInfo& n) {
  const auto& a = n.as<UpsamplingAttrs>();
  const Shape& x = n.in[0];
  expect_rank(x, 4, "the input");
  expect_range(a.scale, 1, kMaxBounded, "scale");
  expect_text(a.layout, "NCHW", "layout");
  expect_text(a.method, "NEAREST_NEIGHBOR", "method");
  return {{x[0], x[1], x[2] * a.scale, x[3] * a.scale}};
}

void upsampling_kernel(const NodeInfo& n, const Buffers& b) {
  const int32_t scale = n.as<UpsamplingAttrs>().scale;
  const Shape &x = n.in[0], &y = n.out[0];
  int32_t* out = b.out[0];
  for (int64_t plane = 0; plane < y[0] * y[1]; ++plane)
    for (int64_t h = 0; h < y[2]; ++h)
      for (int64_t w = 0; w < y[3]; ++w)
        *out++ = b.in[0][(plane * x[2] + h / scale) * x[3] + w / scale];
}

std::unique_ptr<Loop> upsampling_loop(const NodeInfo& n) {
  const int64_t scale = n.as<UpsamplingAttrs>().scale;
  const Shape& x = n.in[0];
  Move move;
  move.add(x[0] * x[1] * x[2], x[3]);
  move.add(scale, 0);
  move.add(x[3], 1);
  move.add(scale, 0);
  return move_loop(move);
}

Operator upsampling() {
  Operator op("upsampling", takes<1>, upsampling_shape, first_precision, upsampling_kernel,
              kByKernel, upsampling_loop);
  op.parse = parse_upsampling;
  return op;
}

}  // namespace

std::vector<Operator> pool_operators() { return {max_pool2d(), upsampling()}; }

}  // namespace cvm
