// Groups values into steps, writes their programs and gives every tensor a place.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "ops/arith.h"
#include "plan/liveness.h"
#include "plan/plan.h"
#include "plan/rewrite.h"

namespace cvm {
namespace {

constexpr int kNone = -1;
constexpr size_t kMostMembers = 48;  // of a step; more live values than that do not stay near the registers
constexpr int64_t kSlack = 64;       // bytes behind a tensor that kernels may read

bool is_window(Kind k) { return k == Kind::kConv || k == Kind::kMaxPool || k == Kind::kSum; }
bool is_elementwise(Kind k) { return k == Kind::kMap || k == Kind::kJoin; }

int32_t code_of_lowest(Storage s) { return s == Storage::kByte ? 0 : s == Storage::kShort ? INT16_MIN : INT32_MIN; }

class Scheduler {
 public:
  Scheduler(const Graph& graph, const Params& params) : graph_(graph), params_(params) {}

  Plan run() {
    Lowered lowered = lower(graph_, params_);
    ir_ = std::move(lowered.ir);
    value_ = std::move(lowered.value);
    by_kernel_ = std::move(lowered.by_kernel);
    plan_.weights = std::move(lowered.weights);
    find_unpacked();
    rearrange(&ir_, &needed_);
    join_concats();
    settle_borders();
    sequence();
    find_stored();
    reuse_places();
    choose_by_image();
    place();
    for (size_t g = 0; g < groups_.size(); ++g) emit(g);
    plan_.constants = ir_.take_constants();
    return std::move(plan_);
  }

 private:
  struct Group {
    Step::Kind kind = Step::Kind::kMap;
    int anchor = kNone;         // kPack, windows
    std::vector<int> members;   // in computing order
    int64_t node = -1, entry = -1;
    int unpacked = kNone;       // kUnpack
  };

  template <class T>
  static auto& item(T& v, int64_t i) { return v[static_cast<size_t>(i)]; }

  // ---- what kernels and the caller need

  void need(int64_t entry) {
    const int v = item(value_, entry);
    const bool plain = v == kNone || (ir_[v].kind == Kind::kPlain && ir_[v].entry == entry);
    if (plain || unpacked_.count(entry)) return;
    unpacked_[entry] = needed_.size();
    needed_.push_back(v);
  }

  void find_unpacked() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i)
      if (by_kernel_[i])
        for (int64_t e : graph_.nodes[i].input_entries) need(e);
    for (const EntryRef& head : graph_.heads) need(graph_.entry_id(head));
  }

  // ---- tensors that lie inside of others

  int copy_of(int v) {
    Value copy;
    copy.kind = Kind::kMap;
    copy.code = OpCode::kLoad;
    copy.dims = ir_[v].dims;
    copy.range = ir_[v].range;
    copy.inputs = {v};
    ir_.node = ir_[v].node;
    return ir_.make(std::move(copy));
  }

  // Where a value lies: in the tensor of `root`, from that channel on.
  struct Home {
    int root = kNone;
    int64_t channel = 0;
  };
  Home home(int v) const {
    const auto it = homes_.find(v);
    return it == homes_.end() ? Home{v, 0} : it->second;
  }
  int root(int v) const { return home(v).root; }

  // Every input of a concatenation is computed in place, or copied there.
  void join_concats() {
    const std::vector<int> order = computing_order(ir_, needed_);
    for (auto it = order.rbegin(); it != order.rend(); ++it) {
      if (ir_[*it].kind != Kind::kConcat) continue;
      const Home whole = home(*it);
      int64_t channel = whole.channel;
      for (size_t k = 0; k < ir_[*it].inputs.size(); ++k) {
        int in = ir_[*it].inputs[k];
        // Convolutions take bytes: what fits them stays in bytes.
        const bool widened = storage_for(ir_[in].range) == Storage::kByte &&
                             storage_for(ir_[whole.root].range) != Storage::kByte;
        if (homes_.count(in) || widened || ir_[in].kind == Kind::kBorder) {
          in = copy_of(in);
          ir_.at(*it).inputs[k] = in;
        }
        homes_[in] = {whole.root, channel};
        channel += ir_[in].dims.c;
      }
    }
  }

