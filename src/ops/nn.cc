// conv2d, dense, max_pool2d, upsampling.
#include "ops/nn.h"

#include <algorithm>
#include <limits>

#include "ops/arith.h"

namespace cvm {
namespace {

constexpr int64_t kMaxBounded = 4096;  // bound of strides, padding, dilation, scale

void expect_pair(const Tuple& pair, int64_t low, const char* what) {
  if (pair.size() != 2)
    logic_error("attribute '", what, "' is ", to_string(pair), ", expected two items");
  for (int64_t item : pair) expect_range(item, low, kMaxBounded, what);
}

void expect_text(const std::string& found, const char* expected, const char* what) {
  if (found != expected)
    logic_error("attribute '", what, "' is ", quoted(found), ", expected '", expected, "'");
}

// conv2d and dense: operands of at most 8 bits, `terms` products per output.
std::vector<int> product_precision(const NodeInfo& n, int64_t terms) {
  for (int i : {0, 1})
    if (n.in_precision[i] > 8)
      logic_error("input ", i, " has precision ", n.in_precision[i], ", expected at most 8");
  int bits = n.in_precision[0] + n.in_precision[1] + sum_bits(terms);
  if (n.in.size() == 3) bits = std::max(bits, n.in_precision[2]) + 1;
  return {bits};
}

// ---- conv2d ----------------------------------------------------------------

std::unique_ptr<Attrs> parse_conv2d(const AttrText& text) {
  auto a = std::make_unique<Conv2dAttrs>();
  AttrReader in(text);
  in.required("channels", &a->channels);
  in.required("kernel_size", &a->kernel_size);
  in.optional("strides", &a->strides);
  in.optional("padding", &a->padding);
  in.optional("dilation", &a->dilation);
  in.optional("groups", &a->groups);
  in.optional("layout", &a->layout);
  in.optional("kernel_layout", &a->kernel_layout);
  in.optional("out_layout", &a->out_layout);
  in.word("out_dtype", &a->out_dtype,
          {"same", "float16", "float32", "float64", "uint8", "uint16", "uint32", "uint64", "int8",
           "int16", "int32", "int64"});
  in.optional("use_bias", &a->use_bias);
  in.finish();
  return a;
}

void check_conv2d(const Conv2dAttrs& a) {
  if (a.kernel_size.size() != 2)
    logic_error("attribute 'kernel_size' is ", to_string(a.kernel_size), ", expected two items");
  expect_pair(a.strides, 1, "strides");
  expect_pair(a.padding, 0, "padding");
  expect_pair(a.dilation, 1, "dilation");
  expect_text(a.layout, "NCHW", "layout");
  expect_text(a.kernel_layout, "OIHW", "kernel_layout");
  if (a.out_layout != "__undef__") expect_text(a.out_layout, "NCHW", "out_layout");
  if (a.out_dtype != "same") expect_text(a.out_dtype, "int32", "out_dtype");
}

std::vector<Shape> conv2d_shape(const NodeInfo& n) {
  const auto& a = n.as<Conv2dAttrs>();
  check_conv2d(a);
  const Shape& x = n.in[0];
  expect_rank(x, 4, "the input");
  if (a.groups < 1 || x[1] % a.groups != 0 || a.channels % a.groups != 0)
    logic_error("attribute 'groups' is ", a.groups, ", expected a divisor of ", x[1],
                " input channels and ", a.channels, " output channels");
  const Shape weight = {a.channels, x[1] / a.groups, a.kernel_size[0], a.kernel_size[1]};
  if (n.in[1] != weight)
    logic_error("the weight has shape ", to_string(n.in[1]), ", expected ", to_string(weight));
  if (a.use_bias && n.in[2] != Shape{a.channels})
    runtime_error("the bias has shape ", to_string(n.in[2]), ", expected (", a.channels, ",)");
  Shape out = {x[0], a.channels, 0, 0};
  for (int i : {0, 1}) {
    const int64_t extent = 1 + (a.kernel_size[i] - 1) * a.dilation[i];
    const int64_t room = x[2 + i] + 2 * a.padding[i] - extent;
    if (room < 0)
      logic_error("the dilated kernel extent ", extent, " exceeds the padded input extent ",
                  extent + room);
    out[2 + i] = room / a.strides[i] + 1;
  }
  return {out};
}

int64_t products_per_output(const NodeInfo& n) { return size_of(n.in[1]) / n.in[1][0]; }

void conv2d_kernel(const NodeInfo& n, const Buffers& b) {
  const auto& a = n.as<Conv2dAttrs>();
  const Shape &x = n.in[0], &w = n.in[1], &y = n.out[0];
  const int64_t channels_per_group = y[1] / a.groups;
  int32_t* out = b.out[0];
  for (int64_t image = 0; image < y[0]; ++image)
    for (int64_t oc = 0; oc < y[1]; ++oc)
      for (int64_t p = 0; p < y[2]; ++p)
        for (int64_t q = 0; q < y[3]; ++q) {
          int32_t sum = a.use_bias ? b.in[2][oc] : 0;
          for (int64_t i = 0; i < w[1]; ++i)
            for (int64_t kh = 0; kh < w[2]; ++kh)
              for (int64_t kw = 0; kw < w[3]; ++kw) {
                const int64_t row = p * a.strides[0] + kh * a.dilation[0] - a.padding[0];
                const int64_t col = q * a.strides[1] + kw * a.dilation[1] - a.padding[1];
                if (row < 0 || row >= x[2] || col < 0 || col >= x[3]) continue;
                const int64_t ic = oc / channels_per_group * w[1] + i;
                const int32_t pixel = b.in[0][((image * x[1] + ic) * x[2] + row) * x[3] + col];
                const int32_t tap = b.in[1][((oc * w[1] + i) * w[2] + kh) * w[3] + kw];
                sum = wrap_add(sum, wrap_mul(pixel, tap));
              }
          *out++ = sum;
        }
}

Operator conv2d() {
  Operator op;
  op.name = "conv2d";
  op.arity = [](const Attrs* a) { return static_cast<const Conv2dAttrs*>(a)->use_bias ? 3 : 2; };
  op.parse = parse_conv2d;
  op.shape = conv2d_shape;
  op.precision = [](const NodeInfo& n) { return product_precision(n, products_per_output(n)); };
  op.cost = [](const NodeInfo& n) {
    return 3 * products_per_output(n) + (n.as<Conv2dAttrs>().use_bias ? 1 : 0);
  };
  op.kernel = conv2d_kernel;
  return op;
}

// ---- dense -----------------------------------------------------------------

std::unique_ptr<Attrs> parse_dense(const AttrText& text) {
  auto a = std::make_unique<DenseAttrs>();
  AttrReader in(text);
  in.required("units", &a->units);
  in.optional("use_bias", &a->use_bias);
  in.finish();
  if (a->units < 1) runtime_error("attribute 'units' is ", a->units, ", expected at least 1");
  return a;
}

std::vector<Shape> dense_shape(const NodeInfo& n) {
  const auto& a = n.as<DenseAttrs>();
  expect_rank(n.in[0], 2, "the input");
  expect_rank(n.in[1], 2, "the weight");
  const Shape weight = {a.units, n.in[0][1]};
  if (n.in[1] != weight)
    runtime_error("the weight has shape ", to_string(n.in[1]), ", expected ", to_string(weight));
  if (a.use_bias && n.in[2] != Shape{a.units})
    runtime_error("the bias has shape ", to_string(n.in[2]), ", expected (", a.units, ",)");
  return {{n.in[0][0], a.units}};
}

void dense_kernel(const NodeInfo& n, const Buffers& b) {
  const int64_t rows = n.out[0][0], units = n.out[0][1], terms = n.in[0][1];
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t u = 0; u < units; ++u) {
      int32_t sum = n.as<DenseAttrs>().use_bias ? b.in[2][u] : 0;
      for (int64_t k = 0; k < terms; ++k)
        sum = wrap_add(sum, wrap_mul(b.in[0][m * terms + k], b.in[1][u * terms + k]));
      b.out[0][m * units + u] = sum;
    }
}

Operator dense() {
  Operator op;
  op.name = "dense";
  op.arity = [](const Attrs* a) { return static_cast<const DenseAttrs*>(a)->use_bias ? 3 : 2; };
  op.parse = parse_dense;
  op.shape = dense_shape;
  op.precision = [](const NodeInfo& n) { return product_precision(n, n.in[0][1]); };
  op.cost = [](const NodeInfo& n) {
    return 3 * n.in[1][1] + (n.as<DenseAttrs>().use_bias ? 1 : 0);
  };
  op.kernel = dense_kernel;
  return op;
}

// ---- max_pool2d ------------------------------------------------------------

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

Operator max_pool2d() {
  Operator op;
  op.name = "max_pool2d";
  op.arity = [](const Attrs*) { return 1; };
  op.parse = parse_pool;
  op.shape = pool_shape;
  op.precision = [](const NodeInfo& n) { return std::vector<int>{n.in_precision[0]}; };
  op.cost = [](const NodeInfo& n) {
    const auto& a = n.as<PoolAttrs>();
    return a.pool_size[0] * a.pool_size[1];
  };
  op.kernel = pool_kernel;
  return op;
}

// ---- upsampling ------------------------------------------------------------

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

Operator upsampling() {
  Operator op;
  op.name = "upsampling";
  op.arity = [](const Attrs*) { return 1; };
  op.parse = parse_upsampling;
  op.shape = upsampling_shape;
  op.precision = [](const NodeInfo& n) { return std::vector<int>{n.in_precision[0]}; };
  op.kernel = upsampling_kernel;
  return op;
}

}  // namespace

std::vector<Operator> nn_operators() { return {conv2d(), dense(), max_pool2d(), upsampling()}; }

}  // namespace cvm
