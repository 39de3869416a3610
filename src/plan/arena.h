// Where every computed entry lives in the one block of memory of a run.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"

namespace cvm {

struct ArenaPlan {
  std::vector<int64_t> offset;  // bytes, per entry; kNoOffset for parameters
  int64_t bytes = 0;
};

constexpr int64_t kNoOffset = -1;

// A range of memory and the first and last step that use it.
struct Block {
  int64_t bytes = 0, first = 0, last = 0;
};

// Offsets of blocks such that those that are in use at once never overlap.
std::vector<int64_t> place_blocks(const std::vector<Block>& blocks, int64_t* total);

// Entries that are alive at once never overlap; an in-place operator takes
// over the place of an input that dies in it. Where that needs more than the
// storage ids of the file, which verify_storage has proven sound, these are
// used: a run thus never takes more than the storage limit allows.
ArenaPlan plan_arena(const Graph& graph);

}  // namespace cvm
