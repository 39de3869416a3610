// conv2d with few products per output, as in depthwise layers: too short for
// dot products, so each kernel tap is multiplied with a whole row instead.
//
// A plane is narrowed to int16, zero-padded, and its columns are sorted by
// their remainder modulo the stride, so that the row a tap meets is contiguous.
#include <algorithm>

#include "aligned.h"
#include "cpu/conv2d.h"
#include "cpu/kernels.h"
#include "ops/arith.h"

namespace cvm {
namespace {

constexpr int64_t kFewProducts = 32;

class GroupedConvKernel : public Kernel {
 public:
  GroupedConvKernel(const NodeInfo& n, const int32_t* weight) : Kernel(n), g_(conv_geometry(n)) {
    phase_ = (g_.padded_w + g_.stride_w - 1) / g_.stride_w;
    row_ = phase_ * g_.stride_w;
    weights_.assign(weight, weight + size_of(n.in[1]));
  }

  int64_t scratch_bytes(int threads) const override { return threads * plane_bytes(); }
  bool reads_input(int index) const override { return index != 1; }

  void run(const Buffers& b, ThreadPool& pool) const override {
    pool.parallel_for(g_.batch * g_.out_channels(), 1, [&](int64_t begin, int64_t end, int thread) {
      char* scratch = static_cast<char*>(b.scratch) + thread * plane_bytes();
      for (int64_t k = begin; k < end; ++k)
        run_plane(b, k / g_.out_channels(), k % g_.out_channels(), reinterpret_cast<int16_t*>(scratch));
    });
  }

 private:
  int64_t plane_bytes() const { return align_up(g_.padded_h * row_ * 2); }

  void lay_out(const int32_t* in, int16_t* plane) const {
    std::fill_n(plane, g_.padded_h * row_, int16_t{0});
    for (int64_t h = 0; h < g_.in_h; ++h) {
      int16_t* row = plane + (h + g_.pad_h) * row_;
      const int32_t* from = in + h * g_.in_w;
      for (int64_t rest = 0; rest < g_.stride_w; ++rest) {
        // Column k * stride + rest of the padded row goes to place k of its part.
        const int64_t first = std::max<int64_t>(0, (g_.pad_w - rest + g_.stride_w - 1) / g_.stride_w);
        const int64_t last = (g_.pad_w + g_.in_w - rest + g_.stride_w - 1) / g_.stride_w;
        int16_t* part = row + rest * phase_;
        for (int64_t k = first; k < last; ++k)
          part[k] = static_cast<int16_t>(from[k * g_.stride_w + rest - g_.pad_w]);
      }
    }
  }

  // out[q] += tap * row[q]
  static void add_row(const int16_t* row, int16_t tap, int64_t count, int32_t* out) {
    for (int64_t q = 0; q < count; ++q) out[q] += row[q] * tap;
  }

  void run_plane(const Buffers& b, int64_t image, int64_t oc, int16_t* plane) const {
    int32_t* out = b.out[0] + (image * g_.out_channels() + oc) * g_.out_h * g_.out_w;
    // The sums start from 0 and get the bias last: they stay within their
    // proven bits, which the bias alone might not.
    std::fill_n(out, g_.out_h * g_.out_w, 0);
    for (int64_t i = 0; i < g_.group_in; ++i) {
      const int64_t ic = oc / g_.group_out * g_.group_in + i;
      lay_out(b.in[0] + (image * g_.in_channels() + ic) * g_.in_h * g_.in_w, plane);
      const int16_t* taps = weights_.data() + (oc * g_.group_in + i) * g_.kernel_h * g_.kernel_w;
      for (int64_t p = 0; p < g_.out_h; ++p)
        for (int64_t a = 0; a < g_.kernel_h; ++a) {
          const int16_t* row = plane + (p * g_.stride_h + a * g_.dilation_h) * row_;
          for (int64_t c = 0; c < g_.kernel_w; ++c) {
            const int64_t column = c * g_.dilation_w;
            add_row(row + column % g_.stride_w * phase_ + column / g_.stride_w,
                    taps[a * g_.kernel_w + c], g_.out_w, out + p * g_.out_w);
          }
        }
    }
    if (info().in.size() != 3) return;
    const int32_t bias = b.in[2][oc];
    for (int64_t k = 0; k < g_.out_h * g_.out_w; ++k) out[k] = wrap_add(out[k], bias);
  }

  ConvGeometry g_;
  int64_t phase_;  // columns of one remainder
  int64_t row_;
  std::vector<int16_t> weights_;
};

}  // namespace

std::unique_ptr<Kernel> make_grouped_conv2d(const NodeInfo& n, const Constants& constants) {
  constexpr int64_t kMostThreads = 256;
  const ConvGeometry g = conv_geometry(n);
  const bool proven = n.in_sound[0] && n.in_sound[1];
  const bool fits =
      g.padded_h * (g.padded_w + g.stride_w) <= kMostWorkingElements / kMostThreads;
  const bool few = n.as<Conv2dAttrs>().groups > 1 && size_of(n.in[1]) / n.in[1][0] < kFewProducts;
  if (!constants[1] || !proven || !fits || !few) return nullptr;
  return std::make_unique<GroupedConvKernel>(n, constants[1]);
}

}  // namespace cvm
