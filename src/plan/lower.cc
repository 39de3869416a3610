#include "plan/lower.h"

#include <algorithm>
#include <string>

#include "ops/arith.h"
#include "ops/elemwise.h"
#include "ops/nn.h"
#include "ops/reduce.h"
#include "ops/transform.h"

namespace cvm {

namespace {

constexpr int kNone = -1;
constexpr int64_t kMaxTaps = 4096;
constexpr int64_t kMaxPadding = 4;  // a tensor may grow to that many times its size
// What is lowered of parameters may take so many bytes for each of the file's, and a little more; as much again
// is left for constants that later rearrangements make.
// Nodes that would need more run as kernels: thousands may share one parameter.
constexpr int64_t kMaxCopies = 64;
constexpr int64_t kSmallCopies = 2 << 20;

class Lowering {
 public:
  Lowering(const Graph& graph, const Params& params) : graph_(graph), params_(params) {
    out_.value.assign(static_cast<size_t>(graph.num_entries()), kNone);
    out_.by_kernel.assign(graph.nodes.size(), 0);
    int64_t bytes = 0;
    for (const Param& p : params) bytes += p.count * p.bits / 8;
    budget_ = kMaxCopies * bytes + kSmallCopies;
    out_.ir.max_kept = budget_ / static_cast<int64_t>(sizeof(int32_t));
  }

  Lowered run() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if (node.is_variable) continue;
      out_.ir.node = static_cast<int64_t>(i);
      const int value = provable(node) ? lower(node) : kNone;
      if (value == kNone)
        out_.by_kernel[i] = 1;
      else
        out_.value[static_cast<size_t>(node.first_entry)] = value;
    }
    return std::move(out_);
  }

 private:
  Ir& ir() { return out_.ir; }
  const Param& param(int64_t entry) const { return params_[static_cast<size_t>(entry)]; }
  const Shape& shape(int64_t entry) const { return graph_.shapes[static_cast<size_t>(entry)]; }
  int precision(int64_t entry) const { return static_cast<int>(graph_.precisions[static_cast<size_t>(entry)]); }

  // Whether so many bytes may still be made or looked at.
  bool spend(int64_t bytes) {
    if (bytes > budget_) return false;
    budget_ -= bytes;
    return true;
  }
  bool spend_integers(int64_t count) { return spend((count + kChannelPadding) * static_cast<int64_t>(sizeof(int32_t))); }

  // All entries of the node surely lie within their ranges.
  bool provable(const Node& node) const {
    const auto sound = [&](int64_t e) { return graph_.sound[static_cast<size_t>(e)] != 0; };
    return node.num_outputs == 1 && sound(node.first_entry) &&
           std::all_of(node.input_entries.begin(), node.input_entries.end(), sound);
  }

  // The value of an entry; kNone for parameters and ranks that have no channels.
  int value(int64_t entry) {
    int& v = out_.value[static_cast<size_t>(entry)];
    if (v != kNone || param(entry)) return v;
    const Shape& s = shape(entry);
    if (s.size() != 4 && s.size() != 2) return kNone;
    Value plain;
    plain.kind = Kind::kPlain;
    plain.entry = entry;
    plain.dims = s.size() == 4 ? Dims{s[0], s[2], s[3], s[1]} : Dims{s[0], 1, 1, s[1]};
    const int64_t bound = int_max(precision(entry));
    plain.range = {-bound, bound};
    return v = ir().make(std::move(plain));
  }

  int lower(const Node& node) {
    const std::string op = node.op->name;
    if (op == "conv2d") return conv2d(node);
    if (op == "dense") return dense(node);
    if (op == "max_pool2d") return max_pool2d(node);
    if (op == "sum") return sum(node);
    if (op == "concatenate") return concatenate(node);
    if (op == "flatten" || op == "reshape" || op == "squeeze") return same_order(node);
    if (node.input_entries.size() == 2 && op != "cvm_lut") return binary(node, op);
    return unary(node, op);
  }

  // ---- element by element

