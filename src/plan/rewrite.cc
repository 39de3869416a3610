#include "plan/rewrite.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace cvm {

std::vector<int> computing_order(const Ir& ir, const std::vector<int>& needed) {
  std::vector<char> done(static_cast<size_t>(ir.size()), 0);
  return computing_order(ir, needed, &done);
}

std::vector<int> computing_order(const Ir& ir, const std::vector<int>& needed,
                                 std::vector<char>* done) {
  constexpr char kUnderWay = 1, kDone = 2;
  std::vector<int> order;
  std::vector<int> stack(needed.rbegin(), needed.rend());
  while (!stack.empty()) {
    const int v = stack.back();
    char& state = (*done)[static_cast<size_t>(v)];
    if (state != 0) {
      stack.pop_back();
      if (state == kUnderWay) order.push_back(v);
      state = kDone;
      continue;
    }
    state = kUnderWay;
    const std::vector<int>& inputs = ir[v].inputs;
    for (auto it = inputs.rbegin(); it != inputs.rend(); ++it)
      if ((*done)[static_cast<size_t>(*it)] == 0) stack.push_back(*it);
  }
  return order;
}

namespace {

// Far more than networks need; bounds the time and memory that a graph can cost.
constexpr int kMaxPasses = 8;
constexpr size_t kMaxRegion = 64;
constexpr int64_t kMaxGrowth = 4;  // values made for each of the graph's

int64_t stored_bytes(const Value& v) { return bytes_of(storage_for(v.range)); }

bool is_elementwise(const Value& v) { return v.kind == Kind::kMap || v.kind == Kind::kJoin; }

bool never_decreases(const Ir& ir, int v) {
  const Value& value = ir[v];
  switch (facts(value.primitive).order) {
    case Order::kAny: break;
    case Order::kKept: return true;
    case Order::kKeptByFactor: return value.kind == Kind::kMap && ir.spread(value).low >= 0;
  }
  return false;
}

// Whether a pool can be a part of the convolution whose results it takes. Then the rows that a
// window covers are computed at a time, and threads that share the work compute some twice.
bool takes_pool(const Value& conv, const Value& pool) {
  constexpr int64_t kMaxPixels = 1024, kMaxShared = 3;
  const ConvSpec& window = pool.conv;
  return conv.kind == Kind::kConv && conv.pool.empty() && conv.conv.groups == 1 &&
         window.kernel_h * ((pool.dims.w - 1) * window.stride_w + window.kernel_w) <= kMaxPixels &&
         window.kernel_h <= kMaxShared * window.stride_h;
}

class Rearranging {
 public:
  Rearranging(Ir* ir, std::vector<int>* needed) : ir_(*ir), needed_(*needed) {}

  void run() {
    max_values_ = kMaxGrowth * ir_.size();
    // A move takes a pool or concat nearer to the end of the graph, where the next pass may find
    // more to do.
    bool moved = true;
    for (int passes = 0; moved && passes < kMaxPasses; ++passes) {
      moved = false;
      find_users();
      for (int v : order_) {
        const Kind kind = ir_[v].kind;
        if (kind == Kind::kMaxPool || kind == Kind::kConcat) moved |= move_after(v);
      }
      if (moved) replace();
    }
  }

 private:
  void find_users() {
    order_ = computing_order(ir_, needed_);
    users_.assign(static_cast<size_t>(ir_.size()), {});
    for (int v : order_)
      for (int in : ir_[v].inputs) users_[static_cast<size_t>(in)].push_back(v);
    place_.assign(static_cast<size_t>(ir_.size()), 0);
    for (size_t i = 0; i < order_.size(); ++i)
      place_[static_cast<size_t>(order_[i])] = static_cast<int>(i);
    outside_.assign(static_cast<size_t>(ir_.size()), 0);
    for (int v : needed_) outside_[static_cast<size_t>(v)] = 1;
    replaced_.clear();
  }

  // What stands for v since this pass began. Moves are independent: a region belongs to one of
  // them, so that what find_users() found stays true of all that later ones look at.
  int current(int v) const {
    const auto it = replaced_.find(v);
    return it == replaced_.end() ? v : it->second;
  }
  void replace() {
    for (int v = 0; v < ir_.size(); ++v)
      for (int& in : ir_.at(v).inputs) in = current(in);
    for (int& v : needed_) v = current(v);
  }
  const std::vector<int>& users(int v) const { return users_[static_cast<size_t>(v)]; }

  // Moves a pool in front of the operations that follow a convolution, of which it becomes a part.
  bool move_into_conv(int v) {
    const auto is_used_once = [&](int u) {
      return !outside_[static_cast<size_t>(u)] && users(u).size() == 1;
    };
    std::vector<int> chain;
    int u = ir_[v].inputs[0];
    for (; is_used_once(u) && ir_[u].kind == Kind::kMap && never_decreases(ir_, u);
         u = ir_[u].inputs[0])
      chain.push_back(u);
    if (!is_used_once(u) || !takes_pool(ir_[u], ir_[v]) ||
        ir_.size() + static_cast<int>(chain.size()) >= max_values_)
      return false;
    Value conv = ir_[u];
    const Value& pool = ir_[v];
    conv.pool = {pool.conv.kernel_h, pool.conv.kernel_w, pool.conv.stride_h, pool.conv.stride_w,
                 pool.padding.top,    pool.padding.left,   conv.dims};
    conv.dims = pool.dims;
    ir_.node = conv.node;
    int moved = ir_.make(std::move(conv));
    std::reverse(chain.begin(), chain.end());
    for (int map : chain) {
      ir_.node = ir_[map].node;
      moved = ir_.reapply(Value(ir_[map]), {moved});
    }
    replaced_[v] = moved;
    return true;
  }

