// Broadcast operators. Axes along which both inputs advance alike are merged,
// so that the inner loop is as long as it can be and has constant strides.
#include "ops/broadcast.h"

#include <algorithm>

#include "cpu/kernels.h"
#include "ops/arith.h"

namespace cvm {
namespace {

constexpr int64_t kGrain = 1 << 14;

struct Axis {
  int64_t extent, stride0, stride1;
};

// Innermost first; at least one.
std::vector<Axis> merged_axes(const NodeInfo& n) {
  const Shape& out = n.out[0];
  const auto strides0 = broadcast_strides(n.in[0], out);
  const auto strides1 = broadcast_strides(n.in[1], out);
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

template <int32_t (*F)(int32_t, int32_t)>
class BroadcastKernel : public Kernel {
 public:
  explicit BroadcastKernel(const NodeInfo& n)
      : Kernel(n), axes_(merged_axes(n)), size_(size_of(n.out[0])) {}

  void run(const Buffers& b, Team& team) const override {
    team.parallel_for(size_, kGrain,
                      [&](int64_t begin, int64_t end, int) { run_range(b, begin, end); });
  }

 private:
  void run_range(const Buffers& b, int64_t begin, int64_t end) const {
    const Axis& inner = axes_[0];
    while (begin < end) {
      const int64_t at = begin % inner.extent;
      const int64_t count = std::min(inner.extent - at, end - begin);
      int64_t offset0 = at * inner.stride0, offset1 = at * inner.stride1;
      int64_t index = begin / inner.extent;
      for (size_t k = 1; k < axes_.size(); ++k) {
        const int64_t position = index % axes_[k].extent;
        index /= axes_[k].extent;
        offset0 += position * axes_[k].stride0;
        offset1 += position * axes_[k].stride1;
      }
      run_row(b.in[0] + offset0, inner.stride0, b.in[1] + offset1, inner.stride1, count,
              b.out[0] + begin);
      begin += count;
    }
  }

  static void run_row(const int32_t* x, int64_t x_stride, const int32_t* y, int64_t y_stride,
                      int64_t count, int32_t* out) {
    // Strides of a merged inner axis are 0 or 1.
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

  std::vector<Axis> axes_;
  int64_t size_;
};

int32_t max_of(int32_t a, int32_t b) { return a > b ? a : b; }
int32_t greater_of(int32_t a, int32_t b) { return a > b ? 1 : 0; }

}  // namespace

std::unique_ptr<Kernel> make_broadcast_add(const NodeInfo& n) {
  return std::make_unique<BroadcastKernel<wrap_add>>(n);
}
std::unique_ptr<Kernel> make_broadcast_sub(const NodeInfo& n) {
  return std::make_unique<BroadcastKernel<wrap_sub>>(n);
}
std::unique_ptr<Kernel> make_broadcast_mul(const NodeInfo& n) {
  return std::make_unique<BroadcastKernel<wrap_mul>>(n);
}
std::unique_ptr<Kernel> make_broadcast_div(const NodeInfo& n) {
  return std::make_unique<BroadcastKernel<safe_div>>(n);
}
std::unique_ptr<Kernel> make_broadcast_max(const NodeInfo& n) {
  return std::make_unique<BroadcastKernel<max_of>>(n);
}
std::unique_ptr<Kernel> make_broadcast_greater(const NodeInfo& n) {
  return std::make_unique<BroadcastKernel<greater_of>>(n);
}

}  // namespace cvm
