// conv2d and dense.
#include <algorithm>

#include "ops/arith.h"
#include "ops/attr_reader.h"
#include "ops/lowering.h"
#include "ops/window.h"

namespace cvm {
namespace {

// conv2d and dense: operands of at most 8 bits, `terms` products per output.
std::vector<int> product_precision(const NodeInfo& n, int64_t terms) {
  for (int i : {0, 1})
    if (n.in_precision[i] > 8)
      logic_error("input ", i, " has precision ", n.in_precision[i], ", expected at most 8");
  int bits = n.in_precision[0] + n.in_precision[1] + sum_bits(terms);
  if (n.in.size() == 3) bits = std::max(bits, n.in_precision[2]) + 1;
  return {bits};
}

// ---- both, lowered: a dense layer is a convolution whose window is all of its input

// Bytes of the packed weights at most: what a window reads, and the channels of a group, are padded.
int64_t packed_bytes(const ConvSpec& s, int64_t in, int64_t out) {
  constexpr int64_t kPanel = 32, kRun = 4;
  const auto up = [](int64_t a, int64_t b) { return (a + b - 1) / b * b; };
  if (s.groups == in && in == out) return up(out, kPanel) * up(s.kernel_h, kRun) * s.kernel_w;
  return s.groups * up(out / s.groups, kPanel) * up(in / s.groups, kRun) * s.kernel_h * s.kernel_w;
}

// The range of a convolution's results, exact for its weights.
Range sums(const ConvSpec& spec, int64_t channels, int64_t depth, Range in) {
  Range all = {INT64_MAX, INT64_MIN};
  for (int64_t c = 0; c < channels; ++c) {
    int32_t positive = 0, total = 0;
    for (int64_t k = 0; k < depth; ++k) {
      const int32_t w = spec.weights[c * depth + k];
      total += w;
      positive += w > 0 ? w : 0;
    }
    const int64_t negative = int64_t{total} - positive, bias = spec.bias ? spec.bias[c] : 0;
    all.low = std::min(all.low, positive * in.low + negative * in.high + bias);
    all.high = std::max(all.high, positive * in.high + negative * in.low + bias);
  }
  return all;
}

int lower_products(Lowering& l, int x, ConvSpec spec, Padding padding, Dims out) {
  const int64_t count = l.param(1).count;
  if (!l.spend(packed_bytes(spec, l[x].dims.c, out.c) + count) || !l.spend_integers(out.c))
    return kNone;
  spec.weights = l.weights(1);
  if (l.node().in.size() == 3) {
    const Param& b = l.param(2);
    if (!b) return kNone;
    std::vector<int32_t> bias(static_cast<size_t>(out.c));
    for (int64_t c = 0; c < out.c; ++c) bias[static_cast<size_t>(c)] = b[c];
    spec.bias = l.ir().keep(std::move(bias));
  }
  Value v;
  v.kind = Kind::kConv;
  v.dims = out;
  v.inputs = {x};
  v.conv = spec;
  v.padding = padding;
  Range in = l[x].range;
  if (!padding.empty()) in = {std::min<int64_t>(in.low, 0), std::max<int64_t>(in.high, 0)};
  v.range = sums(spec, out.c, count / out.c, in);
  const int64_t bound = int_max(l.node().out_precision[0]);
  v.range = {std::max(v.range.low, -bound), std::min(v.range.high, bound)};
  return l.ir().make(std::move(v));
}

// ---- conv2d ----------------------------------------------------------------

struct Conv2dAttrs : Attrs {
  int32_t channels = 0, groups = 1;
  Tuple kernel_size, strides = {1, 1}, padding = {0, 0}, dilation = {1, 1};
  std::string layout = "NCHW", kernel_layout = "OIHW", out_layout = "__undef__", out_dtype = "same";
  bool use_bias = true;
};

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

int lower_conv2d(Lowering& l) {
  const auto& a = l.node().as<Conv2dAttrs>();
  const int x = l.param(1) ? l.value(0) : kNone;
  if (x == kNone) return kNone;
  ConvSpec spec;
  spec.kernel_h = a.kernel_size[0], spec.kernel_w = a.kernel_size[1];
  spec.stride_h = a.strides[0], spec.stride_w = a.strides[1];
  spec.dilation_h = a.dilation[0], spec.dilation_w = a.dilation[1];
  spec.groups = a.groups;
  const Padding padding{a.padding[0], a.padding[1], a.padding[0], a.padding[1], 0};
  if (spec.kernel_h * spec.kernel_w > kMaxTaps || !grows_little(l[x].dims, padding)) return kNone;
  const Shape& y = l.node().out[0];
  return lower_products(l, x, spec, padding, {y[0], y[2], y[3], y[1]});
}

Operator conv2d() {
  Operator op(
      "conv2d", [](const Attrs* a) { return static_cast<const Conv2dAttrs*>(a)->use_bias ? 3 : 2; },
      conv2d_shape, [](const NodeInfo& n) { return product_precision(n, products_per_output(n)); },
      conv2d_kernel, lower_conv2d, kOneThread);
  op.parse = parse_conv2d;
  op.cost = [](const NodeInfo& n) {
    return 3 * products_per_output(n) + (n.as<Conv2dAttrs>().use_bias ? 1 : 0);
  };
  return op;
}

// ---- dense -----------------------------------------------------------------

struct DenseAttrs : Attrs {
  int32_t units = 0;
  bool use_bias = true;
};

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

int lower_dense(Lowering& l) {
  const int x = l.param(1) ? l.value(0) : kNone;
  if (x == kNone) return kNone;
  const Dims in = l[x].dims;
  ConvSpec spec;
  spec.kernel_h = in.h, spec.kernel_w = in.w;
  if (in.h * in.w > kMaxTaps) return kNone;
  return lower_products(l, x, spec, {}, {in.n, 1, 1, l.node().out[0][1]});
}

Operator dense() {
  Operator op(
      "dense", [](const Attrs* a) { return static_cast<const DenseAttrs*>(a)->use_bias ? 3 : 2; },
      dense_shape, [](const NodeInfo& n) { return product_precision(n, n.in[0][1]); }, dense_kernel,
      lower_dense, kOneThread);
  op.parse = parse_dense;
  op.cost = [](const NodeInfo& n) {
    return 3 * n.in[1][1] + (n.as<DenseAttrs>().use_bias ? 1 : 0);
  };
  return op;
}

}  // namespace

std::vector<Operator> conv_operators() { return {conv2d(), dense()}; }

}  // namespace cvm
