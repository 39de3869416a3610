// Gives every tensor a place in the arena.
#include <algorithm>
#include <set>

#include "plan/liveness.h"
#include "plan/phases.h"

namespace cvm {
namespace {

constexpr int64_t kSlack = 64;  // bytes after a tensor that kernels may read

// Puts tensors in the place of others.
//
// A sum takes the place of what it adds, where nothing reads that any more: what is read at a pixel
// is then written there, which costs no other memory.
class Reuse {
 public:
  Reuse(const Ir& ir, const Grouping& grouping, Layout* layout)
      : ir_(ir), grouping_(grouping), layout_(*layout) {
    last_user_.assign(grouping.users.size(), kNone);
    for (int v = 0; v < ir.size(); ++v)
      for (int user : grouping.users[v])
        last_user_[v] = std::max(last_user_[v], grouping.group[user]);
  }

  void run() {
    for (int v = 0; v < ir_.size(); ++v) {
      const bool moves = grouping_.stored[v] && is_elementwise(ir_[v].kind) &&
                         layout_.root(v) == v && layout_.paddings.count(v) == 0;
      const int t = moves ? dying_input(v) : kNone;
      if (t != kNone) layout_.homes[v] = {layout_.root(t), 0};
    }
  }

 private:
  // A tensor that the step of v reads on the way to v and nothing does later, of the same form.
  int dying_input(int v) const {
    std::vector<int> way = {v};
    for (size_t k = 0; k < way.size(); ++k)
      for (int in : ir_[way[k]].inputs) {
        if (grouping_.group[in] != grouping_.group[v]) {
          if (ends_in_place(in, v)) return in;
        } else if (is_elementwise(ir_[in].kind) && way.size() < kMaxMembers) {
          way.push_back(in);
        }
      }
    return kNone;
  }

  bool ends_in_place(int t, int v) const {
    const int g = grouping_.group[v], r = layout_.root(t);
    const Value& whole = ir_[r];
    if (grouping_.needed[t] || layout_.paddings.count(r)) return false;
    if (whole.kind == Kind::kConcat || whole.kind == Kind::kPad) return false;
    if (!(whole.dims == ir_[v].dims) || storage_for(whole.range) != storage_for(ir_[v].range))
      return false;
    if (last_user_[t] != g) return false;
    const std::vector<int>& users = grouping_.users[t];
    const auto in_step = [&](int user) { return grouping_.group[user] == g; };
    if (std::count_if(users.begin(), users.end(), in_step) != 1) return false;
    // Nor has another result of the step taken the place.
    const std::vector<int>& members = grouping_.groups[g].members;
    return std::none_of(members.begin(), members.end(), [&](int m) {
      return grouping_.stored[m] && layout_.root(m) == r;
    });
  }

