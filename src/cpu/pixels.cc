#include "cpu/pixels.h"

#include <algorithm>
#include <cstring>

namespace cvm {
namespace {

void fill_pixels(char* to, int64_t elements, Storage storage, int32_t code) {
  switch (storage) {
    case Storage::kByte: std::memset(to, code, static_cast<size_t>(elements)); break;
    case Storage::kShort:
      std::fill_n(reinterpret_cast<int16_t*>(to), elements, static_cast<int16_t>(code));
      break;
    case Storage::kInt: std::fill_n(reinterpret_cast<int32_t*>(to), elements, code);
  }
}

}  // namespace

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

}  // namespace cvm
