// How a tensor's integers lie in memory.
#pragma once

#include <cstdint>

namespace cvm {

// kByte holds value + 128 in an unsigned byte, which is what byte dot products
// take; epilogues work on these codes, so that the 128 mostly melts into another
// constant.
enum class Storage : uint8_t { kByte, kShort, kInt };

constexpr int64_t bytes_of(Storage s) {
  return s == Storage::kByte ? 1 : s == Storage::kShort ? 2 : 4;
}
constexpr int32_t kZeroPoint = 128;
constexpr int32_t zero_point(Storage s) { return s == Storage::kByte ? kZeroPoint : 0; }
constexpr int32_t lowest_code(Storage s) {
  return s == Storage::kByte ? 0 : s == Storage::kShort ? INT16_MIN : INT32_MIN;
}

// Constants per channel are readable up to a multiple of it.
constexpr int64_t kChannelPadding = 64;

}  // namespace cvm