  int unary(const Node& node, const std::string& op) {
    static const char* const kKnown[] = {"relu", "abs", "negative", "clip", "cvm_clip", "cvm_right_shift",
                                         "cvm_left_shift", "cvm_lut"};
    if (std::none_of(std::begin(kKnown), std::end(kKnown), [&](const char* k) { return op == k; })) return kNone;
    const int x = value(node.input_entries[0]);
    if (x == kNone) return kNone;
    if (op == "relu") return ir().max(x, {0});
    if (op == "abs") return ir().abs(x);
    if (op == "negative") return ir().negate(x);
    if (op == "cvm_lut") return look_up(node, x);
    if (op == "clip") {
      const auto& a = static_cast<const ClipAttrs&>(*node.attrs);
      return ir().clamp(x, a.a_min, a.a_max);
    }
    const auto& a = static_cast<const BitsAttrs&>(*node.attrs);
    const int64_t bound = int_max(a.precision);
    if (op == "cvm_left_shift") return ir().clamp(ir().left_shift(x, a.shift_bit), -bound, bound);
    const int shifted = op == "cvm_right_shift" ? ir().round_shift(x, a.shift_bit) : x;
    return shifted == kNone ? kNone : ir().clamp(shifted, -bound, bound);
  }

  int look_up(const Node& node, int x) {
    const Param& table = param(node.input_entries[1]);
    if (!table || !spend_integers(table.count)) return kNone;
    std::vector<int32_t> values(static_cast<size_t>(table.count));
    for (int64_t i = 0; i < table.count; ++i) values[static_cast<size_t>(i)] = table[i];
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    const Range range = {*low, *high};
    return ir().look_up(x, ir().keep(std::move(values)), static_cast<int32_t>(table.count - 1), range);
  }

  // A parameter that is one integer, or one per channel of x.
  bool constant(int64_t entry, int64_t of, int x, Constant* out) {
    const Param& p = param(entry);
    const Dims dims = ir()[x].dims;
    if (p.count == 1) {
      *out = {p[0]};
      return true;
    }
    const Shape &s = shape(entry), &full = shape(of);
    const auto back = static_cast<size_t>(full.size() == 4 ? 3 : 1);  // the channels' axis from the end
    const bool channels = p.count == dims.c && s.size() >= back && s[s.size() - back] == dims.c;
    if (!channels || (full.size() == 2 && dims.h * dims.w != 1) || !spend_integers(2 * p.count)) return false;
    std::vector<int32_t> values(static_cast<size_t>(p.count));
    for (int64_t i = 0; i < p.count; ++i) values[static_cast<size_t>(i)] = p[i];
    *out = {0, ir().keep(std::move(values))};
    return true;
  }

  int binary(const Node& node, const std::string& op) {
    enum { kAdd, kSub, kMul, kMax } what;
    if (op == "elemwise_add" || op == "broadcast_add") what = kAdd;
    else if (op == "elemwise_sub" || op == "broadcast_sub") what = kSub;
    else if (op == "broadcast_mul") what = kMul;
    else if (op == "broadcast_max") what = kMax;
    else return kNone;
    const int64_t a = node.input_entries[0], b = node.input_entries[1];
    if (param(a) && param(b)) return kNone;
    const int64_t tensor = param(a) ? b : a, other = param(a) ? a : b;
    if (shape(tensor) != shape(node.first_entry)) return kNone;
    int x = value(tensor);
    if (x == kNone) return kNone;
    if (!param(other)) {
      const int y = value(other);
      if (y == kNone || !(ir()[x].dims == ir()[y].dims) || shape(other) != shape(tensor)) return kNone;
      constexpr OpCode kCodes[] = {OpCode::kAddTensor, OpCode::kSubTensor, OpCode::kMulTensor, OpCode::kMaxTensor};
      return ir().join(kCodes[what], x, y);
    }
    Constant c;
    if (!constant(other, tensor, x, &c)) return kNone;
    if (what == kMul) return ir().mul(x, c);
    if (what == kMax) return ir().max(x, c);
    if (what == kAdd) return ir().add(x, c);
    if (param(a)) return ir().add(ir().negate(x), c);
    if (!c.channels) return ir().add(x, {-c.value});
    std::vector<int32_t> negative(c.channels, c.channels + ir()[x].dims.c);
    for (int32_t& v : negative) v = -v;
    return ir().add(x, {0, ir().keep(std::move(negative))});
  }

  // ---- windows

  static bool grows_little(const Dims& d, const Padding& b) {
    return (d.h + b.top + b.bottom) * (d.w + b.left + b.right) <= kMaxPadding * d.h * d.w + kMaxTaps;
  }

  // A window without weights: each node keeps the addresses of its taps.
  bool takes_taps(int64_t taps) { return taps <= kMaxTaps && spend(taps * static_cast<int64_t>(sizeof(int64_t))); }

  const int8_t* weights(const Param& p) {
    if (p.bits == 8) return reinterpret_cast<const int8_t*>(p.data);
    std::vector<int8_t> narrow(static_cast<size_t>(p.count));
    for (int64_t i = 0; i < p.count; ++i) narrow[static_cast<size_t>(i)] = static_cast<int8_t>(p[i]);
    out_.weights.push_back(std::move(narrow));
    return out_.weights.back().data();
  }

