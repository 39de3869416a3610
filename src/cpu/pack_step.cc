// Between int32 row-major planes and tensors of the plan.
#include <algorithm>

#include "cpu/epilogue_step.h"

namespace cvm {
namespace {

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
        if (step_.kind == Step::Kind::kPack && v.storage == Storage::kByte && d.c == 3 &&
            v.pixel_stride == 3) {
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
      for (int64_t c = 0; c < 3; ++c)
        to[w * 3 + c] = static_cast<uint8_t>(plain[c * plane + w] + kZeroPoint);
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

std::unique_ptr<CpuStep> make_pack_step(const Step& step, int64_t plain_offset) {
  return std::make_unique<PackStep>(step, plain_offset);
}

}  // namespace cvm
