#pragma once

#include "ops/operator.h"

namespace cvm {

struct ClipAttrs : Attrs {
  int32_t a_min = 0, a_max = 0;
};

// cvm_clip and the shifts; shift_bit stays 1 where there is none.
struct BitsAttrs : Attrs {
  int32_t precision = 0, shift_bit = 1;
};

}  // namespace cvm
