// What an operator needs to say in primitives what it computes.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include "ir/ir.h"
#include "ops/operator.h"

namespace cvm {

// The values of a parameter, as they lie in the file. No data: no parameter.
struct Param {
  const char* data = nullptr;
  int bits = 0;  // 8 or 32
  int64_t count = 0;
  explicit operator bool() const { return data != nullptr; }
  int32_t operator[](int64_t i) const {
    if (bits == 8) return static_cast<int8_t>(data[i]);
    int32_t value = 0;
    std::memcpy(&value, data + i * 4, sizeof value);
    return value;
  }
};
using Params = std::vector<Param>;  // per entry

constexpr int64_t kMaxTaps = 4096;  // of a window

// One node after the other of a graph, as its operator's `lower` sees it.
class Lowering {
 public:
  explicit Lowering(const Params& params);

  // ---- for lower()

  const NodeInfo& node() const { return node_; }
  Ir& ir() { return ir_; }
  const Value& operator[](int v) const { return ir_[v]; }
  // Input k as a parameter.
  const Param& param(size_t k) const { return params_[static_cast<size_t>(entries_[k])]; }
  // Input k as a value; kNone for parameters, and ranks that have no channels.
  int value(size_t k);
  // Input k, a parameter, if it is one integer or one per channel of x, the value of input `of`.
  bool constant(size_t k, size_t of, int x, Constant* out);
  // Input k, a parameter of at most 8 bits, as bytes; valid while loading.
  const int8_t* weights(size_t k);

  // Whether so many bytes may still be made or looked at: nodes that need more run as kernels.
  bool spend(int64_t bytes);
  bool spend_integers(int64_t count);
  // Whether a window without weights is small enough: each node keeps the addresses of its taps.
  bool takes_taps(int64_t taps);

  // ---- for the planner

  void start(NodeInfo node, const std::vector<int64_t>& entries, int64_t number);
  void set_value(int64_t entry, int v) { values_[static_cast<size_t>(entry)] = v; }

  Ir take_ir() { return std::move(ir_); }
  std::vector<int> take_values() { return std::move(values_); }
  std::deque<std::vector<int8_t>> take_weights() { return std::move(weights_); }

 private:
  const Params& params_;
  int64_t budget_;
  Ir ir_;
  std::vector<int> values_;  // per entry
  std::deque<std::vector<int8_t>> weights_;
  NodeInfo node_;
  std::vector<int64_t> entries_;
};

// Whether a tensor may get such padding: it may grow to four times its size, and a little.
bool grows_little(const Dims& d, const Padding& b);

}  // namespace cvm
