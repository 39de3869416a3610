// conv2d as dot products: the input is laid out channels-last, zero-padded and
// narrowed to int16 once per image; then each output pixel's patch, a run of
// memory per kernel row, is multiplied with the packed weights.
#include <algorithm>
#include <cstring>

#include "cpu/conv2d.h"
#include "cpu/gemm.h"
#include "cpu/kernels.h"
#include "ops/arith.h"

namespace cvm {
namespace {

constexpr int64_t kPatchBytes = 32 << 10;  // patches of one tile: about the first-level cache
constexpr int64_t kMostPixels = 32;
constexpr int64_t kChannelsPerItem = 128;  // output channels of one piece of work
constexpr int64_t kTransposeStep = 16;     // columns whose channels are gathered together
constexpr int64_t kMostProducts = 1 << 16;  // per output; 8-bit operands have no more, and patches stay small

class ConvKernel : public Kernel {
 public:
  ConvKernel(const NodeInfo& n, const int32_t* weight) : Kernel(n), g_(conv_geometry(n)) {
    depth_ = g_.group_in * g_.kernel_h * g_.kernel_w;
    padded_ = gemm::pad_depth(depth_);
    // Patches that are one run of full depth are used where they lie.
    copies_ = g_.kernel_h != 1 || g_.kernel_w != 1 || padded_ != depth_;
    tile_ = std::clamp<int64_t>(kPatchBytes / (padded_ * 2) / 2 * 2, 8, kMostPixels);
    pack(weight);
  }

  int64_t scratch_bytes(int threads) const override {
    return image_bytes() + threads * patch_bytes();
  }
  bool reads_input(int index) const override { return index != 1; }

  void run(const Buffers& b, ThreadPool& pool) const override {
    auto* image = static_cast<int16_t*>(b.scratch);
    char* patches = static_cast<char*>(b.scratch) + image_bytes();
    const int32_t* bias = info().in.size() == 3 ? b.in[2] : nullptr;
    const int64_t rows = g_.groups * g_.padded_h;
    const int64_t pixels = g_.out_h * g_.out_w;
    const int64_t tiles = (pixels + tile_ - 1) / tile_;
    const int64_t splits = (g_.group_out + kChannelsPerItem - 1) / kChannelsPerItem;
    for (int64_t n = 0; n < g_.batch; ++n) {
      const int32_t* in = b.in[0] + n * g_.in_channels() * g_.in_h * g_.in_w;
      int32_t* out = b.out[0] + n * g_.out_channels() * pixels;
      pool.parallel_for(rows, std::max<int64_t>(1, rows / (4 * pool.threads())),
                        [&](int64_t begin, int64_t end, int) {
                          for (int64_t r = begin; r < end; ++r) lay_out_row(in, r, image);
                        });
      pool.parallel_for(g_.groups * splits * tiles, 1, [&](int64_t begin, int64_t end, int thread) {
        auto* buffer = reinterpret_cast<int16_t*>(patches + thread * patch_bytes());
        for (int64_t item = begin; item < end; ++item)
          run_item(image, bias, item / (splits * tiles), item / tiles % splits, item % tiles, buffer,
                   out);
      });
    }
  }

 private:
  int64_t row_elements() const { return g_.padded_w * g_.group_in; }
  int64_t image_bytes() const { return align_up(g_.groups * g_.padded_h * row_elements() * 2); }
  int64_t patch_bytes() const { return copies_ ? align_up(tile_ * padded_ * 2) : 0; }

  // [channels][group_in][kh][kw] -> [group][padded channels][kh][kw][group_in]
  void pack(const int32_t* weight) {
    group_stride_ = gemm::pad_columns(g_.group_out) * padded_;
    weights_ = gemm::make_weights(gemm::pad_columns(g_.group_out) * g_.groups, depth_);
    const int64_t taps = g_.kernel_h * g_.kernel_w;
    for (int64_t oc = 0; oc < g_.out_channels(); ++oc) {
      int16_t* to = weights_.as<int16_t>() + oc / g_.group_out * group_stride_ +
                    oc % g_.group_out * padded_;
      for (int64_t i = 0; i < g_.group_in; ++i)
        for (int64_t t = 0; t < taps; ++t)
          to[t * g_.group_in + i] = static_cast<int16_t>(weight[(oc * g_.group_in + i) * taps + t]);
    }
  }

