// Extents of a convolution, by name.
#pragma once

#include "ops/nn.h"

namespace cvm {

struct ConvGeometry {
  int64_t batch, groups, group_in, group_out;  // channels per group
  int64_t in_h, in_w, out_h, out_w, padded_h, padded_w;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;

  int64_t in_channels() const { return groups * group_in; }
  int64_t out_channels() const { return groups * group_out; }
};

// Working memory that a kernel may ask for, in elements. Hostile padding asks
// for more; the reference kernel, which needs none, then runs the node.
constexpr int64_t kMostWorkingElements = int64_t{1} << 28;

inline ConvGeometry conv_geometry(const NodeInfo& n) {
  const auto& a = n.as<Conv2dAttrs>();
  const Shape &x = n.in[0], &y = n.out[0];
  ConvGeometry g;
  g.batch = x[0];
  g.groups = a.groups;
  g.group_in = x[1] / a.groups;
  g.group_out = y[1] / a.groups;
  g.in_h = x[2], g.in_w = x[3];
  g.out_h = y[2], g.out_w = y[3];
  g.pad_h = a.padding[0], g.pad_w = a.padding[1];
  g.padded_h = g.in_h + 2 * g.pad_h, g.padded_w = g.in_w + 2 * g.pad_w;
  g.kernel_h = a.kernel_size[0], g.kernel_w = a.kernel_size[1];
  g.stride_h = a.strides[0], g.stride_w = a.strides[1];
  g.dilation_h = a.dilation[0], g.dilation_w = a.dilation[1];
  return g;
}

}  // namespace cvm
