#include "cpu/kernels.h"

#include <utility>

#include "ops/loop.h"

namespace cvm {
namespace {

class LoopKernel : public Kernel {
 public:
  LoopKernel(const NodeInfo& info, std::unique_ptr<Loop> loop)
      : Kernel(info), loop_(std::move(loop)) {}

  void run(const Buffers& buffers, Team& team) const override {
    team.parallel_for(
        loop_->items(), loop_->grain(),
        [&](int64_t begin, int64_t end, int) { loop_->run(buffers, begin, end); });
  }

 private:
  std::unique_ptr<Loop> loop_;
};

}  // namespace

std::unique_ptr<Kernel> make_cpu_kernel(const Operator& op, const NodeInfo& info) {
  std::unique_ptr<Loop> loop = op.loop ? op.loop(info) : nullptr;
  if (!loop) return nullptr;
  return std::make_unique<LoopKernel>(info, std::move(loop));
}

}  // namespace cvm
