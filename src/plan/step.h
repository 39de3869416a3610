// What a fused step computes, in terms that any device can execute.
//
// Tensors are (images, height, width, channels) with adjacent channels. A step
// produces one vector v of int32 per output pixel (from a convolution, a
// window, or a tensor read) and runs a short epilogue on it, element by element,
// while v is in registers. The planner has proven that no operation of a
// epilogue overflows int32 and that what is stored fits, so the order of
// execution is free.
#pragma once

#include <cstdint>
#include <vector>

namespace cvm {

// How a tensor's integers lie in memory. kByte holds value + 128 in an
// unsigned byte, which is what byte dot products take; the epilogues work on
// these codes, so that the 128 mostly melts into another constant.
enum class Storage : uint8_t { kByte, kShort, kInt };

constexpr int64_t bytes_of(Storage s) { return s == Storage::kByte ? 1 : s == Storage::kShort ? 2 : 4; }
constexpr int32_t kZeroPoint = 128;
constexpr int32_t zero_point(Storage s) { return s == Storage::kByte ? kZeroPoint : 0; }
constexpr int32_t lowest_code(Storage s) {
  return s == Storage::kByte ? 0 : s == Storage::kShort ? INT16_MIN : INT32_MIN;
}

enum class OpCode : uint8_t {
  kLoad,      // v = tensor
  kAddTensor, kSubTensor, kReverseSubTensor, kMulTensor, kMaxTensor,  // v = v + tensor, v - tensor, tensor - v, ...
  kStore,     // tensor = v, or the nearest that 16 bits hold; in kByte min(v, 255), where v is proven not negative
  kSave,      // slot = v, kept for later operations on the same element
  kRestore,   // v = slot
  kAddSlot, kSubSlot, kReverseSubSlot, kMulSlot, kMaxSlot,
  kAdd, kMul, kMax, kMin,  // with a constant: one per channel, or one for all
  kFloorShift,  // v >>= value
  kLeftShift,   // v <<= value
  kNegate, kAbs,
  kLookUp,    // v = table[min(max(v, 0), value)]
};

constexpr int64_t kChannelPadding = 64;  // per-channel constants are readable up to a multiple of that

struct MapOp {
  OpCode code;
  int index = 0;                      // of the tensor or slot
  int32_t value = 0;                  // constant for all channels, shift, last index of the table
  const int32_t* channels = nullptr;  // constant per channel, from channel 0; null: `value`
  const int32_t* table = nullptr;
  Storage storage = Storage::kInt;    // of the tensor
};

}  // namespace cvm