  int conv2d(const Node& node) {
    const auto& a = static_cast<const Conv2dAttrs&>(*node.attrs);
    const int x = param(node.input_entries[1]) ? value(node.input_entries[0]) : kNone;
    if (x == kNone) return kNone;
    const Dims in = ir()[x].dims;
    ConvSpec spec;
    spec.kernel_h = a.kernel_size[0], spec.kernel_w = a.kernel_size[1];
    spec.stride_h = a.strides[0], spec.stride_w = a.strides[1];
    spec.dilation_h = a.dilation[0], spec.dilation_w = a.dilation[1];
    spec.groups = a.groups;
    const Padding padding{a.padding[0], a.padding[1], a.padding[0], a.padding[1], 0};
    if (spec.kernel_h * spec.kernel_w > kMaxTaps || !grows_little(in, padding)) return kNone;
    const Shape& y = shape(node.first_entry);
    return convolution(node, x, spec, padding, {y[0], y[2], y[3], y[1]});
  }

  // A dense layer is a convolution whose window is all of its input.
  int dense(const Node& node) {
    const int x = param(node.input_entries[1]) ? value(node.input_entries[0]) : kNone;
    if (x == kNone) return kNone;
    const Dims in = ir()[x].dims;
    ConvSpec spec;
    spec.kernel_h = in.h, spec.kernel_w = in.w;
    if (in.h * in.w > kMaxTaps) return kNone;
    return convolution(node, x, spec, {}, {in.n, 1, 1, shape(node.first_entry)[1]});
  }

  // Bytes of the packed weights at most: kernels pad what a window reads, and the channels of a group.
  static int64_t packed_bytes(const ConvSpec& s, int64_t in, int64_t out) {
    constexpr int64_t kPanel = 32, kRun = 4;
    const auto up = [](int64_t a, int64_t b) { return (a + b - 1) / b * b; };
    if (s.groups == in && in == out) return up(out, kPanel) * up(s.kernel_h, kRun) * s.kernel_w;
    return s.groups * up(out / s.groups, kPanel) * up(in / s.groups, kRun) * s.kernel_h * s.kernel_w;
  }

  int convolution(const Node& node, int x, ConvSpec spec, Padding padding, Dims out) {
    const Param& w = param(node.input_entries[1]);
    if (!spend(packed_bytes(spec, ir()[x].dims.c, out.c) + w.count) || !spend_integers(out.c)) return kNone;
    spec.weights = weights(w);
    if (node.input_entries.size() == 3) {
      const Param& b = param(node.input_entries[2]);
      if (!b) return kNone;
      std::vector<int32_t> bias(static_cast<size_t>(out.c));
      for (int64_t c = 0; c < out.c; ++c) bias[static_cast<size_t>(c)] = b[c];
      spec.bias = ir().keep(std::move(bias));
    }
    Value v;
    v.kind = Kind::kConv;
    v.dims = out;
    v.inputs = {x};
    v.conv = spec;
    v.padding = padding;
    Range in = ir()[x].range;
    if (!padding.empty()) in = {std::min<int64_t>(in.low, 0), std::max<int64_t>(in.high, 0)};
    v.range = sums(spec, out.c, w.count / out.c, in);
    const int64_t bound = int_max(precision(node.first_entry));
    v.range = {std::max(v.range.low, -bound), std::min(v.range.high, bound)};
    return ir().make(std::move(v));
  }

