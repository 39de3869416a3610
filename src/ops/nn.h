// Attributes of the neural-network operators, with derived geometry.
#pragma once

#include "ops/attr_reader.h"

namespace cvm {

struct Conv2dAttrs : Attrs {
  int32_t channels = 0, groups = 1;
  Tuple kernel_size, strides = {1, 1}, padding = {0, 0}, dilation = {1, 1};
  std::string layout = "NCHW", kernel_layout = "OIHW", out_layout = "__undef__", out_dtype = "same";
  bool use_bias = true;
};

struct DenseAttrs : Attrs {
  int32_t units = 0;
  bool use_bias = true;
};

struct PoolAttrs : Attrs {
  Tuple pool_size, strides = {1, 1}, padding = {0, 0};
  std::string layout = "NCHW";
  bool ceil_mode = false;
  int64_t pad(int axis) const { return padding[padding.size() == 1 ? 0 : axis]; }
};

struct UpsamplingAttrs : Attrs {
  int32_t scale = 0;
  std::string layout = "NCHW", method = "NEAREST_NEIGHBOR";
};

}  // namespace cvm
