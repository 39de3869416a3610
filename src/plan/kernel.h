// One node, ready to run.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "ops/operator.h"
#include "plan/thread_pool.h"

namespace cvm {

// Immutable once made, so that contexts can share it: whatever it needs while
// running is in the buffers. Allocates nothing in run().
class Kernel {
 public:
  explicit Kernel(NodeInfo info) : info_(std::move(info)) {}
  virtual ~Kernel() = default;

  // Bytes of Buffers::scratch for that many threads.
  virtual int64_t scratch_bytes(int /*threads*/) const { return 0; }
  virtual void run(const Buffers& buffers, Team& team) const = 0;

  const NodeInfo& info() const { return info_; }

 private:
  NodeInfo info_;
};

// The operator's reference kernel, on the calling thread.
std::unique_ptr<Kernel> make_reference_kernel(const Operator& op, NodeInfo info);

}  // namespace cvm