  // The tensor that a window reads gets the border it needs, unless it has another one already.
  void settle_borders() {
    std::map<std::pair<int, int32_t>, int> copies;
    for (int v : computing_order(ir_, needed_)) {
      const Kind kind = ir_[v].kind;
      if (kind != Kind::kConv && kind != Kind::kMaxPool) continue;
      Border border = ir_[v].border;
      int in = ir_[v].inputs[0];
      if (const Value& b = ir_[in]; kind == Kind::kConv && b.kind == Kind::kBorder &&
                                    (border.empty() || b.border.value == border.value)) {
        border.top += b.border.top, border.left += b.border.left;
        border.bottom += b.border.bottom, border.right += b.border.right;
        border.value = b.border.value;
        in = b.inputs[0];
      }
      if (!border.empty() && !take_border(root(in), border)) {
        int& copy = copies.emplace(std::make_pair(in, border.value), kNone).first->second;
        if (copy == kNone) copy = copy_of(in);
        in = copy;
        take_border(in, border);
      }
      ir_.at(v).inputs[0] = in;
      ir_.at(v).border = border;
    }
  }

  bool take_border(int v, const Border& b) {
    const auto [it, fresh] = borders_.emplace(v, b);
    Border& own = it->second;
    if (fresh) return true;
    if (own.value != b.value) return false;
    own.top = std::max(own.top, b.top), own.left = std::max(own.left, b.left);
    own.bottom = std::max(own.bottom, b.bottom), own.right = std::max(own.right, b.right);
    return true;
  }

  // ---- steps