  // Moves v after the element-wise operations that depend on nothing but it.
  bool move_after(int v) {
    const bool pools = ir_[v].kind == Kind::kMaxPool;
    if (outside_[static_cast<size_t>(v)]) return false;
    const std::vector<int> region = region_after(v, pools);
    std::set<int> inside(region.begin(), region.end());
    inside.insert(v);
    const auto leaves = [&](int u) {
      return outside_[static_cast<size_t>(u)] ||
             std::any_of(users(u).begin(), users(u).end(),
                         [&](int user) { return inside.count(user) == 0; });
    };
    if (leaves(v)) return false;
    std::vector<int> exits;
    int64_t bytes = 0;
    for (int u : region)
      if (leaves(u)) exits.push_back(u), bytes += stored_bytes(ir_[u]);
    // What leaves in several forms costs more than maxima of 32 bits, computed before.
    if (pools && exits.size() > 1 && move_into_conv(v)) return true;
    const int64_t before = stored_bytes(pools ? ir_[current(ir_[v].inputs[0])] : ir_[v]);
    if (exits.empty() || (pools ? bytes >= before : exits.size() != 1 || bytes > before))
      return false;
    const auto copies = static_cast<int64_t>(region.size()) *
                        (pools ? 1 : static_cast<int64_t>(ir_[v].inputs.size()));
    if (ir_.size() + copies > max_values_ || (!pools && !has_room(v, region))) return false;
    pools ? pool_last(v, region, exits) : concat_last(v, region, exits[0]);
    return true;
  }

  // Whether the constants of a region may be cut for the inputs of a concatenation.
  bool has_room(int v, const std::vector<int>& region) const {
    const auto cut = std::count_if(region.begin(), region.end(),
                                   [&](int u) { return ir_[u].constant.channels != nullptr; });
    const auto padding = kChannelPadding * static_cast<int64_t>(ir_[v].inputs.size());
    return ir_.has_room(cut * (ir_[v].dims.c + padding));
  }

  // The element-wise operations that depend on nothing but v, in computing order.
  std::vector<int> region_after(int v, bool pools) const {
    std::vector<int> region;
    std::set<int> inside = {v}, places;  // places in order_ of what may belong
    const auto push_users = [&](int u) {
      for (int user : users(u)) places.insert(place_[static_cast<size_t>(user)]);
    };
    push_users(v);
    while (!places.empty() && region.size() < kMaxRegion) {
      const int u = order_[static_cast<size_t>(*places.begin())];
      places.erase(places.begin());
      const Value& value = ir_[u];
      const bool belongs = is_elementwise(value) && (!pools || never_decreases(ir_, u)) &&
                           std::all_of(value.inputs.begin(), value.inputs.end(),
                                       [&](int in) { return inside.count(in) != 0; });
      if (!belongs) continue;
      inside.insert(u);
      region.push_back(u);
      push_users(u);
    }
    return region;
  }

  // The region on another input of the same or fewer channels, from `channel` on.
  std::map<int, int> on_input(int from, int to, const std::vector<int>& region, int64_t channel) {
    std::map<int, int> now = {{from, to}};
    const int64_t channels = ir_[to].dims.c;
    for (int u : region) {
      Value op = ir_[u];
      if (op.constant.channels && channels != ir_[from].dims.c) {
        const int32_t* first = op.constant.channels + channel;
        op.constant.channels = ir_.keep(std::vector<int32_t>(first, first + channels));
      }
      std::vector<int> inputs;
      for (int in : op.inputs) inputs.push_back(now.at(in));
      ir_.node = op.node;
      now[u] = ir_.reapply(op, inputs);
    }
    return now;
  }

  void pool_last(int v, const std::vector<int>& region, const std::vector<int>& exits) {
    const std::map<int, int> now = on_input(v, current(ir_[v].inputs[0]), region, 0);
    for (int exit : exits) {
      Value pool = ir_[v];
      pool.inputs = {now.at(exit)};
      pool.range = ir_[pool.inputs[0]].range;
      ir_.node = pool.node;
      replaced_[exit] = ir_.make(std::move(pool));
    }
  }

  void concat_last(int v, const std::vector<int>& region, int exit) {
    Value concat = ir_[v];
    concat.range = {INT64_MAX, INT64_MIN};
    int64_t channel = 0;
    for (int& in : concat.inputs) {
      const int64_t channels = ir_[in].dims.c;
      in = on_input(v, current(in), region, channel).at(exit);
      channel += channels;
      const Range r = ir_[in].range;
      concat.range = {std::min(concat.range.low, r.low), std::max(concat.range.high, r.high)};
    }
    ir_.node = concat.node;
    replaced_[exit] = ir_.make(std::move(concat));
  }

  Ir& ir_;
  std::vector<int>& needed_;
  std::vector<int> order_;
  std::vector<std::vector<int>> users_;
  std::vector<int> place_;  // in order_
  std::vector<char> outside_;
  std::map<int, int> replaced_;  // in this pass
  int64_t max_values_ = 0;
};

}  // namespace

void rearrange(Ir* ir, std::vector<int>* needed) { Rearranging(ir, needed).run(); }

}  // namespace cvm
