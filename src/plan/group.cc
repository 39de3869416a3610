// Groups values into steps.
#include <algorithm>
#include <set>
#include <utility>

#include "plan/phases.h"
#include "plan/rewrite.h"

namespace cvm {
namespace {

class Grouper {
 public:
  Grouper(const Graph& graph, const Lowered& lowered, const Needed& needed)
      : graph_(graph), lowered_(lowered), ir_(lowered.ir), needed_(needed) {
    const auto values = static_cast<size_t>(ir_.size());
    seen_.assign(values, 0);
    out_.group.assign(values, kNone);
    out_.users.assign(values, {});
    out_.needed.assign(values, 0);
    out_.stored.assign(values, 0);
  }

  Grouping run() {
    sequence();
    for (int v = 0; v < ir_.size(); ++v)
      if (seen_[v])
        for (int in : ir_[v].inputs) out_.users[in].push_back(v);
    for (int v : needed_.values) out_.needed[v] = 1;
    for (int v = 0; v < ir_.size(); ++v) out_.stored[v] = out_.group[v] != kNone && is_stored(v);
    return std::move(out_);
  }

 private:
  // Kernels in the order of the graph, and in front of each what it reads.
  void sequence() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!lowered_.by_kernel[i]) continue;
      for (int64_t e : graph_.nodes[i].input_entries) unpack(e);
      new_group(Step::Kind::kKernel, static_cast<int64_t>(i));
    }
    for (const EntryRef& head : graph_.heads) unpack(graph_.entry_id(head));
  }

  void unpack(int64_t entry) {
    const auto it = needed_.unpacked.find(entry);
    if (it == needed_.unpacked.end() || !unpacked_.insert(entry).second) return;
    const int v = needed_.values[it->second];
    for (int u : computing_order(ir_, {v}, &seen_)) assign(u);
    Group& g = out_.groups[new_group(Step::Kind::kUnpack, ir_[v].node)];
    g.entry = entry, g.value = v;
  }

  int new_group(Step::Kind kind, int64_t node) {
    out_.groups.emplace_back();
    out_.groups.back().kind = kind, out_.groups.back().node = node;
    return static_cast<int>(out_.groups.size()) - 1;
  }

  // Gives v to a step. Concatenations have no step; theirs is the last one that writes to them.
  void assign(int v) {
    const Value& value = ir_[v];
    int& group = out_.group[v];
    switch (value.kind) {
      case Kind::kPlain:
        group = new_group(Step::Kind::kPack, value.node);
        out_.groups[group].entry = value.entry, out_.groups[group].value = v;
        return;
      case Kind::kConcat:
        for (int in : value.inputs) group = std::max(group, out_.group[in]);
        return;
      case Kind::kConv: group = new_group(Step::Kind::kConv, value.node); break;
      case Kind::kMaxPool: group = new_group(Step::Kind::kMaxPool, value.node); break;
      case Kind::kSum: group = new_group(Step::Kind::kSum, value.node); break;
      case Kind::kPad: group = new_group(Step::Kind::kMap, value.node); break;
      case Kind::kMap:
      case Kind::kJoin: group = group_of_elementwise(v); break;
    }
    out_.groups[group].members.push_back(v);
  }

  bool has_room(int group) const { return out_.groups[group].members.size() < kMaxMembers; }

  int group_of_elementwise(int v) {
    const std::vector<int>& inputs = ir_[v].inputs;
    int last = kNone, by = inputs[0];
    for (int in : inputs)
      if (out_.group[in] > last) last = out_.group[in], by = in;
    const auto in_registers = [&](int in) {
      const Kind k = ir_[in].kind;
      return is_window(k) || is_elementwise(k);
    };
    const bool joins = has_room(last) && std::all_of(inputs.begin(), inputs.end(), [&](int in) {
      return out_.group[in] < last || in_registers(in);
    });
    if (joins && in_registers(by)) return last;
    // Several chains on one tensor read it once.
    int& shared = maps_.emplace(by, kNone).first->second;
    const auto is_before = [&](int in) { return out_.group[in] < shared; };
    const bool fits = shared != kNone && has_room(shared) &&
                      std::all_of(inputs.begin(), inputs.end(), is_before);
    return fits ? shared : shared = new_group(Step::Kind::kMap, ir_[v].node);
  }

  bool is_stored(int v) const {
    const Kind kind = ir_[v].kind;
    if (kind == Kind::kPlain || kind == Kind::kConcat || kind == Kind::kPad) return true;
    if (out_.needed[v]) return true;
    return std::any_of(out_.users[v].begin(), out_.users[v].end(), [&](int user) {
      return !is_elementwise(ir_[user].kind) || out_.group[user] != out_.group[v];
    });
  }

  const Graph& graph_;
  const Lowered& lowered_;
  const Ir& ir_;
  const Needed& needed_;
  std::vector<char> seen_;      // per value
  std::set<int64_t> unpacked_;  // entries
  std::map<int, int> maps_;     // tensor -> the step of the chains on it
  Grouping out_;
};

}  // namespace

Grouping group_steps(const Graph& graph, const Lowered& lowered, const Needed& needed) {
  return Grouper(graph, lowered, needed).run();
}

}  // namespace cvm
