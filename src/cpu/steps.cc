// Cuts steps into pieces for the inner loops of an instruction set: addresses,
// packing and threads, the same for all of them.
#include "cpu/steps.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "aligned.h"
#include "ops/arith.h"

namespace cvm {
namespace {

constexpr int64_t kWeightsInCache = 384 << 10;  // bytes of weights that all pixels are multiplied with in turn
constexpr int64_t kWorkPerItem = 1 << 14;       // elements times operations worth handing to a thread

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Item k of `count` pieces of nearly equal size.
Span part(Span all, int64_t count, int64_t k) {
  return {all.begin + all.size() * k / count, all.begin + all.size() * (k + 1) / count};
}

int64_t address(const View& v, int64_t n, int64_t h, int64_t w) {
  return v.offset + n * v.image_stride + h * v.row_stride + w * v.pixel_stride;
}

void fill_pixels(char* to, int64_t elements, Storage storage, int32_t code) {
  switch (storage) {
    case Storage::kByte: std::memset(to, code, static_cast<size_t>(elements)); break;
    case Storage::kShort: std::fill_n(reinterpret_cast<int16_t*>(to), elements, static_cast<int16_t>(code)); break;
    case Storage::kInt: std::fill_n(reinterpret_cast<int32_t*>(to), elements, code);
  }
}

// Pixels around `f.inside`. A tensor whose pixels are not adjacent lies inside
// of another, whose padding it shares.
void fill(const Fill& f, Span images, char* arena) {
  const View& v = f.inside;
  const Padding& b = f.padding;
  const auto run = [&](int64_t n, int64_t h, int64_t w, int64_t count) {
    if (count > 0) fill_pixels(arena + address(v, n, h, w), count * v.dims.c, v.storage, b.value);
  };
  const int64_t row = b.left + v.dims.w + b.right;
  for (int64_t n = images.begin; n < images.end; ++n) {
    for (int64_t h = -b.top; h < 0; ++h) run(n, h, -b.left, row);
    for (int64_t h = 0; h < v.dims.h; ++h) {
      run(n, h, -b.left, b.left);
      run(n, h, v.dims.w, b.right);
    }
    for (int64_t h = v.dims.h; h < v.dims.h + b.bottom; ++h) run(n, h, -b.left, row);
  }
}

// A step that runs an epilogue on what its pieces compute.
class EpilogueStep : public CpuStep {
 public:
  EpilogueStep(const Step& step, const Isa& isa) : step_(step), isa_(isa) {}

  int64_t scratch_bytes() const override {
    return align_up(static_cast<int64_t>(sizeof(Places)) * count()) + align_up(step_.slots * kSlotElements * 4) +
           more_scratch();
  }

  void run(Span images, char* arena, char* scratch, Team& team) const override {
    for (const Fill& f : step_.fills) fill(f, images, arena);
    run_pieces(images, arena, scratch, team);
  }

 protected:
  using Places = char* [kMaxPixels];

  virtual int64_t more_scratch() const { return 0; }
  virtual void run_pieces(Span images, char* arena, char* scratch, Team& team) const = 0;

  // The output pixels of images.
  Span pixels_of(Span images) const {
    const int64_t each = step_.dims.h * step_.dims.w;
    return {images.begin * each, images.end * each};
  }

  int64_t count() const { return static_cast<int64_t>(step_.tensors.size()); }

  // A thread's own part of the scratch.
  struct Own {
    Places* places;
    int32_t* slots;
    char* more;
  };
  Own own(char* scratch, int thread) const {
    scratch += thread * scratch_bytes();
    Own o;
    o.places = reinterpret_cast<Places*>(scratch);
    scratch += align_up(static_cast<int64_t>(sizeof(Places)) * count());
    o.slots = reinterpret_cast<int32_t*>(scratch);
    o.more = scratch + align_up(step_.slots * kSlotElements * 4);
    return o;
  }

  void start(Piece* p, const Own& o) const {
    p->ops = step_.epilogue.data();
    p->num_ops = static_cast<int>(step_.epilogue.size());
    p->places = o.places;
    p->slots = o.slots;
  }

  // Addresses of the output pixels `span` in all tensors of the epilogue.
  void find_places(char* arena, Span span, Places* places) const {
    for (int64_t t = 0; t < count(); ++t)
      find_pixels(arena, step_.tensors[static_cast<size_t>(t)], 1, 1, span, places[t]);
  }

  // Where the windows of the output pixels `span` start in the input.
  void find_windows(char* arena, Span span, char** in) const {
    find_pixels(arena, step_.in, step_.conv.stride_h, step_.conv.stride_w, span, in);
  }

