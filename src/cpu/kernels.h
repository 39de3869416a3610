// Single nodes on the threads of the CPU.
#pragma once

#include <memory>

#include "plan/kernel.h"

namespace cvm {

// The operator's loop, shared among threads; null where it has none for this node.
std::unique_ptr<Kernel> make_cpu_kernel(const Operator& op, const NodeInfo& info);

}  // namespace cvm
