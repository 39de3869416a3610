// The steps of a run, and where their tensors lie. Knows nothing of the device.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "graph/graph.h"
#include "ir/ir.h"
#include "plan/arena.h"
#include "plan/lower.h"
#include "plan/step.h"

namespace cvm {

// A tensor in the arena; strides and offset in bytes. Where only steps use it
// that run image by image, all images have the same place: image_stride is 0.
struct View {
  Storage storage = Storage::kInt;
  Dims dims;
  int64_t image_stride = 0, row_stride = 0, pixel_stride = 0;
  int64_t offset = 0;

  // The same tensor with the pixels around it.
  View with(const Padding& b) const {
    View v = *this;
    v.offset -= b.top * row_stride + b.left * pixel_stride;
    v.dims.h += b.top + b.bottom, v.dims.w += b.left + b.right;
    return v;
  }
};

// Pixels around `inside` that get one code (in its storage).
struct Fill {
  View inside;
  Padding padding;
};

struct Step {
  enum class Kind : uint8_t {
    kKernel,  // the node's own kernel, on int32 row-major tensors
    kPack,    // entry -> tensors[0]
    kUnpack,  // tensors[0] -> entry
    kConv, kMaxPool, kSum,  // windows of `in`, then the epilogue
    kMap,     // the epilogue alone
  };
  Kind kind = Kind::kKernel;
  int64_t node = -1;   // of the graph, that stands for the step
  int64_t entry = -1;  // kPack, kUnpack
  Dims dims;           // of what is computed
  View in;             // windows: the input with the padding that they read
  ConvSpec conv;
  PoolSpec pool;       // kConv: if not empty, the epilogue runs on these maxima
  std::vector<MapOp> epilogue;
  int slots = 0;
  std::vector<View> tensors;  // of the epilogue
  std::vector<Fill> fills;    // to be done before
};

struct Plan {
  std::vector<Step> steps;
  // So many of the first steps run for one image after the other, all others for all images at once.
  size_t by_image = 0;
  int64_t images = 1;
  std::vector<int64_t> offset;  // per entry: of the int32 tensor; kNoOffset where there is none
  int64_t bytes = 0;            // of the arena
  std::deque<std::vector<int32_t>> constants;  // that epilogues point to
  std::deque<std::vector<int8_t>> weights;     // that steps point to; not needed any more when they are packed
};

// One kernel step for each node, in the order of the graph.
Plan plan_kernels(const Graph& graph);

// Chains fused into steps; a node runs as a kernel where nothing is proven.
Plan plan_fused(const Graph& graph, const Params& params);

}  // namespace cvm