  void sequence() {
    is_needed_.insert(needed_.begin(), needed_.end());
    std::vector<char> seen(static_cast<size_t>(ir_.size()), 0);
    group_.assign(static_cast<size_t>(ir_.size()), kNone);
    const auto unpack = [&](int64_t entry) {
      const auto it = unpacked_.find(entry);
      if (it == unpacked_.end() || it->second == kUnpackedAlready) return;
      const int v = needed_[it->second];
      for (int u : computing_order(ir_, {v}, &seen)) assign(u);
      Group& g = item(groups_, new_group(Step::Kind::kUnpack, kNone, ir_[v].node));
      g.entry = entry, g.unpacked = v;
      it->second = kUnpackedAlready;
    };
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (!by_kernel_[i]) continue;
      for (int64_t e : graph_.nodes[i].input_entries) unpack(e);
      new_group(Step::Kind::kKernel, kNone, static_cast<int64_t>(i));
    }
    for (const EntryRef& head : graph_.heads) unpack(graph_.entry_id(head));
    users_.assign(static_cast<size_t>(ir_.size()), {});
    for (int v = 0; v < ir_.size(); ++v)
      if (item(seen, v))
        for (int in : ir_[v].inputs) item(users_, in).push_back(v);
  }

  int new_group(Step::Kind kind, int anchor, int64_t node) {
    groups_.emplace_back();
    groups_.back().kind = kind, groups_.back().anchor = anchor, groups_.back().node = node;
    return static_cast<int>(groups_.size()) - 1;
  }

  // Gives v to a step. Concatenations have no step; theirs is the last one that writes to them.
  void assign(int v) {
    const Value& value = ir_[v];
    int& group = item(group_, v);
    switch (value.kind) {
      case Kind::kPlain: group = new_group(Step::Kind::kPack, v, value.node); return;
      case Kind::kConv: group = new_group(Step::Kind::kConv, v, value.node); break;
      case Kind::kMaxPool: group = new_group(Step::Kind::kMaxPool, v, value.node); break;
      case Kind::kSum: group = new_group(Step::Kind::kSum, v, value.node); break;
      case Kind::kBorder: group = new_group(Step::Kind::kMap, kNone, value.node); break;
      case Kind::kConcat:
        for (int in : value.inputs) group = std::max(group, item(group_, in));
        return;
      default: group = group_of_elementwise(v);
    }
    item(groups_, group).members.push_back(v);
  }

  int group_of_elementwise(int v) {
    const std::vector<int>& inputs = ir_[v].inputs;
    int last = kNone, by = inputs[0];
    for (int in : inputs)
      if (item(group_, in) > last) last = item(group_, in), by = in;
    const auto in_registers = [&](int in) {
      const Kind k = ir_[in].kind;
      return is_window(k) || is_elementwise(k);
    };
    const bool joins = item(groups_, last).members.size() < kMostMembers &&
                       std::all_of(inputs.begin(), inputs.end(), [&](int in) {
                         return item(group_, in) < last || in_registers(in);
                       });
    if (joins && in_registers(by)) return last;
    // Several chains on one tensor read it once.
    int& shared = maps_.emplace(by, kNone).first->second;
    const bool fits = shared != kNone && item(groups_, shared).members.size() < kMostMembers &&
                      std::all_of(inputs.begin(), inputs.end(), [&](int in) { return item(group_, in) < shared; });
    return fits ? shared : shared = new_group(Step::Kind::kMap, kNone, ir_[v].node);
  }

  // ---- places

  bool is_stored(int v) const {
    if (ir_[v].kind == Kind::kPlain || ir_[v].kind == Kind::kConcat || ir_[v].kind == Kind::kBorder) return true;
    if (is_needed_.count(v)) return true;
    return std::any_of(item(users_, v).begin(), item(users_, v).end(), [&](int user) {
      return !is_elementwise(ir_[user].kind) || item(group_, user) != item(group_, v);
    });
  }

  void find_stored() {
    stored_.assign(static_cast<size_t>(ir_.size()), 0);
    for (int v = 0; v < ir_.size(); ++v) item(stored_, v) = item(group_, v) != kNone && is_stored(v);
  }

  // ---- tensors in the place of others

  // A sum takes the place of what it adds, where nothing reads that any more: what is read at a pixel is then written
  // there, which costs no other memory.
  void reuse_places() {
    last_user_.assign(static_cast<size_t>(ir_.size()), kNone);
    for (int v = 0; v < ir_.size(); ++v)
      for (int user : item(users_, v)) item(last_user_, v) = std::max(item(last_user_, v), item(group_, user));
    for (int v = 0; v < ir_.size(); ++v)
      if (item(stored_, v) && is_elementwise(ir_[v].kind) && root(v) == v && borders_.count(v) == 0) {
        const int t = dying_input(v);
        if (t != kNone) homes_[v] = {root(t), 0};
      }
  }

  // A tensor that the step of v reads on the way to v and nothing does later, of the same form.
  int dying_input(int v) const {
    std::vector<int> way = {v};
    for (size_t k = 0; k < way.size(); ++k)
      for (int in : ir_[way[k]].inputs) {
        if (item(group_, in) != item(group_, v)) {
          if (ends_in_place(in, v)) return in;
        } else if (is_elementwise(ir_[in].kind) && way.size() < kMostMembers) {
          way.push_back(in);
        }
      }
    return kNone;
  }

  bool ends_in_place(int t, int v) const {
    const int g = item(group_, v), r = root(t);
    const Kind kind = ir_[r].kind;
    if (is_needed_.count(t) || borders_.count(r) || kind == Kind::kConcat || kind == Kind::kBorder) return false;
    if (!(ir_[r].dims == ir_[v].dims) || storage_for(ir_[r].range) != storage_for(ir_[v].range)) return false;
    if (item(last_user_, t) != g) return false;
    const std::vector<int>& users = item(users_, t);
    if (std::count_if(users.begin(), users.end(), [&](int user) { return item(group_, user) == g; }) != 1) return false;
    // Nor has another result of the step taken the place.
    const std::vector<int>& members = item(groups_, g).members;
    return std::none_of(members.begin(), members.end(), [&](int m) { return item(stored_, m) && root(m) == r; });
  }

  // ---- image by image

  // Images of a step; 0 for kernels, which take all at once.
  int64_t images(const Group& g) const {
    if (g.kind == Step::Kind::kKernel) return 0;
    const int v = g.kind == Step::Kind::kPack ? g.anchor : g.kind == Step::Kind::kUnpack ? g.unpacked : g.members.front();
    return ir_[v].dims.n;
  }

  int64_t image_bytes(int v) const {
    return ir_[v].dims.size() / ir_[v].dims.n * bytes_of(storage_for(ir_[v].range));
  }

  // The first layers of a network have large tensors and small weights, the
  // last ones small tensors and large weights. The first ones run image by
  // image, so that tensors stay in the cache, the rest with all images at once,
  // so that weights do: cut where least has to be read again.
  void choose_by_image() {
    constexpr int64_t kStart = 4 << 10;  // bytes that could be read in the time that starting a step takes
    if (groups_.empty() || images(groups_[0]) <= 1) return;
    plan_.images = images(groups_[0]);
    std::vector<int64_t> tensors(groups_.size(), 0), weights(groups_.size(), 0);
    for (int v = 0; v < ir_.size(); ++v) {
      if (item(group_, v) == kNone) continue;
      if (item(stored_, v)) item(tensors, item(group_, v)) += image_bytes(v);
      for (int in : ir_[v].inputs)
        if (item(stored_, in)) item(tensors, item(group_, v)) += image_bytes(in);
      if (ir_[v].kind == Kind::kConv) {
        const ConvSpec& c = ir_[v].conv;
        item(weights, item(group_, v)) +=
            ir_[v].dims.c * ir_[ir_[v].inputs[0]].dims.c / c.groups * c.kernel_h * c.kernel_w;
      }
    }
    int64_t gain = 0, most = 0;
    for (size_t g = 0; g < groups_.size() && images(groups_[g]) == plan_.images; ++g) {
      gain += tensors[g] - weights[g] - kStart;
      if (gain > most) most = gain, plan_.by_image = g + 1;
    }
  }

  // What holds all images stays while any of the first steps runs, as these run again and again.
  void keep_for_images(Block* b) const {
    const auto end = static_cast<int64_t>(plan_.by_image);
    if (b->first >= end || b->last < 0) return;
    touch(0, b);
    touch(end - 1, b);
  }

  static void touch(int64_t step, Block* b) {
    b->first = std::min(b->first, step);
    b->last = std::max(b->last, step);
  }

  void place() {
    constexpr int64_t kNever = INT64_MAX;
    std::map<int, size_t> block_of_root;
    std::vector<Block> blocks;
    for (int v = 0; v < ir_.size(); ++v) {
      if (!item(stored_, v)) continue;
      const auto [it, fresh] = block_of_root.emplace(root(v), blocks.size());
      if (fresh) blocks.push_back({0, kNever, 0});
      Block& block = blocks[it->second];
      touch(item(group_, v), &block);
      for (int user : item(users_, v)) touch(item(group_, user), &block);
    }
    for (size_t g = 0; g < groups_.size(); ++g)
      if (groups_[g].kind == Step::Kind::kUnpack)
        touch(static_cast<int64_t>(g), &blocks[block_of_root.at(root(groups_[g].unpacked))]);
    for (const auto& [r, k] : block_of_root) {
      View& view = views_[r] = layout(r);
      const bool one = blocks[k].last < static_cast<int64_t>(plan_.by_image);
      blocks[k].bytes = (one ? 1 : view.dims.n) * view.image_stride + kSlack;
      if (one) view.image_stride = 0;
      else keep_for_images(&blocks[k]);
    }
    const std::vector<int64_t> entries = plain_entries();
    for (int64_t e : entries) {
      blocks.push_back(plain_block(e));
      keep_for_images(&blocks.back());
    }
    const std::vector<int64_t> offsets = place_blocks(blocks, &plan_.bytes);
    for (const auto& [r, k] : block_of_root) views_[r].offset += offsets[k];
    plan_.offset.assign(static_cast<size_t>(graph_.num_entries()), kNoOffset);
    for (size_t k = 0; k < entries.size(); ++k)
      item(plan_.offset, entries[k]) = offsets[blocks.size() - entries.size() + k];
  }

  View layout(int v) const {
    const auto it = borders_.find(v);
    const Border b = it == borders_.end() ? Border{} : it->second;
    View view;
    view.storage = storage_for(ir_[v].range);
    view.dims = ir_[v].dims;
    view.pixel_stride = view.dims.c * bytes_of(view.storage);
    view.row_stride = (view.dims.w + b.left + b.right) * view.pixel_stride;
    view.image_stride = (view.dims.h + b.top + b.bottom) * view.row_stride;
    view.offset = b.top * view.row_stride + b.left * view.pixel_stride;
    return view;
  }

  View view(int v) const {
    const Home h = home(v);
    View result = views_.at(h.root);
    result.dims.c = ir_[v].dims.c;
    result.offset += h.channel * bytes_of(result.storage);
    return result;
  }

  // Entries that need an int32 tensor.
  std::vector<int64_t> plain_entries() {
    std::map<int64_t, Block>& lives = plain_lives_;
    const auto live = [&](int64_t entry, int64_t step) {
      if (item(params_, entry)) return;
      Block& b = lives.emplace(entry, Block{0, step, step}).first->second;
      touch(step, &b);
    };
    const auto end = static_cast<int64_t>(groups_.size());
    for (const Node& node : graph_.nodes)
      if (node.is_variable && node.name == kInputName) live(node.first_entry, kBeforeRun);
    for (int64_t g = 0; g < end; ++g) {
      const Group& group = item(groups_, g);
      if (group.entry >= 0) live(group.entry, g);
      if (group.kind == Step::Kind::kPack) live(ir_[group.anchor].entry, g);
      if (group.kind != Step::Kind::kKernel) continue;
      const Node& node = item(graph_.nodes, group.node);
      for (int64_t e : node.input_entries) live(e, g);
      for (int k = 0; k < node.num_outputs; ++k) live(node.first_entry + k, g);
    }
    for (const EntryRef& head : graph_.heads) live(graph_.entry_id(head), end);
    std::vector<int64_t> entries;
    for (const auto& [entry, block] : lives) entries.push_back(entry);
    return entries;
  }

  Block plain_block(int64_t entry) const {
    Block b = plain_lives_.at(entry);
    b.bytes = size_of(item(graph_.shapes, entry)) * static_cast<int64_t>(sizeof(int32_t));
    return b;
  }

  // ---- programs

  void emit(size_t g) {
    const Group& group = groups_[g];
    Step step;
    step.kind = group.kind;
    step.node = group.node;
    step.entry = group.entry;
    if (group.kind == Step::Kind::kPack) {
      step.entry = ir_[group.anchor].entry;
      step.dims = ir_[group.anchor].dims;
      step.tensors = {view(group.anchor)};
      fill_border(group.anchor, &step);
    } else if (group.kind == Step::Kind::kUnpack) {
      step.dims = ir_[group.unpacked].dims;
      step.tensors = {view(group.unpacked)};
    } else if (group.kind != Step::Kind::kKernel) {
      emit_program(group, &step);
    }
    plan_.steps.push_back(std::move(step));
  }

  // The first step that writes to a tensor also writes its border.
  void fill_border(int v, Step* step) {
    const int r = root(v);
    const auto it = borders_.find(r);
    if (it == borders_.end() || !filled_.insert(r).second) return;
    Border b = it->second;
    const View& inside = views_.at(r);
    if (b.value == INT32_MIN) b.value = code_of_lowest(inside.storage);
    else if (inside.storage == Storage::kByte) b.value += kByteZero;
    step->fills.push_back({inside, b});
  }

  // Operations of one step on codes: reads of tensors, and what is made of them.
  struct Registers {
    std::map<int, int> value;       // value -> that value, computed here
    std::map<int, int> read;        // value -> its code, read here
    std::map<int, int> tensor;      // what was read -> index of the tensor
    int start = kNone;              // what the window computes
  };

  int read(int v, Registers* r, Step* step) {
    int& code = r->read.emplace(v, kNone).first->second;
    const View from = view(v);
    const int32_t zero = from.storage == Storage::kByte ? kByteZero : 0;
    if (code == kNone) {
      Value leaf;
      leaf.dims = ir_[v].dims;
      leaf.range = {ir_[v].range.low + zero, ir_[v].range.high + zero};
      code = ir_.make(std::move(leaf));
      r->tensor[code] = static_cast<int>(step->tensors.size());
      step->tensors.push_back(from);
    }
    return ir_.add(code, {-zero});
  }

  // What a window computes, from codes: with the zeros of bytes in it.
  int window(int v, Registers* r, Step* step) {
    const Value& value = ir_[v];
    const int in = value.inputs[0];
    step->in = view(in).with(value.border);
    step->conv = value.conv;
    step->pool = value.pool;
    const bool bytes = step->in.storage == Storage::kByte;
    const int64_t taps = value.kind == Kind::kSum ? value.conv.kernel_h * value.conv.kernel_w : 1;
    const int64_t zeros = bytes && value.kind != Kind::kConv ? kByteZero * taps : 0;
    Value leaf;
    leaf.dims = value.dims;
    leaf.range = {value.range.low + zeros, value.range.high + zeros};
    r->start = ir_.make(std::move(leaf));
    return ir_.add(r->start, {static_cast<int32_t>(-zeros)});
  }

  void emit_program(const Group& group, Step* step) {
    Registers r;
    std::vector<std::pair<int, int>> stores;  // code -> tensor
    step->dims = ir_[group.members.front()].dims;
    for (int v : group.members) {
      const Value value = ir_[v];
      ir_.node = value.node;
      if (is_window(value.kind)) {
        r.value[v] = window(v, &r, step);
      } else if (value.kind == Kind::kBorder) {
        step->dims = ir_[value.inputs[0]].dims;
        r.value[v] = read(value.inputs[0], &r, step);
      } else {
        std::vector<int> inputs;
        for (int in : value.inputs) {
          const auto it = r.value.find(in);
          inputs.push_back(it != r.value.end() ? it->second : read(in, &r, step));
        }
        r.value[v] = ir_.reapply(value, inputs);
      }
      if (!item(stored_, v)) continue;
      View to = view(v);
      fill_border(v, step);
      if (value.kind == Kind::kBorder) to = interior(v, to, step);
      int code = r.value[v];
      if (to.storage == Storage::kByte) code = ir_.add(code, {kByteZero});
      code = without_limit(code, to.storage);
      stores.push_back({code, static_cast<int>(step->tensors.size())});
      step->tensors.push_back(to);
    }
    write_program(r, stores, step);
    if (step->kind == Step::Kind::kConv) start_from_bias(step);
  }

  // Without a minimum that storing takes anyway.
  int without_limit(int code, Storage storage) const {
    const Range held = storage == Storage::kByte ? Range{0, 255} : Range{INT16_MIN, INT16_MAX};
    const Value& top = ir_[code];
    const bool limits = storage != Storage::kInt && top.kind == Kind::kMap && top.code == OpCode::kMin &&
                        !top.constant.channels && top.constant.value == held.high &&
                        ir_[top.inputs[0]].range.low >= held.low;
    return limits ? top.inputs[0] : code;
  }

  // What a convolution's sums get added first, they start from.
  void start_from_bias(Step* step) {
    if (step->program.empty() || step->program[0].code != OpCode::kAdd) return;
    const MapOp first = step->program[0];
    std::vector<int32_t> bias(static_cast<size_t>(step->dims.c));
    for (size_t c = 0; c < bias.size(); ++c)
      bias[c] = wrap_add(step->conv.bias ? step->conv.bias[c] : 0, first.channels ? first.channels[c] : first.value);
    step->conv.bias = ir_.keep(std::move(bias));
    step->program.erase(step->program.begin());
  }

  // What a border lies around; the step fills it.
  View interior(int v, View whole, Step* step) {
    Border b = ir_[v].border;
    View inside = whole;
    inside.dims = ir_[ir_[v].inputs[0]].dims;
    inside.offset += b.top * whole.row_stride + b.left * whole.pixel_stride;
    if (inside.storage == Storage::kByte) b.value += kByteZero;
    step->fills.push_back({inside, b});
    return inside;
  }

  void write_program(const Registers& r, const std::vector<std::pair<int, int>>& stores, Step* step) {
    std::vector<int> results;
    std::multimap<int, int> tensors_of;
    for (const auto& [code, tensor] : stores) {
      if (!tensors_of.count(code)) results.push_back(code);
      tensors_of.emplace(code, tensor);
    }
    const auto is_read = [&](int v) { return r.tensor.count(v) != 0; };
    // Reads happen where they are used; all else is computed once, in this order.
    std::vector<int> order;
    if (r.start != kNone) results.insert(results.begin(), r.start);  // it is in the registers at first
    for (int v : computing_order(ir_, results))
      if (!is_read(v) || tensors_of.count(v)) order.push_back(v);
    // Whatever is wanted after the operation behind its own goes to a slot.
    std::map<int, size_t> last_use;
    std::map<int64_t, size_t> last_read;  // place -> the operation
    std::map<int, bool> saved;
    const auto place = [&](int tensor) { return item(step->tensors, tensor).offset; };
    for (size_t k = 0; k < order.size(); ++k) {
      const std::vector<int>& inputs = ir_[order[k]].inputs;
      if (is_read(order[k])) last_read[place(r.tensor.at(order[k]))] = k;
      for (size_t i = 0; i < inputs.size(); ++i) {
        if (is_read(inputs[i])) {
          last_read[place(r.tensor.at(inputs[i]))] = k;
          continue;
        }
        last_use[inputs[i]] = k;
        const bool next = k > 0 && order[k - 1] == inputs[i];
        if (!next || (i == 1 && inputs[0] == inputs[1])) saved[inputs[i]] = true;
      }
    }
    std::map<int, int> slots;
    std::vector<int> free_slots;
    std::vector<std::pair<int, int>> late;  // stores: value -> tensor
    int current = r.start;
    const auto op = [&](OpCode code) -> MapOp& {
      step->program.push_back({});
      step->program.back().code = code;
      return step->program.back();
    };
    const auto on_tensor = [&](OpCode code, int tensor) {
      MapOp& o = op(code);
      o.index = tensor;
      o.storage = item(step->tensors, tensor).storage;
    };
    const auto bring = [&](int v) {
      if (current == v) return;
      if (is_read(v)) on_tensor(OpCode::kLoad, r.tensor.at(v));
      else op(OpCode::kRestore).index = slots.at(v);
      current = v;
    };
    for (size_t k = 0; k < order.size(); ++k) {
      const int v = order[k];
      const Value& value = ir_[v];
      if (value.kind == Kind::kMap) {
        bring(value.inputs[0]);
        MapOp& o = op(value.code);
        o.value = value.constant.value, o.channels = value.constant.channels, o.table = value.table;
      } else if (value.kind == Kind::kJoin) {
        const bool swapped = current == value.inputs[1] && current != value.inputs[0];
        bring(value.inputs[swapped ? 1 : 0]);
        const int other = value.inputs[swapped ? 0 : 1];
        if (is_read(other)) on_tensor(tensor_code(value.code, swapped), r.tensor.at(other));
        else op(slot_code(value.code, swapped)).index = slots.at(other);
      } else {
        bring(v);  // a read that is stored as it is, or what the window computes
      }
      current = v;
      for (auto [it, end] = tensors_of.equal_range(v); it != end; ++it) {
        const auto read = last_read.find(place(it->second));
        if (read == last_read.end() || read->second <= k) {
          on_tensor(OpCode::kStore, it->second);
        } else {  // where another operation has yet to read
          late.push_back({v, it->second});
          saved[v] = true, last_use[v] = order.size();
        }
      }
      for (size_t i = 0; i < value.inputs.size(); ++i) {
        const int in = value.inputs[i];
        if (slots.count(in) && last_use[in] == k) free_slots.push_back(slots[in]), slots.erase(in);
      }
      if (!saved[v]) continue;
      if (free_slots.empty()) free_slots.push_back(step->slots++);
      slots[v] = free_slots.back();
      free_slots.pop_back();
      op(OpCode::kSave).index = slots[v];
    }
    for (const auto& [v, tensor] : late) {
      bring(v);
      on_tensor(OpCode::kStore, tensor);
    }
  }

  static OpCode tensor_code(OpCode code, bool swapped) {
    return code == OpCode::kSubTensor && swapped ? OpCode::kReverseSubTensor : code;
  }
  static OpCode slot_code(OpCode code, bool swapped) {
    switch (code) {
      case OpCode::kAddTensor: return OpCode::kAddSlot;
      case OpCode::kSubTensor: return swapped ? OpCode::kReverseSubSlot : OpCode::kSubSlot;
      case OpCode::kMulTensor: return OpCode::kMulSlot;
      default: return OpCode::kMaxSlot;
    }
  }

  static constexpr size_t kUnpackedAlready = SIZE_MAX;

  const Graph& graph_;
  const Params& params_;
  Ir ir_;
  std::vector<int> value_;
  std::vector<char> by_kernel_;
  std::vector<int> needed_;
  std::set<int> is_needed_;
  std::map<int64_t, size_t> unpacked_;  // entry -> item of needed_
  std::map<int, Home> homes_;
  std::map<int, Border> borders_;       // by root
  std::vector<Group> groups_;
  std::vector<int> group_;              // per value
  std::map<int, int> maps_;             // tensor -> the step of the chains on it
  std::vector<std::vector<int>> users_;
  std::vector<int> last_user_;          // the step, per value
  std::vector<char> stored_;
  std::map<int, View> views_;           // by root
  std::map<int64_t, Block> plain_lives_;
  std::set<int> filled_;  // roots whose border is written
  Plan plan_;
};

}  // namespace

Plan plan_fused(const Graph& graph, const Params& params) { return Scheduler(graph, params).run(); }

Plan plan_kernels(const Graph& graph) {
  Plan plan;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].is_variable) continue;
    Step step;
    step.node = static_cast<int64_t>(i);
    plan.steps.push_back(std::move(step));
  }
  ArenaPlan arena = plan_arena(graph);
  plan.offset = std::move(arena.offset);
  plan.bytes = arena.bytes;
  return plan;
}

}  // namespace cvm
