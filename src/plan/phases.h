// What the phases of planning hand on to each other; plan.cc calls them in this order.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "graph/graph.h"
#include "ir/ir.h"
#include "plan/lower.h"
#include "plan/plan.h"

namespace cvm {

constexpr size_t kMaxMembers = 48;  // of a step; more live values do not stay near the registers

inline bool is_window(Kind k) {
  return k == Kind::kConv || k == Kind::kMaxPool || k == Kind::kSum;
}
inline bool is_elementwise(Kind k) { return k == Kind::kMap || k == Kind::kJoin; }

// The values that leave the fused part, for a kernel or for the caller.
struct Needed {
  std::vector<int> values;
  std::map<int64_t, size_t> unpacked;  // entry -> item of `values`
};

// Where a value lies: in the tensor of `root`, from that channel on.
struct Home {
  int root = kNone;
  int64_t channel = 0;
};

// Which values lie inside of the tensors of others, and the padding of these tensors.
struct Layout {
  std::map<int, Home> homes;     // of values that lie inside of others
  std::map<int, Padding> paddings;  // by root

  Home home(int v) const {
    const auto it = homes.find(v);
    return it == homes.end() ? Home{v, 0} : it->second;
  }
  int root(int v) const { return home(v).root; }
};

// The values that one step computes.
struct Group {
  Step::Kind kind = Step::Kind::kMap;
  int64_t node = -1;         // of the graph, that stands for the step
  int64_t entry = -1;        // kPack, kUnpack
  int value = kNone;         // kPack, kUnpack: what the entry is as a value
  std::vector<int> members;  // of other steps, in computing order; a window comes first
};

// The steps in the order of a run, and what follows for each value.
struct Grouping {
  std::vector<Group> groups;
  std::vector<int> group;               // the step that computes it
  std::vector<std::vector<int>> users;  // values that are computed from it
  std::vector<char> needed;             // whether it leaves the fused part
  std::vector<char> stored;             // whether it is written to memory
};

// The first `steps` steps run for one image after the other.
struct ByImage {
  size_t steps = 0;
  int64_t images = 1;
};

// Where everything lies in the arena.
struct Places {
  std::map<int, View> views;    // of stored values
  std::map<int, Fill> fills;    // by the value that is the first to be written to a padded tensor
  std::vector<int64_t> offset;  // per entry: of its int32 tensor, or kNoOffset
  int64_t bytes = 0;
};

// May add copies to the ir, and brings the padding of its windows up to date.
Layout lay_out(Ir* ir, const std::vector<int>& needed);
Grouping group_steps(const Graph& graph, const Lowered& lowered, const Needed& needed);
ByImage choose_by_image(const Ir& ir, const Grouping& grouping);
Places place(const Graph& graph, const Params& params, const Ir& ir, const Grouping& grouping,
             const ByImage& by_image, Layout layout);
// Makes values of the ir for what is computed on codes.
std::vector<Step> emit(Ir* ir, const Grouping& grouping, const Places& places);

}  // namespace cvm
