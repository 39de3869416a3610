// Convolutions as matrix products, with the maxima of their results or without.
#include <algorithm>
#include <vector>

#include "cpu/epilogue_step.h"

namespace cvm {
namespace {

// Bytes of weights that all pixels are multiplied with in turn.
constexpr int64_t kWeightsInCache = 384 << 10;

// The patch of an output pixel as runs of bytes that lie one after the other
// in memory, as long as the tensor allows.
struct Runs {
  std::vector<int64_t> taps;  // bytes from the patch's start
  int64_t taps_h = 1, taps_w = 1;  // of the kernel, in one run
  int64_t length = 0;         // bytes, without padding
};

Runs find_runs(const View& in, const ConvSpec& conv, int64_t group_in) {
  Runs r;
  const bool pixels = conv.groups == 1 && in.pixel_stride == group_in &&
                      (conv.dilation_w == 1 || conv.kernel_w == 1);
  if (pixels) r.taps_w = conv.kernel_w;
  const bool rows = pixels && in.row_stride == conv.kernel_w * in.pixel_stride &&
                    (conv.dilation_h == 1 || conv.kernel_h == 1);
  if (rows) r.taps_h = conv.kernel_h;
  r.length = r.taps_h * r.taps_w * group_in;
  for (int64_t a = 0; a < conv.kernel_h; a += r.taps_h)
    for (int64_t b = 0; b < conv.kernel_w; b += r.taps_w)
      r.taps.push_back(a * conv.dilation_h * in.row_stride + b * conv.dilation_w * in.pixel_stride);
  return r;
}

class ConvStep : public EpilogueStep {
 public:
  ConvStep(const Step& step, const Isa& isa) : EpilogueStep(step, isa) {
    group_in_ = step.in.dims.c / step.conv.groups;
    group_out_ = step.dims.c / step.conv.groups;
    runs_ = find_runs(step.in, step.conv, group_in_);
    run_ = divide_up(runs_.length, 4) * 4;
    depth_ = run_ * static_cast<int64_t>(runs_.taps.size());
    panels_ = divide_up(group_out_, isa.panel);
    panel_bytes_ = align_up(isa.panel_bytes(depth_));
  }

  int64_t packed_bytes() const override { return all_panels() * panel_bytes_; }

  void pack(char* to) override {
    const ConvSpec& c = step_.conv;
    weights_ = to;
    bias_.assign(static_cast<size_t>(all_panels() * isa_.panel), 0);
    const int64_t kernel = c.kernel_h * c.kernel_w;
    std::vector<int8_t> rows(static_cast<size_t>(isa_.panel * depth_), 0);
    for (int64_t p = 0; p < all_panels(); ++p) {
      const int64_t first = p % panels_ * isa_.panel, group = p / panels_;
      const int64_t channels = std::min<int64_t>(isa_.panel, group_out_ - first);
      for (int64_t k = 0; k < channels; ++k) {
        const int64_t channel = group * group_out_ + first + k;
        pack_row(c.weights + channel * group_in_ * kernel, rows.data() + k * depth_);
        bias_[static_cast<size_t>(p * isa_.panel + k)] =
            bias_of(c, channel, group_in_ * kernel, isa_);
      }
      isa_.pack(rows.data(), channels, depth_, to + p * panel_bytes_);
    }
  }

 protected:
  int64_t all_panels() const { return panels_ * step_.conv.groups; }

  // For the inputs of a piece in 16 bits.
  int64_t widened_bytes() const {
    return isa_.widens && depth_ <= kMaxWidened ? align_up(isa_.conv_pixels * depth_ * 2) : 0;
  }
  int64_t more_scratch() const override { return widened_bytes(); }

  // Runs a piece, whose pixels are set, for panel k of the weights.
  void run_panel(int64_t k, ConvPiece* p) const {
    p->taps = runs_.taps.data();
    p->num_taps = static_cast<int64_t>(runs_.taps.size());
    p->run = run_;
    const int64_t first = k % panels_ * isa_.panel;
    p->channel = k / panels_ * group_out_ + first;
    p->channels = std::min<int64_t>(isa_.panel, group_out_ - first);
    p->weights = weights_ + k * panel_bytes_;
    p->bias = bias_.data() + k * isa_.panel;
    isa_.conv(*p);
  }

 private:

