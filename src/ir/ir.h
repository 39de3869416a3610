// The planner's own form of a graph: values of (images, height, width,
// channels) with the range of their integers, and what computes them.
//
// The operators of the files are lowered to few primitives, of which
// those that change nothing, as the ranges prove, are never made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "ir/primitive.h"
#include "ir/storage.h"

namespace cvm {

constexpr int kNone = -1;  // no value

struct Dims {
  int64_t n = 1, h = 1, w = 1, c = 1;
  int64_t pixels() const { return n * h * w; }
  int64_t size() const { return pixels() * c; }
  bool operator==(const Dims& o) const { return n == o.n && h == o.h && w == o.w && c == o.c; }
};

// The narrowest storage that holds all of the range.
inline Storage storage_for(Range r) {
  if (r.within(-kZeroPoint, 127)) return Storage::kByte;
  return r.within(INT16_MIN, INT16_MAX) ? Storage::kShort : Storage::kInt;
}

// Pixels around a tensor.
struct Padding {
  int64_t top = 0, left = 0, bottom = 0, right = 0;
  int32_t value = 0;  // the integer there
  bool empty() const { return top == 0 && left == 0 && bottom == 0 && right == 0; }
};

// An integer, or one per channel.
struct Constant {
  int32_t value = 0;
  const int32_t* channels = nullptr;
};

struct ConvSpec {
  int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  int64_t groups = 1;
  // [channels][input channels of a group][kernel_h][kernel_w]; only valid while loading
  const int8_t* weights = nullptr;
  const int32_t* bias = nullptr;    // per channel, or null
};

// The maximum over windows that move over a tensor of that size, of which `top`
// rows and `left` columns lie outside of it at first.
struct PoolSpec {
  int64_t kernel_h = 0, kernel_w = 0, stride_h = 1, stride_w = 1;
  int64_t top = 0, left = 0;
  Dims of;
  bool empty() const { return kernel_h == 0; }
};

enum class Kind : uint8_t {
  kPlain,    // an int32 row-major tensor outside of the fused part
  kConv, kMaxPool, kSum,  // of a window that moves over the input
  kConcat,   // along the channels
  kPad,      // the input with padding around it
  kMap,      // `primitive` applied to each element, with a constant
  kJoin,     // `primitive` applied to each pair of elements
};

struct Value {
  Kind kind = Kind::kPlain;
  Dims dims;
  Range range;
  std::vector<int> inputs;
  int64_t node = -1;   // of the graph, that this comes from
  int64_t entry = -1;  // kPlain
  Primitive primitive = Primitive::kLoad;  // as a kMap: a copy
  Constant constant;                // kMap
  const int32_t* table = nullptr;   // kLookUp
  ConvSpec conv;                    // kConv; the window of kMaxPool and kSum
  PoolSpec pool;                    // kConv: if not empty, of its results; dims are the pool's
  Padding padding;                  // kPad; what kConv and kMaxPool put around their input
};

class Ir {
 public:
  const Value& operator[](int v) const { return values_[static_cast<size_t>(v)]; }
  Value& at(int v) { return values_[static_cast<size_t>(v)]; }
  int size() const { return static_cast<int>(values_.size()); }
  int make(Value value);

  // Constants live as long as the planner's result. Padded for kernels.
  const int32_t* keep(std::vector<int32_t> channels);
  // Whether so many more may be kept: a graph may use one parameter any number of times.
  bool has_room(int64_t integers) const { return kept_ + integers <= max_kept; }
  int64_t max_kept = 0;

  // `primitive` of x and a constant, or of x and y; null operations vanish, and
  // constants melt into one. All results must fit int32.
  int map(Primitive primitive, int x, Constant c = {});
  int join(Primitive primitive, int x, int y);
  int add(int x, Constant c) { return map(Primitive::kAdd, x, c); }
  int clamp(int x, int64_t low, int64_t high);
  int look_up(int x, const int32_t* table, int32_t last, Range range);
  // Division by 2^bits, halves up; kNone where that needs more than 32 bits.
  int round_shift(int x, int32_t bits);
  // What the constant of a kMap lies in.
  Range spread(const Value& v) const { return spread(v.constant, v.dims.c); }

  // The same operation on another input.
  int reapply(const Value& op, std::vector<int> inputs);

  // `node` of every value made from now on.
  int64_t node = -1;

  std::deque<std::vector<int32_t>> take_constants() { return std::move(constants_); }

 private:
  int make_map(Primitive primitive, int x, Constant c, Range range);
  bool takes_add(int x, int depth = 0) const;
  int add_within(int x, Constant c, Range r);
  Constant combine(Constant a, Constant b, int64_t channels, int64_t (*f)(int64_t, int64_t));
  Range spread(Constant c, int64_t channels) const;

  std::vector<Value> values_;
  std::deque<std::vector<int32_t>> constants_;
  int64_t kept_ = 0;  // integers in constants_
};

}  // namespace cvm
