#include "plan/arena.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "aligned.h"
#include "plan/liveness.h"

namespace cvm {
namespace {

// Hands out byte ranges, smallest sufficient gap first.
class Gaps {
 public:
  int64_t take(int64_t bytes) {
    const auto fit = by_size_.lower_bound({bytes, 0});
    if (fit != by_size_.end()) {
      const auto [gap_bytes, offset] = *fit;
      erase(offset, gap_bytes);
      if (gap_bytes > bytes) insert(offset + bytes, gap_bytes - bytes);
      return offset;
    }
    int64_t offset = end_;
    if (!by_offset_.empty()) {  // a last gap that reaches the end grows
      const auto [last, last_bytes] = *by_offset_.rbegin();
      if (last + last_bytes == end_) {
        erase(last, last_bytes);
        offset = last;
      }
    }
    end_ = offset + bytes;
    return offset;
  }

  void give(int64_t offset, int64_t bytes) {
    auto next = by_offset_.lower_bound(offset);
    if (next != by_offset_.end() && next->first == offset + bytes) {
      bytes += next->second;
      erase(next->first, next->second);
    }
    auto before = by_offset_.lower_bound(offset);
    if (before != by_offset_.begin()) {
      --before;
      if (before->first + before->second == offset) {
        offset = before->first;
        bytes += before->second;
        erase(before->first, before->second);
      }
    }
    insert(offset, bytes);
  }

  int64_t end() const { return end_; }

 private:
  void insert(int64_t offset, int64_t bytes) {
    by_offset_[offset] = bytes;
    by_size_.insert({bytes, offset});
  }
  void erase(int64_t offset, int64_t bytes) {
    by_offset_.erase(offset);
    by_size_.erase({bytes, offset});
  }

  std::map<int64_t, int64_t> by_offset_;
  std::set<std::pair<int64_t, int64_t>> by_size_;
  int64_t end_ = 0;
};

bool is_parameter(const Node& node) { return node.is_variable && node.name != kInputName; }

int64_t entry_bytes(const Graph& graph, int64_t e) {
  return align_up(size_of(graph.shapes[e]) * static_cast<int64_t>(sizeof(int32_t)));
}

class ArenaPlanner {
 public:
  explicit ArenaPlanner(const Graph& graph)
      : graph_(graph), lives_(lifetimes(graph)), dying_(graph.nodes.size()) {
    plan_.offset.assign(graph.shapes.size(), kNoOffset);
  }

  ArenaPlan plan() {
    for (const Node& node : graph_.nodes)
      if (node.is_variable && node.name == kInputName) place(node.first_entry);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if (node.is_variable) continue;
      for (int k = 0; k < node.num_outputs; ++k)
        if (!place_over_input(node, node.first_entry + k)) place(node.first_entry + k);
      for (int64_t e : dying_[i]) gaps_.give(plan_.offset[e], bytes(e));
    }
    plan_.bytes = gaps_.end();
    return std::move(plan_);
  }

 private:
  int64_t bytes(int64_t e) const { return entry_bytes(graph_, e); }

  void register_death(int64_t e) {
    const int64_t last = lives_[e].last;
    if (last >= 0 && last < static_cast<int64_t>(dying_.size())) dying_[last].push_back(e);
  }

  void place(int64_t e) {
    plan_.offset[e] = gaps_.take(bytes(e));
    register_death(e);
  }

  bool place_over_input(const Node& node, int64_t e) {
    if (!node.op->in_place) return false;
    const int64_t now = lives_[e].first;
    for (int64_t in : node.input_entries) {
      const bool usable = plan_.offset[in] != kNoOffset && lives_[in].last == now &&
                          bytes(in) == bytes(e);
      if (!usable) continue;
      plan_.offset[e] = plan_.offset[in];
      auto& deaths = dying_[now];  // the place lives on under its new name
      for (size_t k = 0; k < deaths.size(); ++k)
        if (deaths[k] == in) deaths.erase(deaths.begin() + static_cast<int64_t>(k--));
      register_death(e);
      return true;
    }
    return false;
  }

  const Graph& graph_;
  std::vector<Lifetime> lives_;
  std::vector<std::vector<int64_t>> dying_;  // entries by the node that reads them last
  Gaps gaps_;
  ArenaPlan plan_;
};

// The storage slots of the file, one after the other.
ArenaPlan plan_as_declared(const Graph& graph) {
  std::map<int64_t, int64_t> slots;  // storage id -> bytes, then offset
  for (const Node& node : graph.nodes) {
    if (is_parameter(node)) continue;
    for (int64_t e = node.first_entry; e < node.first_entry + node.num_outputs; ++e) {
      int64_t& bytes = slots[graph.storage_id[e]];
      bytes = std::max(bytes, entry_bytes(graph, e));
    }
  }
  ArenaPlan plan;
  plan.offset.assign(graph.shapes.size(), kNoOffset);
  for (auto& [id, slot] : slots) plan.bytes += std::exchange(slot, plan.bytes);
  for (const Node& node : graph.nodes)
    for (int64_t e = node.first_entry; e < node.first_entry + node.num_outputs; ++e)
      if (!is_parameter(node)) plan.offset[e] = slots[graph.storage_id[e]];
  return plan;
}

}  // namespace

std::vector<int64_t> place_blocks(const std::vector<Block>& blocks, int64_t* total) {
  std::vector<size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return blocks[a].first < blocks[b].first; });
  std::vector<int64_t> offsets(blocks.size(), 0);
  std::multimap<int64_t, size_t> ends;  // last step -> block
  Gaps gaps;
  for (size_t k : order) {
    while (!ends.empty() && ends.begin()->first < blocks[k].first) {
      const size_t done = ends.begin()->second;
      gaps.give(offsets[done], align_up(blocks[done].bytes));
      ends.erase(ends.begin());
    }
    offsets[k] = gaps.take(align_up(blocks[k].bytes));
    ends.insert({blocks[k].last, k});
  }
  *total = gaps.end();
  return offsets;
}

ArenaPlan plan_arena(const Graph& graph) {
  ArenaPlan planned = ArenaPlanner(graph).plan(), declared = plan_as_declared(graph);
  return planned.bytes <= declared.bytes ? planned : declared;
}

}  // namespace cvm