  // [group_in][kernel_h][kernel_w] -> [tap][row in run][column in run][group_in]
  void pack_row(const int8_t* from, int8_t* to) const {
    const ConvSpec& c = step_.conv;
    const int64_t kernel = c.kernel_h * c.kernel_w;
    int64_t tap = 0;
    for (int64_t a = 0; a < c.kernel_h; a += runs_.taps_h)
      for (int64_t b = 0; b < c.kernel_w; b += runs_.taps_w, ++tap) {
        int8_t* run = to + tap * run_;
        for (int64_t i = 0; i < runs_.taps_h; ++i)
          for (int64_t j = 0; j < runs_.taps_w; ++j)
            for (int64_t k = 0; k < group_in_; ++k)
              *run++ = from[k * kernel + (a + i) * c.kernel_w + b + j];
      }
  }

  void run_pieces(Span images, char* arena, char* scratch, Team& team) const override {
    const Span pixels = pixels_of(images);
    const int64_t tiles = divide_up(pixels.size(), isa_.conv_pixels);
    // All pixels meet one chunk of the weights before the next is read; with
    // few pixels the chunks are the work of the threads.
    int64_t chunks = divide_up(all_panels() * panel_bytes_, kWeightsInCache);
    const int threads = team.threads();
    if (threads > 1 && tiles < 4 * threads)
      chunks = std::max(chunks, divide_up(4 * threads, tiles));
    chunks = std::min(chunks, all_panels());
    team.parallel_for(chunks * tiles, 1, [&](int64_t begin, int64_t end, int thread) {
      const Own o = own(scratch, thread);
      for (int64_t k = begin; k < end; ++k)
        run_tile(arena, part(pixels, tiles, k % tiles), part({0, all_panels()}, chunks, k / tiles),
                 o);
    });
  }

  void run_tile(char* arena, Span pixels, Span panels, const Own& o) const {
    ConvPiece p;
    start(&p, o);
    char* windows[kMaxPixels];
    const uint8_t* in[kMaxPixels];
    find_places(arena, pixels, o.places);
    find_windows(arena, pixels, windows);
    p.pixels = static_cast<int>(pixels.size());
    p.in = in;
    Widened widened = {reinterpret_cast<int16_t*>(o.more), false};
    p.widened = &widened;
    int64_t loaded = -1;  // group whose patches `in` points to
    for (int64_t k = panels.begin; k < panels.end; ++k) {
      const int64_t group = k / panels_;
      if (group != loaded) {
        for (int i = 0; i < p.pixels; ++i)
          in[i] = reinterpret_cast<const uint8_t*>(windows[i]) + group * group_in_;
        loaded = group, widened.valid = false;
      }
      run_panel(k, &p);
    }
  }

  int64_t group_in_, group_out_;
  Runs runs_;
  int64_t run_, depth_;  // with padding
  int64_t panels_, panel_bytes_;
  const char* weights_ = nullptr;
  std::vector<int32_t> bias_;
};

// A convolution and the maxima over windows of its results, of which only the
// rows of a window are kept, for the channels of one panel.
class PooledConvStep : public ConvStep {
 public:
  PooledConvStep(const Step& step, const Isa& isa)
      : ConvStep(step, isa),
        pool_(step.pool),
        pixel_(isa.panel * static_cast<int64_t>(sizeof(int32_t))),
        row_(((step.dims.w - 1) * pool_.stride_w + pool_.kernel_w) * pixel_) {}

 private:
  int64_t taps_bytes() const {
    return align_up(pool_.kernel_h * pool_.kernel_w * static_cast<int64_t>(sizeof(int64_t)));
  }
  int64_t more_scratch() const override {
    return widened_bytes() + taps_bytes() + align_up(pool_.kernel_h * row_);
  }

  void run_pieces(Span images, char* arena, char* scratch, Team& team) const override {
    constexpr int64_t kLeastRows = 4;
    const Span rows = {images.begin * step_.dims.h, images.end * step_.dims.h};
    const int threads = team.threads();
    int64_t blocks = threads == 1 ? 1 : divide_up(2 * threads, all_panels());
    blocks = std::clamp<int64_t>(rows.size() / kLeastRows, 1, blocks);
    team.parallel_for(blocks * all_panels(), 1, [&](int64_t begin, int64_t end, int thread) {
      const Own o = own(scratch, thread);
      for (int64_t k = begin; k < end; ++k)
        run_rows(arena, part(rows, blocks, k % blocks), k / blocks, o);
    });
  }

