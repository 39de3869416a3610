// Steps that run an epilogue on what their pieces compute.
#pragma once

#include <algorithm>
#include <cstdint>

#include "aligned.h"
#include "cpu/pixels.h"
#include "cpu/steps.h"
#include "ops/arith.h"

namespace cvm {

constexpr int64_t kWorkPerItem = 1 << 14;  // elements times operations worth handing to a thread

class EpilogueStep : public CpuStep {
 public:
  EpilogueStep(const Step& step, const Isa& isa) : step_(step), isa_(isa) {}

  int64_t scratch_bytes() const override {
    return align_up(static_cast<int64_t>(sizeof(Places)) * count()) +
           align_up(step_.slots * kSlotElements * 4) + more_scratch();
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

  void find_pixels(char* arena, const View& v, int64_t stride_h, int64_t stride_w, Span span,
                   char** to) const {
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

// The bias of a channel, with the zeros of its byte inputs taken off.
inline int32_t bias_of(const ConvSpec& conv, int64_t channel, int64_t depth, const Isa& isa) {
  int32_t total = 0;
  for (int64_t k = 0; k < depth; ++k) total += conv.weights[channel * depth + k];
  return wrap_sub(conv.bias ? conv.bias[channel] : 0,
                  wrap_mul(total, kZeroPoint + isa.byte_offset));
}

}  // namespace cvm
