// max_pool2d: each tap of the window is a maximum over a whole output row.
#include <algorithm>
#include <limits>

#include "cpu/kernels.h"
#include "ops/nn.h"

namespace cvm {
namespace {

constexpr int64_t kWorkPerChunk = 1 << 14;

// Outputs q of 0..count-1 whose column q * stride + offset lies in 0..extent-1.
struct Range {
  int64_t begin, end;
};
Range inside(int64_t count, int64_t stride, int64_t offset, int64_t extent) {
  const int64_t begin = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
  const int64_t room = extent - 1 - offset;
  const int64_t end = room < 0 ? 0 : std::min(count, room / stride + 1);
  return {std::min(begin, end), end};
}

class PoolKernel : public Kernel {
 public:
  explicit PoolKernel(const NodeInfo& n) : Kernel(n), a_(n.as<PoolAttrs>()) {}

  void run(const Buffers& b, ThreadPool& pool) const override {
    const Shape &x = info().in[0], &y = info().out[0];
    const int64_t work = y[2] * y[3] * a_.pool_size[0] * a_.pool_size[1];
    pool.parallel_for(y[0] * y[1], std::max<int64_t>(1, kWorkPerChunk / work),
                      [&](int64_t begin, int64_t end, int) {
                        for (int64_t k = begin; k < end; ++k)
                          run_plane(b.in[0] + k * x[2] * x[3], b.out[0] + k * y[2] * y[3]);
                      });
  }

 private:
  void run_plane(const int32_t* in, int32_t* out) const {
    const Shape &x = info().in[0], &y = info().out[0];
    for (int64_t p = 0; p < y[2]; ++p, out += y[3]) {
      std::fill_n(out, y[3], std::numeric_limits<int32_t>::min());
      const int64_t top = p * a_.strides[0] - a_.pad(0);
      const int64_t bottom = std::min(top + a_.pool_size[0], x[2]);
      for (int64_t r = std::max<int64_t>(top, 0); r < bottom; ++r)
        for (int64_t c = 0; c < a_.pool_size[1]; ++c) max_row(in + r * x[3], c - a_.pad(1), out);
    }
  }

  void max_row(const int32_t* row, int64_t offset, int32_t* out) const {
    const int64_t stride = a_.strides[1];
    const Range q = inside(info().out[0][3], stride, offset, info().in[0][3]);
    for (int64_t i = q.begin; i < q.end; ++i) out[i] = std::max(out[i], row[i * stride + offset]);
  }

  const PoolAttrs& a_;
};

}  // namespace

std::unique_ptr<Kernel> make_max_pool2d(const NodeInfo& n, const Constants&) {
  return std::make_unique<PoolKernel>(n);
}

}  // namespace cvm