  void find_pixels(char* arena, const View& v, int64_t stride_h, int64_t stride_w, Span span, char** to) const {
    const Dims& d = step_.dims;
    int64_t w = span.begin % d.w, row = span.begin / d.w;
    const int64_t step = stride_w * v.pixel_stride;
    for (int64_t i = 0; i < span.size(); ++row, w = 0) {
      char* at = arena + address(v, row / d.h, row % d.h * stride_h, w * stride_w);
      for (; w < d.w && i < span.size(); ++w, ++i, at += step) to[i] = at;
    }
  }

  // Calls f(span of pixels, own) for all `pixels`, at most `most` at a time.
  template <class F>
  void for_pixels(Span pixels, int64_t most, char* scratch, Team& team, const F& f) const {
    const int64_t tiles = divide_up(pixels.size(), most);
    const auto ops = static_cast<int64_t>(step_.epilogue.size()) + 1;
    const int64_t grain = std::max<int64_t>(1, kWorkPerItem / (most * step_.dims.c * ops));
    team.parallel_for(tiles, grain, [&](int64_t begin, int64_t end, int thread) {
      const Own o = own(scratch, thread);
      for (int64_t t = begin; t < end; ++t) f(part(pixels, tiles, t), o);
    });
  }

  const Step& step_;
  const Isa& isa_;
};

class MapStep : public EpilogueStep {
 public:
  using EpilogueStep::EpilogueStep;

 private:
  void run_pieces(Span images, char* arena, char* scratch, Team& team) const override {
    for_pixels(pixels_of(images), isa_.map_pixels, scratch, team, [&](Span span, const Own& o) {
      Piece p;
      start(&p, o);
      find_places(arena, span, o.places);
      p.pixels = static_cast<int>(span.size());
      for (p.channel = 0; p.channel < step_.dims.c; p.channel += isa_.map_channels) {
        p.channels = std::min<int64_t>(isa_.map_channels, step_.dims.c - p.channel);
        isa_.map(p);
      }
    });
  }
};

class WindowStep : public EpilogueStep {
 public:
  WindowStep(const Step& step, const Isa& isa) : EpilogueStep(step, isa) {
    for (int64_t a = 0; a < step.conv.kernel_h; ++a)
      for (int64_t b = 0; b < step.conv.kernel_w; ++b)
        taps_.push_back(a * step.in.row_stride + b * step.in.pixel_stride);
  }

 private:
  void run_pieces(Span images, char* arena, char* scratch, Team& team) const override {
    for_pixels(pixels_of(images), isa_.map_pixels, scratch, team, [&](Span span, const Own& o) {
      WindowPiece p;
      start(&p, o);
      char* in[kMaxPixels];
      find_places(arena, span, o.places);
      find_windows(arena, span, in);
      p.sums = step_.kind == Step::Kind::kSum;
      p.storage = step_.in.storage;
      p.in = in;
      p.taps = taps_.data();
      p.num_taps = static_cast<int64_t>(taps_.size());
      p.pixels = static_cast<int>(span.size());
      for (p.channel = 0; p.channel < step_.dims.c; p.channel += isa_.map_channels) {
        p.channels = std::min<int64_t>(isa_.map_channels, step_.dims.c - p.channel);
        isa_.window(p);
      }
    });
  }

  std::vector<int64_t> taps_;
};

// The bias of a channel, with the zeros of its byte inputs taken off.
int32_t bias_of(const ConvSpec& conv, int64_t channel, int64_t depth, const Isa& isa) {
  int32_t total = 0;
  for (int64_t k = 0; k < depth; ++k) total += conv.weights[channel * depth + k];
  return wrap_sub(conv.bias ? conv.bias[channel] : 0, wrap_mul(total, kZeroPoint + isa.byte_offset));
}

class DepthwiseStep : public EpilogueStep {
 public:
  static bool takes(const Step& s) {
    return s.conv.groups == s.in.dims.c && s.dims.c == s.in.dims.c && s.conv.groups > 1;
  }

  DepthwiseStep(const Step& step, const Isa& isa)
      : EpilogueStep(step, isa),
        kernel_h_(static_cast<int>(step.conv.kernel_h)),
        kernel_w_(static_cast<int>(step.conv.kernel_w)) {
    const int64_t channels = step.dims.c;
    bias_.resize(static_cast<size_t>(divide_up(channels, kChannelPadding) * kChannelPadding), 0);
    for (int64_t c = 0; c < channels; ++c)
      bias_[static_cast<size_t>(c)] = bias_of(step.conv, c, kernel_h_ * kernel_w_, isa);
  }

