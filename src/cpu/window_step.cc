// Epilogues alone, and on the maxima or sums of windows.
#include <vector>

#include "cpu/epilogue_step.h"

namespace cvm {
namespace {

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

}  // namespace

std::unique_ptr<CpuStep> make_map_step(const Step& step, const Isa& isa) {
  return std::make_unique<MapStep>(step, isa);
}

std::unique_ptr<CpuStep> make_window_step(const Step& step, const Isa& isa) {
  return std::make_unique<WindowStep>(step, isa);
}

}  // namespace cvm
