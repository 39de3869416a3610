#include "plan/kernel.h"

namespace cvm {
namespace {

class ReferenceKernel : public Kernel {
 public:
  ReferenceKernel(const Operator& op, NodeInfo info) : Kernel(std::move(info)), op_(op) {}
  int64_t scratch_bytes(int) const override { return op_.scratch ? op_.scratch(info()) : 0; }
  void run(const Buffers& buffers, Team&) const override { op_.kernel(info(), buffers); }

 private:
  const Operator& op_;
};

}  // namespace

std::unique_ptr<Kernel> make_reference_kernel(const Operator& op, NodeInfo info) {
  return std::make_unique<ReferenceKernel>(op, std::move(info));
}

}  // namespace cvm
