#include <cstring>

#include "cpu/kernels.h"

namespace cvm {

// One per file of this folder, or several.
std::unique_ptr<Kernel> make_abs(const NodeInfo&);
std::unique_ptr<Kernel> make_broadcast_add(const NodeInfo&);
std::unique_ptr<Kernel> make_broadcast_div(const NodeInfo&);
std::unique_ptr<Kernel> make_broadcast_greater(const NodeInfo&);
std::unique_ptr<Kernel> make_broadcast_max(const NodeInfo&);
std::unique_ptr<Kernel> make_broadcast_mul(const NodeInfo&);
std::unique_ptr<Kernel> make_broadcast_sub(const NodeInfo&);
std::unique_ptr<Kernel> make_clip(const NodeInfo&);
std::unique_ptr<Kernel> make_concatenate(const NodeInfo&);
std::unique_ptr<Kernel> make_cvm_clip(const NodeInfo&);
std::unique_ptr<Kernel> make_cvm_left_shift(const NodeInfo&);
std::unique_ptr<Kernel> make_cvm_lut(const NodeInfo&);
std::unique_ptr<Kernel> make_cvm_right_shift(const NodeInfo&);
std::unique_ptr<Kernel> make_elemwise_add(const NodeInfo&);
std::unique_ptr<Kernel> make_elemwise_sub(const NodeInfo&);
std::unique_ptr<Kernel> make_max(const NodeInfo&);
std::unique_ptr<Kernel> make_negative(const NodeInfo&);
std::unique_ptr<Kernel> make_relu(const NodeInfo&);
std::unique_ptr<Kernel> make_repeat(const NodeInfo&);
std::unique_ptr<Kernel> make_slice_like(const NodeInfo&);
std::unique_ptr<Kernel> make_strided_slice(const NodeInfo&);
std::unique_ptr<Kernel> make_sum(const NodeInfo&);
std::unique_ptr<Kernel> make_take(const NodeInfo&);
std::unique_ptr<Kernel> make_tile(const NodeInfo&);
std::unique_ptr<Kernel> make_transpose(const NodeInfo&);
std::unique_ptr<Kernel> make_upsampling(const NodeInfo&);
std::unique_ptr<Kernel> make_where(const NodeInfo&);

namespace {

struct Row {
  const char* op;
  KernelFactory make;
};

// The rows of an operator are tried from the top, the more special ones first;
// a file for an instruction set adds its rows above the portable ones.
const Row kRows[] = {
    {"sum", make_sum},
    {"max", make_max},
    {"relu", make_relu},
    {"abs", make_abs},
    {"negative", make_negative},
    {"clip", make_clip},
    {"cvm_clip", make_cvm_clip},
    {"cvm_right_shift", make_cvm_right_shift},
    {"cvm_left_shift", make_cvm_left_shift},
    {"elemwise_add", make_elemwise_add},
    {"elemwise_sub", make_elemwise_sub},
    {"broadcast_add", make_broadcast_add},
    {"broadcast_sub", make_broadcast_sub},
    {"broadcast_mul", make_broadcast_mul},
    {"broadcast_div", make_broadcast_div},
    {"broadcast_max", make_broadcast_max},
    {"broadcast_greater", make_broadcast_greater},
    {"upsampling", make_upsampling},
    {"repeat", make_repeat},
    {"tile", make_tile},
    {"concatenate", make_concatenate},
    {"transpose", make_transpose},
    {"strided_slice", make_strided_slice},
    {"slice_like", make_slice_like},
    {"take", make_take},
    {"cvm_lut", make_cvm_lut},
    {"where", make_where},
};

}  // namespace

std::unique_ptr<Kernel> make_cpu_kernel(const Operator& op, const NodeInfo& info) {
  for (const Row& row : kRows) {
    if (std::strcmp(row.op, op.name) != 0) continue;
    if (auto kernel = row.make(info)) return kernel;
  }
  return nullptr;
}

}  // namespace cvm