  // The range of a convolution's results, exact for its weights.
  static Range sums(const ConvSpec& spec, int64_t channels, int64_t depth, Range in) {
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

  int max_pool2d(const Node& node) {
    const auto& a = static_cast<const PoolAttrs&>(*node.attrs);
    const int x = value(node.input_entries[0]);
    if (x == kNone) return kNone;
    const Dims in = ir()[x].dims;
    const Shape& y = shape(node.first_entry);
    Value v;
    v.kind = Kind::kMaxPool;
    v.dims = {y[0], y[2], y[3], y[1]};
    v.range = ir()[x].range;
    v.inputs = {x};
    v.conv.kernel_h = a.pool_size[0], v.conv.kernel_w = a.pool_size[1];
    v.conv.stride_h = a.strides[0], v.conv.stride_w = a.strides[1];
    const auto after = [](int64_t out, int64_t stride, int64_t pool, int64_t pad, int64_t extent) {
      return std::max<int64_t>(0, (out - 1) * stride + pool - pad - extent);
    };
    v.padding = {a.pad(0), a.pad(1), after(v.dims.h, a.strides[0], a.pool_size[0], a.pad(0), in.h),
                 after(v.dims.w, a.strides[1], a.pool_size[1], a.pad(1), in.w), INT32_MIN};
    if (!takes_taps(a.pool_size[0] * a.pool_size[1]) || !grows_little(in, v.padding)) return kNone;
    return ir().make(std::move(v));
  }

  // Sums over all of height and width.
  int sum(const Node& node) {
    const Shape& s = shape(node.input_entries[0]);
    if (s.size() != 4) return kNone;
    const auto axes = reduced_axes(static_cast<const ReduceAttrs&>(*node.attrs), s.size());
    const int x = value(node.input_entries[0]);
    if (x == kNone || axes[0] || axes[1] || !axes[2] || !axes[3]) return kNone;
    const Dims in = ir()[x].dims;
    const int64_t count = in.h * in.w;
    Value v;
    v.kind = Kind::kSum;
    v.dims = {in.n, 1, 1, in.c};
    // The byte codes of values are summed, which are up to 128 larger.
    v.range = {(ir()[x].range.low) * count, (ir()[x].range.high) * count};
    v.inputs = {x};
    v.conv.kernel_h = in.h, v.conv.kernel_w = in.w;
    if (!takes_taps(count) || v.range.high + kZeroPoint * count > INT32_MAX) return kNone;
    return ir().make(std::move(v));
  }

  // ---- moving data

  // Operators that keep the row-major order, where that keeps channels as they are.
  int same_order(const Node& node) {
    const Shape &from = shape(node.input_entries[0]), &to = shape(node.first_entry);
    if ((from.size() != 4 && from.size() != 2) || (to.size() != 4 && to.size() != 2)) return kNone;
    const int x = value(node.input_entries[0]);
    if (x == kNone) return kNone;
    const Dims d = ir()[x].dims;
    if (to[0] != d.n) return kNone;
    if (to.size() == 2) return x;  // (n, c, h, w) -> (n, c * h * w)
    return to[1] == d.c && to[2] == d.h && to[3] == d.w ? x : kNone;
  }

  int concatenate(const Node& node) {
    const auto rank = static_cast<int64_t>(shape(node.first_entry).size());
    const int64_t axis = normal_axis(static_cast<const AxisAttrs&>(*node.attrs).axis, rank, "axis");
    if (rank != 4 && rank != 2) return kNone;
    if (axis >= 2) return pad(node, axis);
    if (axis != 1) return kNone;
    Value v;
    v.kind = Kind::kConcat;
    v.range = {INT64_MAX, INT64_MIN};
    for (int64_t e : node.input_entries) {
      const int x = value(e);
      if (x == kNone) return kNone;
      const Value& in = ir()[x];
      if (rank == 2 && in.dims.h * in.dims.w != 1) return kNone;
      if (v.inputs.empty()) v.dims = {in.dims.n, in.dims.h, in.dims.w, 0};
      v.dims.c += in.dims.c;
      v.range = {std::min(v.range.low, in.range.low), std::max(v.range.high, in.range.high)};
      v.inputs.push_back(x);
    }
    return ir().make(std::move(v));
  }

  // Rows or columns of one constant before and after a tensor.
  int pad(const Node& node, int64_t axis) {
    int x = kNone;
    int64_t before = 0, after = 0;
    bool found = false, any = false;
    int32_t constant = 0;
    for (int64_t e : node.input_entries) {
      const Param& p = param(e);
      if (!p) {
        if (found) return kNone;
        found = true;
        x = value(e);
        continue;
      }
      if (!spend(p.count)) return kNone;
      for (int64_t i = 0; i < p.count; ++i) {
        if (any && p[i] != constant) return kNone;
        any = true, constant = p[i];
      }
      (found ? after : before) += shape(e)[static_cast<size_t>(axis)];
    }
    if (x == kNone) return kNone;
    if (!any) return x;
    Value v;
    const Value in = ir()[x];
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
    if (!grows_little(ir()[inner].dims, v.padding)) return kNone;
    v.range = {std::min<int64_t>(in.range.low, constant), std::max<int64_t>(in.range.high, constant)};
    v.inputs = {inner};
    return ir().make(std::move(v));
  }

  const Graph& graph_;
  const Params& params_;
  Lowered out_;
  int64_t budget_ = 0;
};

}  // namespace

Lowered lower(const Graph& graph, const Params& params) { return Lowering(graph, params).run(); }

}  // namespace cvm
