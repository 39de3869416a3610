#include "cpu/steps.h"

namespace cvm {
namespace {

bool is_depthwise(const Step& s) {
  return s.conv.groups == s.in.dims.c && s.dims.c == s.in.dims.c && s.conv.groups > 1;
}

}  // namespace

std::unique_ptr<CpuStep> make_cpu_step(const Step& step, int64_t plain_offset, const Isa& isa) {
  switch (step.kind) {
    case Step::Kind::kKernel: break;
    case Step::Kind::kPack:
    case Step::Kind::kUnpack: return make_pack_step(step, plain_offset);
    case Step::Kind::kMap: return make_map_step(step, isa);
    case Step::Kind::kMaxPool:
    case Step::Kind::kSum: return make_window_step(step, isa);
    case Step::Kind::kConv:
      return is_depthwise(step) ? make_depthwise_step(step, isa) : make_conv_step(step, isa);
  }
  return nullptr;
}

}  // namespace cvm
