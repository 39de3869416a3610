// Chooses the steps that run image by image.
//
// The first layers of a network have large tensors and small weights, the last ones small tensors
// and large weights. The first ones run image by image, so that tensors stay in the cache, the rest
// with all images at once, so that weights do: cut where least has to be read again.
#include "plan/phases.h"

namespace cvm {
namespace {

constexpr int64_t kStart = 4 << 10;  // bytes that could be read while a step is started

// Images of a step; 0 for kernels, which take all at once.
int64_t images_of(const Ir& ir, const Group& g) {
  if (g.kind == Step::Kind::kKernel) return 0;
  return ir[g.value != kNone ? g.value : g.members.front()].dims.n;
}

int64_t image_bytes(const Value& v) {
  return v.dims.size() / v.dims.n * bytes_of(storage_for(v.range));
}

int64_t weight_bytes(const Ir& ir, const Value& v) {
  if (v.kind != Kind::kConv) return 0;
  const ConvSpec& c = v.conv;
  return v.dims.c * ir[v.inputs[0]].dims.c / c.groups * c.kernel_h * c.kernel_w;
}

// Per step: how many bytes less are read again when it takes one image at a time.
std::vector<int64_t> gains(const Ir& ir, const Grouping& grouping) {
  std::vector<int64_t> gains(grouping.groups.size(), -kStart);
  for (int v = 0; v < ir.size(); ++v) {
    if (grouping.group[v] == kNone) continue;
    int64_t& gain = gains[grouping.group[v]];
    if (grouping.stored[v]) gain += image_bytes(ir[v]);
    for (int in : ir[v].inputs)
      if (grouping.stored[in]) gain += image_bytes(ir[in]);
    gain -= weight_bytes(ir, ir[v]);
  }
  return gains;
}

}  // namespace

ByImage choose_by_image(const Ir& ir, const Grouping& grouping) {
  const std::vector<Group>& groups = grouping.groups;
  ByImage result;
  if (groups.empty() || images_of(ir, groups[0]) <= 1) return result;
  result.images = images_of(ir, groups[0]);
  const std::vector<int64_t> gain_of = gains(ir, grouping);
  int64_t gain = 0, most = 0;
  for (size_t g = 0; g < groups.size() && images_of(ir, groups[g]) == result.images; ++g) {
    gain += gain_of[g];
    if (gain > most) most = gain, result.steps = g + 1;
  }
  return result;
}

}  // namespace cvm