  void run_rows(char* arena, Span rows, int64_t panel, const Own& o) const {
    char* const kept = o.more + widened_bytes() + taps_bytes();
    std::fill_n(reinterpret_cast<int32_t*>(kept), pool_.kernel_h * row_ / 4,
                INT32_MIN);        // for the pixels outside
    int64_t image = -1, next = 0;  // row to be computed
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t n = row / step_.dims.h, first = row % step_.dims.h * pool_.stride_h - pool_.top;
      const Span window = {std::max<int64_t>(first, 0),
                           std::min(first + pool_.kernel_h, pool_.of.h)};
      if (n != image) image = n, next = 0;
      for (next = std::max(next, window.begin); next < window.end; ++next)
        convolve(arena, n, next, panel, kept + next % pool_.kernel_h * row_, o);
      take_maxima(arena, row, window, panel, kept, o);
    }
  }

  void convolve(char* arena, int64_t n, int64_t h, int64_t panel, char* to, const Own& o) const {
    const int64_t width = std::min(pool_.of.w, row_ / pixel_ - pool_.left),
                  tiles = divide_up(width, isa_.conv_pixels);
    const int64_t step = step_.conv.stride_w * step_.in.pixel_stride;
    const char* const from = arena + address(step_.in, n, h * step_.conv.stride_h, 0);
    to += pool_.left * pixel_ - panel * pixel_;  // where channel 0 would be
    for (int64_t t = 0; t < tiles; ++t) {
      const Span pixels = part({0, width}, tiles, t);
      Places place;
      const uint8_t* in[kMaxPixels];
      for (int64_t i = 0; i < pixels.size(); ++i) {
        place[i] = to + (pixels.begin + i) * pixel_;
        in[i] = reinterpret_cast<const uint8_t*>(from + (pixels.begin + i) * step);
      }
      ConvPiece p;
      p.ops = &store_;
      p.num_ops = 1;
      p.pixels = static_cast<int>(pixels.size());
      p.places = &place;
      p.slots = nullptr;
      p.in = in;
      Widened widened = {reinterpret_cast<int16_t*>(o.more), false};
      p.widened = &widened;
      run_panel(panel, &p);
    }
  }

  void take_maxima(char* arena, int64_t row, Span window, int64_t panel, char* kept,
                   const Own& o) const {
    auto* const taps = reinterpret_cast<int64_t*>(o.more + widened_bytes());
    WindowPiece p;
    start(&p, o);
    p.sums = false;
    p.storage = Storage::kInt;
    p.taps = taps;
    p.num_taps = 0;
    for (int64_t h = window.begin; h < window.end; ++h)
      for (int64_t b = 0; b < pool_.kernel_w; ++b)
        taps[p.num_taps++] = h % pool_.kernel_h * row_ + b * pixel_;
    const int64_t width = step_.dims.w, tiles = divide_up(width, isa_.map_pixels);
    const int64_t channel = panel * isa_.panel, end = std::min(channel + isa_.panel, step_.dims.c);
    for (int64_t t = 0; t < tiles; ++t) {
      const Span pixels = part({row * width, row * width + width}, tiles, t);
      find_places(arena, pixels, o.places);
      const char* in[kMaxPixels];
      for (int64_t i = 0; i < pixels.size(); ++i)
        in[i] = kept + (pixels.begin + i - row * width) * pool_.stride_w * pixel_ - panel * pixel_;
      p.in = in;
      p.pixels = static_cast<int>(pixels.size());
      for (p.channel = channel; p.channel < end; p.channel += isa_.map_channels) {
        p.channels = std::min<int64_t>(isa_.map_channels, end - p.channel);
        isa_.window(p);
      }
    }
  }

  const PoolSpec& pool_;
  const int64_t pixel_, row_;  // bytes of what is kept
  const MapOp store_{Primitive::kStore, Operand::kTensor};
};

}  // namespace

std::unique_ptr<CpuStep> make_conv_step(const Step& step, const Isa& isa) {
  if (!step.pool.empty()) return std::make_unique<PooledConvStep>(step, isa);
  return std::make_unique<ConvStep>(step, isa);
}

}  // namespace cvm