  // One padded row of one group: [channel][column] -> [column][channel].
  void lay_out_row(const int32_t* in, int64_t row, int16_t* image) const {
    const int64_t group = row / g_.padded_h, h = row % g_.padded_h - g_.pad_h;
    int16_t* to = image + row * row_elements();
    if (h < 0 || h >= g_.in_h) {
      std::fill_n(to, row_elements(), int16_t{0});
      return;
    }
    const int64_t plane = g_.in_h * g_.in_w, channels = g_.group_in;
    const int32_t* from = in + group * channels * plane + h * g_.in_w;
    std::fill_n(to, g_.pad_w * channels, int16_t{0});
    to += g_.pad_w * channels;
    for (int64_t w = 0; w < g_.in_w; w += kTransposeStep) {
      const int64_t columns = std::min(kTransposeStep, g_.in_w - w);
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t k = 0; k < columns; ++k)
          to[(w + k) * channels + c] = static_cast<int16_t>(from[c * plane + w + k]);
    }
    std::fill_n(to + g_.in_w * channels, g_.pad_w * channels, int16_t{0});
  }

  // The patch of an output pixel; copied to `buffer` unless it lies ready.
  const int16_t* patch(const int16_t* image, int64_t pixel, int16_t* buffer) const {
    const int64_t p = pixel / g_.out_w, q = pixel % g_.out_w;
    const int16_t* from = image + p * g_.stride_h * row_elements() + q * g_.stride_w * g_.group_in;
    if (!copies_) return from;
    int16_t* to = buffer;
    for (int64_t a = 0; a < g_.kernel_h; ++a) {
      const int16_t* row = from + a * g_.dilation_h * row_elements();
      const bool adjacent = g_.dilation_w == 1;
      const int64_t run = adjacent ? g_.kernel_w * g_.group_in : g_.group_in;
      for (int64_t c = 0; c < (adjacent ? 1 : g_.kernel_w); ++c, to += run)
        std::memcpy(to, row + c * g_.dilation_w * g_.group_in, static_cast<size_t>(run) * 2);
    }
    std::fill(to, buffer + padded_, int16_t{0});
    return buffer;
  }

  // One tile of pixels times up to kChannelsPerItem output channels of a group.
  void run_item(const int16_t* image, const int32_t* bias, int64_t group, int64_t split,
                int64_t tile, int16_t* buffer, int32_t* out) const {
    const int64_t pixels = g_.out_h * g_.out_w, first = tile * tile_;
    const int64_t count = std::min(tile_, pixels - first);
    const int16_t* rows[kMostPixels];
    for (int64_t k = 0; k < count; ++k)
      rows[k] = patch(image + group * g_.padded_h * row_elements(), first + k, buffer + k * padded_);
    const int64_t begin = split * kChannelsPerItem;
    const int64_t end = std::min(begin + kChannelsPerItem, g_.group_out);
    for (int64_t c = begin; c < end; c += gemm::kColumns) {
      const int16_t* w = weights_.as<int16_t>() + group * group_stride_ + c * padded_;
      const int64_t oc = group * g_.group_out + c;
      const int64_t columns = std::min<int64_t>(gemm::kColumns, end - c);
      multiply(rows, count, w, columns, bias ? bias + oc : nullptr, out + oc * pixels + first);
    }
  }

  void multiply(const int16_t* const* rows, int64_t count, const int16_t* w, int64_t columns,
                const int32_t* bias, int32_t* out) const {
    const int64_t pixels = g_.out_h * g_.out_w;
    int32_t sums[kMostPixels + 1][gemm::kColumns];
    int64_t k = 0;
    for (; k + 2 <= count; k += 2) gemm::dot2(rows[k], rows[k + 1], w, padded_, sums[k], sums[k + 1]);
    if (k < count) gemm::dot1(rows[k], w, padded_, sums[k]);
    for (int64_t c = 0; c < columns; ++c) {
      const int32_t start = bias ? bias[c] : 0;
      for (int64_t i = 0; i < count; ++i) out[c * pixels + i] = wrap_add(sums[i][c], start);
    }
  }

  ConvGeometry g_;
  int64_t depth_, padded_, tile_, group_stride_;
  bool copies_;
  AlignedBlock weights_;
};

}  // namespace

std::unique_ptr<Kernel> make_conv2d(const NodeInfo& n, const Constants& constants) {
  const ConvGeometry g = conv_geometry(n);
  const bool proven = n.in_sound[0] && n.in_sound[1];
  const bool fits = g.padded_h * g.padded_w <= kMostWorkingElements / g.in_channels() &&
                    size_of(n.in[1]) / n.in[1][0] <= kMostProducts;
  if (!constants[1] || !proven || !fits) return nullptr;
  return std::make_unique<ConvKernel>(n, constants[1]);
}

}  // namespace cvm
