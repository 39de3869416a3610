// Types of elements, as params files and the C interface number them.
#pragma once

#include <cstdint>

#include "error.h"

namespace cvm {

constexpr int kInt = 0, kUint = 1, kFloat = 2;

// Calls f with a null pointer of the type.
template <class F>
void with_type(int code, int bits, F f) {
  switch (code * 256 + bits) {
    case kInt * 256 + 8: return f(static_cast<int8_t*>(nullptr));
    case kInt * 256 + 16: return f(static_cast<int16_t*>(nullptr));
    case kInt * 256 + 32: return f(static_cast<int32_t*>(nullptr));
    case kInt * 256 + 64: return f(static_cast<int64_t*>(nullptr));
    case kUint * 256 + 8: return f(static_cast<uint8_t*>(nullptr));
    case kUint * 256 + 16: return f(static_cast<uint16_t*>(nullptr));
    case kUint * 256 + 32: return f(static_cast<uint32_t*>(nullptr));
    case kUint * 256 + 64: return f(static_cast<uint64_t*>(nullptr));
    case kFloat * 256 + 32: return f(static_cast<float*>(nullptr));
    case kFloat * 256 + 64: return f(static_cast<double*>(nullptr));
  }
  runtime_error("elements of type code ", code, " with ", bits, " bits are not supported");
}

}  // namespace cvm
