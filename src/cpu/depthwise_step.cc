// Convolutions of each channel by itself.
#include <algorithm>
#include <vector>

#include "cpu/epilogue_step.h"

namespace cvm {
namespace {

class DepthwiseStep : public EpilogueStep {
 public:
  DepthwiseStep(const Step& step, const Isa& isa)
      : EpilogueStep(step, isa),
        kernel_h_(static_cast<int>(step.conv.kernel_h)),
        kernel_w_(static_cast<int>(step.conv.kernel_w)) {
    const int64_t channels = step.dims.c;
    bias_.resize(static_cast<size_t>(divide_up(channels, kChannelPadding) * kChannelPadding), 0);
    for (int64_t c = 0; c < channels; ++c)
      bias_[static_cast<size_t>(c)] = bias_of(step.conv, c, kernel_h_ * kernel_w_, isa);
  }

  int64_t packed_bytes() const override {
    return isa_.depthwise_bytes(step_.dims.c, kernel_h_, kernel_w_);
  }
  void pack(char* to) override {
    isa_.pack_depthwise(step_.conv.weights, step_.dims.c, kernel_h_, kernel_w_, to);
    weights_ = to;
  }

 private:
  // Where the rows of a window start.
  int64_t more_scratch() const override {
    return align_up(kernel_h_ * static_cast<int64_t>(sizeof(uint8_t*)));
  }

  void run_pieces(Span images, char* arena, char* scratch, Team& team) const override {
    const Dims& d = step_.dims;
    const int64_t tiles = divide_up(d.w, isa_.depthwise_pixels), first = images.begin * d.h;
    const int64_t grain = std::max<int64_t>(1, kWorkPerItem / (d.w * d.c * kernel_h_ * kernel_w_));
    team.parallel_for(images.size() * d.h, grain, [&](int64_t begin, int64_t end, int thread) {
      const Own o = own(scratch, thread);
      auto** const starts = reinterpret_cast<const uint8_t**>(o.more);
      for (int64_t row = first + begin; row < first + end; ++row)
        for (int64_t t = 0; t < tiles; ++t)
          run_tile(arena, row, part({0, d.w}, tiles, t), o, starts);
    });
  }

  void run_tile(char* arena, int64_t row, Span span, const Own& o, const uint8_t** starts) const {
    const Dims& d = step_.dims;
    const ConvSpec& c = step_.conv;
    DepthwisePiece p;
    start(&p, o);
    find_places(arena, {row * d.w + span.begin, row * d.w + span.end}, o.places);
    for (int a = 0; a < kernel_h_; ++a)
      starts[a] = reinterpret_cast<const uint8_t*>(arena) +
                  address(step_.in, row / d.h, row % d.h * c.stride_h + a * c.dilation_h,
                          span.begin * c.stride_w);
    p.pixels = static_cast<int>(span.size());
    p.rows = starts;
    p.kernel_h = kernel_h_, p.kernel_w = kernel_w_;
    p.pixel_step = c.stride_w * step_.in.pixel_stride;
    p.tap_step = c.dilation_w * step_.in.pixel_stride;
    p.weights = weights_;
    p.bias = bias_.data();
    for (p.channel = 0; p.channel < d.c; p.channel += isa_.depthwise_channels) {
      p.channels = std::min<int64_t>(isa_.depthwise_channels, d.c - p.channel);
      isa_.depthwise(p);
    }
  }

  int kernel_h_, kernel_w_;
  const char* weights_ = nullptr;
  std::vector<int32_t> bias_;
};

}  // namespace

std::unique_ptr<CpuStep> make_depthwise_step(const Step& step, const Isa& isa) {
  return std::make_unique<DepthwiseStep>(step, isa);
}

}  // namespace cvm