  int64_t packed_bytes() const override { return isa_.depthwise_bytes(step_.dims.c, kernel_h_, kernel_w_); }
  void pack(char* to) override {
    isa_.pack_depthwise(step_.conv.weights, step_.dims.c, kernel_h_, kernel_w_, to);
    weights_ = to;
  }

 private:
  // Where the rows of a window start.
  int64_t more_scratch() const override { return align_up(kernel_h_ * static_cast<int64_t>(sizeof(uint8_t*))); }

  void run_pieces(Span images, char* arena, char* scratch, Team& team) const override {
    const Dims& d = step_.dims;
    const int64_t tiles = divide_up(d.w, isa_.depthwise_pixels), first = images.begin * d.h;
    const int64_t grain = std::max<int64_t>(1, kWorkPerItem / (d.w * d.c * kernel_h_ * kernel_w_));
    team.parallel_for(images.size() * d.h, grain, [&](int64_t begin, int64_t end, int thread) {
      const Own o = own(scratch, thread);
      auto** const starts = reinterpret_cast<const uint8_t**>(o.more);
      for (int64_t row = first + begin; row < first + end; ++row)
        for (int64_t t = 0; t < tiles; ++t) run_tile(arena, row, part({0, d.w}, tiles, t), o, starts);
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
                  address(step_.in, row / d.h, row % d.h * c.stride_h + a * c.dilation_h, span.begin * c.stride_w);
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

// The patch of an output pixel as runs of bytes that lie one after the other
// in memory, as long as the tensor allows.
struct Runs {
  std::vector<int64_t> taps;  // bytes from the patch's start
  int64_t taps_h = 1, taps_w = 1;  // of the kernel, in one run
  int64_t length = 0;         // bytes, without padding
};

Runs find_runs(const View& in, const ConvSpec& conv, int64_t group_in) {
  Runs r;
  const bool pixels = conv.groups == 1 && in.pixel_stride == group_in && (conv.dilation_w == 1 || conv.kernel_w == 1);
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
    if (threads > 1 && tiles < 4 * threads) chunks = std::max(chunks, divide_up(4 * threads, tiles));
    chunks = std::min(chunks, all_panels());
    team.parallel_for(chunks * tiles, 1, [&](int64_t begin, int64_t end, int thread) {
      const Own o = own(scratch, thread);
      for (int64_t k = begin; k < end; ++k)
        run_tile(arena, part(pixels, tiles, k % tiles), part({0, all_panels()}, chunks, k / tiles), o);
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
        for (int i = 0; i < p.pixels; ++i) in[i] = reinterpret_cast<const uint8_t*>(windows[i]) + group * group_in_;
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
        row_(((step.dims.w - 1) * pool_.stride_w + pool_.kernel_w) * pixel_) {
    store_.code = OpCode::kStore;
  }

 private:
  int64_t taps_bytes() const { return align_up(pool_.kernel_h * pool_.kernel_w * static_cast<int64_t>(sizeof(int64_t))); }
  int64_t more_scratch() const override { return widened_bytes() + taps_bytes() + align_up(pool_.kernel_h * row_); }

  void run_pieces(Span images, char* arena, char* scratch, Team& team) const override {
    constexpr int64_t kLeastRows = 4;
    const Span rows = {images.begin * step_.dims.h, images.end * step_.dims.h};
    const int threads = team.threads();
    int64_t blocks = threads == 1 ? 1 : divide_up(2 * threads, all_panels());
    blocks = std::clamp<int64_t>(rows.size() / kLeastRows, 1, blocks);
    team.parallel_for(blocks * all_panels(), 1, [&](int64_t begin, int64_t end, int thread) {
      const Own o = own(scratch, thread);
      for (int64_t k = begin; k < end; ++k) run_rows(arena, part(rows, blocks, k % blocks), k / blocks, o);
    });
  }

  void run_rows(char* arena, Span rows, int64_t panel, const Own& o) const {
    char* const kept = o.more + widened_bytes() + taps_bytes();
    std::fill_n(reinterpret_cast<int32_t*>(kept), pool_.kernel_h * row_ / 4, INT32_MIN);  // for the pixels outside
    int64_t image = -1, next = 0;  // row to be computed
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t n = row / step_.dims.h, first = row % step_.dims.h * pool_.stride_h - pool_.top;
      const Span window = {std::max<int64_t>(first, 0), std::min(first + pool_.kernel_h, pool_.of.h)};
      if (n != image) image = n, next = 0;
      for (next = std::max(next, window.begin); next < window.end; ++next)
        convolve(arena, n, next, panel, kept + next % pool_.kernel_h * row_, o);
      take_maxima(arena, row, window, panel, kept, o);
    }
  }

  void convolve(char* arena, int64_t n, int64_t h, int64_t panel, char* to, const Own& o) const {
    const int64_t width = std::min(pool_.of.w, row_ / pixel_ - pool_.left), tiles = divide_up(width, isa_.conv_pixels);
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

  void take_maxima(char* arena, int64_t row, Span window, int64_t panel, char* kept, const Own& o) const {
    auto* const taps = reinterpret_cast<int64_t*>(o.more + widened_bytes());
    WindowPiece p;
    start(&p, o);
    p.sums = false;
    p.storage = Storage::kInt;
    p.taps = taps;
    p.num_taps = 0;
    for (int64_t h = window.begin; h < window.end; ++h)
      for (int64_t b = 0; b < pool_.kernel_w; ++b) taps[p.num_taps++] = h % pool_.kernel_h * row_ + b * pixel_;
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
  MapOp store_;
};

// int32 row-major planes -> a tensor of the plan, and back.
class PackStep : public CpuStep {
 public:
  PackStep(const Step& step, int64_t offset) : step_(step), offset_(offset) {}

  void run(Span images, char* arena, char*, Team& team) const override {
    for (const Fill& f : step_.fills) fill(f, images, arena);
    auto* plain = reinterpret_cast<int32_t*>(arena + offset_);
    const View& v = step_.tensors[0];
    const Dims& d = step_.dims;
    const int64_t first = images.begin * d.h;
    team.parallel_for(images.size() * d.h, std::max<int64_t>(1, kWorkPerItem / (d.w * d.c)),
                      [&](int64_t begin, int64_t end, int) {
      for (int64_t row = first + begin; row < first + end; ++row) {
        const int64_t n = row / d.h, h = row % d.h;
        if (step_.kind == Step::Kind::kPack && v.storage == Storage::kByte && d.c == 3 && v.pixel_stride == 3) {
          pack_colours(plain + (n * 3 * d.h + h) * d.w, arena + address(v, n, h, 0));
          continue;
        }
        for (int64_t c = 0; c < d.c; ++c) {
          int32_t* from = plain + ((n * d.c + c) * d.h + h) * d.w;
          char* to = arena + address(v, n, h, 0) + c * bytes_of(v.storage);
          switch (v.storage) {
            case Storage::kByte: move<uint8_t>(from, kZeroPoint, to); break;
            case Storage::kShort: move<int16_t>(from, 0, to); break;
            case Storage::kInt: move<int32_t>(from, 0, to);
          }
        }
      }
    });
  }

 private:
  // A row of a picture: pixel by pixel, as compilers vectorize that.
  void pack_colours(const int32_t* plain, char* packed) const {
    const int64_t width = step_.dims.w, plane = step_.dims.h * width;
    auto* const to = reinterpret_cast<uint8_t*>(packed);
    for (int64_t w = 0; w < width; ++w)
      for (int64_t c = 0; c < 3; ++c) to[w * 3 + c] = static_cast<uint8_t>(plain[c * plane + w] + kZeroPoint);
  }

  template <class T>
  void move(int32_t* plain, int32_t zero, char* packed) const {
    const int64_t stride = step_.tensors[0].pixel_stride;
    auto at = [&](int64_t w) -> T& { return *reinterpret_cast<T*>(packed + w * stride); };
    if (step_.kind == Step::Kind::kPack)
      for (int64_t w = 0; w < step_.dims.w; ++w) at(w) = static_cast<T>(plain[w] + zero);
    else
      for (int64_t w = 0; w < step_.dims.w; ++w) plain[w] = int32_t{at(w)} - zero;
  }

  const Step& step_;
  int64_t offset_;
};

}  // namespace

std::unique_ptr<CpuStep> make_cpu_step(const Step& step, int64_t plain_offset, const Isa& isa) {
  switch (step.kind) {
    case Step::Kind::kKernel: return nullptr;
    case Step::Kind::kPack:
    case Step::Kind::kUnpack: return std::make_unique<PackStep>(step, plain_offset);
    case Step::Kind::kMap: return std::make_unique<MapStep>(step, isa);
    case Step::Kind::kMaxPool:
    case Step::Kind::kSum: return std::make_unique<WindowStep>(step, isa);
    case Step::Kind::kConv: break;
  }
  if (DepthwiseStep::takes(step)) return std::make_unique<DepthwiseStep>(step, isa);
  if (!step.pool.empty()) return std::make_unique<PooledConvStep>(step, isa);
  return std::make_unique<ConvStep>(step, isa);
}

}  // namespace cvm