  const Ir& ir_;
  const Grouping& grouping_;
  Layout& layout_;
  std::vector<int> last_user_;  // the step, per value
};

void touch(int64_t step, Block* b) {
  b->first = std::min(b->first, step);
  b->last = std::max(b->last, step);
}

// What holds all images stays while any of the first steps runs, as these run again and again.
void keep_for_images(const ByImage& by_image, Block* b) {
  const auto end = static_cast<int64_t>(by_image.steps);
  if (b->first >= end || b->last < 0) return;
  touch(0, b);
  touch(end - 1, b);
}

// The steps that use the tensor of a root.
struct Life {
  int root;
  Block block;
};

std::vector<Life> tensor_lives(const Ir& ir, const Grouping& grouping, const Layout& layout) {
  constexpr int64_t kNever = INT64_MAX;
  std::map<int, size_t> life_of;  // by root
  std::vector<Life> lives;
  for (int v = 0; v < ir.size(); ++v) {
    if (!grouping.stored[v]) continue;
    const int root = layout.root(v);
    const auto [it, fresh] = life_of.emplace(root, lives.size());
    if (fresh) lives.push_back({root, {0, kNever, 0}});
    Block& block = lives[it->second].block;
    touch(grouping.group[v], &block);
    for (int user : grouping.users[v]) touch(grouping.group[user], &block);
  }
  for (size_t g = 0; g < grouping.groups.size(); ++g)
    if (grouping.groups[g].kind == Step::Kind::kUnpack)
      touch(static_cast<int64_t>(g),
            &lives[life_of.at(layout.root(grouping.groups[g].value))].block);
  return lives;
}

// The steps that use the int32 tensor of each entry that needs one.
std::map<int64_t, Block> entry_lives(const Graph& graph, const Params& params,
                                     const std::vector<Group>& groups) {
  std::map<int64_t, Block> lives;
  const auto live = [&](int64_t entry, int64_t step) {
    if (params[entry]) return;
    const int64_t bytes = size_of(graph.shapes[entry]) * static_cast<int64_t>(sizeof(int32_t));
    touch(step, &lives.emplace(entry, Block{bytes, step, step}).first->second);
  };
  const auto end = static_cast<int64_t>(groups.size());
  for (const Node& node : graph.nodes)
    if (node.is_variable && node.name == kInputName) live(node.first_entry, kBeforeRun);
  for (int64_t g = 0; g < end; ++g) {
    const Group& group = groups[g];
    if (group.entry >= 0) live(group.entry, g);
    if (group.kind != Step::Kind::kKernel) continue;
    const Node& node = graph.nodes[group.node];
    for (int64_t e : node.input_entries) live(e, g);
    for (int k = 0; k < node.num_outputs; ++k) live(node.first_entry + k, g);
  }
  for (const EntryRef& head : graph.heads) live(graph.entry_id(head), end);
  return lives;
}

// The tensor of a root, in a block that begins at 0.
View view_in_block(const Value& value, const Layout& layout, int root) {
  const auto it = layout.paddings.find(root);
  const Padding b = it == layout.paddings.end() ? Padding{} : it->second;
  View view;
  view.storage = storage_for(value.range);
  view.dims = value.dims;
  view.pixel_stride = view.dims.c * bytes_of(view.storage);
  view.row_stride = (view.dims.w + b.left + b.right) * view.pixel_stride;
  view.image_stride = (view.dims.h + b.top + b.bottom) * view.row_stride;
  view.offset = b.top * view.row_stride + b.left * view.pixel_stride;
  return view;
}

// What the first value of each padded tensor, in the order of writing, has to fill.
std::map<int, Fill> find_fills(const Grouping& grouping, const Layout& layout,
                               const std::map<int, View>& views) {
  std::map<int, Fill> fills;
  std::set<int> filled;  // roots
  const auto write = [&](int v) {
    const int r = layout.root(v);
    const auto it = layout.paddings.find(r);
    if (it == layout.paddings.end() || !filled.insert(r).second) return;
    Padding b = it->second;
    const View& inside = views.at(r);
    const Storage storage = inside.storage;
    b.value = b.value == INT32_MIN ? lowest_code(storage) : b.value + zero_point(storage);
    fills[v] = {inside, b};
  };
  for (const Group& group : grouping.groups) {
    if (group.kind == Step::Kind::kPack) write(group.value);
    for (int v : group.members)
      if (grouping.stored[v]) write(v);
  }
  return fills;
}

// Stored values as parts of their roots' tensors.
std::map<int, View> find_views(const Ir& ir, const Grouping& grouping, const Layout& layout,
                               const std::map<int, View>& roots) {
  std::map<int, View> views;
  for (int v = 0; v < ir.size(); ++v) {
    if (!grouping.stored[v]) continue;
    const Home home = layout.home(v);
    View& view = views[v] = roots.at(home.root);
    view.dims.c = ir[v].dims.c;
    view.offset += home.channel * bytes_of(view.storage);
  }
  return views;
}

}  // namespace

Places place(const Graph& graph, const Params& params, const Ir& ir, const Grouping& grouping,
             const ByImage& by_image, Layout layout) {
  Reuse(ir, grouping, &layout).run();
  std::vector<Block> blocks;
  std::map<int, View> roots;
  const std::vector<Life> tensors = tensor_lives(ir, grouping, layout);
  for (const auto& [root, life] : tensors) {
    View& view = roots[root] = view_in_block(ir[root], layout, root);
    Block block = life;
    const bool one_image = block.last < static_cast<int64_t>(by_image.steps);
    block.bytes = (one_image ? 1 : view.dims.n) * view.image_stride + kSlack;
    if (one_image) view.image_stride = 0;
    else keep_for_images(by_image, &block);
    blocks.push_back(block);
  }
  const std::map<int64_t, Block> entries = entry_lives(graph, params, grouping.groups);
  for (const auto& [entry, life] : entries) {
    blocks.push_back(life);
    keep_for_images(by_image, &blocks.back());
  }
  Places places;
  const std::vector<int64_t> offsets = place_blocks(blocks, &places.bytes);
  auto offset = offsets.begin();
  for (const Life& tensor : tensors) roots[tensor.root].offset += *offset++;
  places.offset.assign(static_cast<size_t>(graph.num_entries()), kNoOffset);
  for (const auto& [entry, life] : entries) places.offset[entry] = *offset++;
  places.fills = find_fills(grouping, layout, roots);
  places.views = find_views(ir, grouping, layout, roots);
  return places;
}

}  // namespace cvm
