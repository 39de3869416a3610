// The fast kernels of the CPU.
//
// A kernel must equal the operator's reference kernel bit for bit, for every
// number of threads. It may narrow or reorder only what the precision pass has
// proven (NodeInfo::in_precision together with in_sound).
#pragma once

#include <memory>

#include "plan/kernel.h"

namespace cvm {

// The first row of the table in table.cc that takes the node; null if none does.
std::unique_ptr<Kernel> make_cpu_kernel(const Operator& op, const NodeInfo& info);

// Each returns null for a node that it does not handle.
using KernelFactory = std::unique_ptr<Kernel> (*)(const NodeInfo&);

}  // namespace cvm
