#pragma once

#include "ops/operator.h"

namespace cvm {

struct ValidCountsAttrs : Attrs {
  int32_t score_threshold = 0;
};

struct NmsAttrs : Attrs {
  int32_t max_output_size = -1, iou_threshold = 50, top_k = -1;
  int32_t coord_start = 2, score_index = 1, id_index = 0;
  bool force_suppress = false, return_indices = false, invalid_to_bottom = true;
};

}  // namespace cvm
