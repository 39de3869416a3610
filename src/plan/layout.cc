// Decides which tensors lie inside of others and what padding they get.
#include <algorithm>
#include <utility>

#include "plan/phases.h"
#include "plan/rewrite.h"

namespace cvm {
namespace {

int copy_of(int v, Ir* ir) {
  Value copy;
  copy.kind = Kind::kMap;
  copy.primitive = Primitive::kLoad;
  copy.dims = (*ir)[v].dims;
  copy.range = (*ir)[v].range;
  copy.inputs = {v};
  ir->node = (*ir)[v].node;
  return ir->make(std::move(copy));
}

// Every input of a concatenation is computed in place, or copied there.
void join_concats(const std::vector<int>& needed, Ir* ir, Layout* layout) {
  const std::vector<int> order = computing_order(*ir, needed);
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    if ((*ir)[*it].kind != Kind::kConcat) continue;
    const Home whole = layout->home(*it);
    int64_t channel = whole.channel;
    for (size_t k = 0; k < (*ir)[*it].inputs.size(); ++k) {
      int in = (*ir)[*it].inputs[k];
      // Convolutions take bytes: what fits them stays in bytes.
      const bool widened = storage_for((*ir)[in].range) == Storage::kByte &&
                           storage_for((*ir)[whole.root].range) != Storage::kByte;
      if (layout->homes.count(in) || widened || (*ir)[in].kind == Kind::kPad) {
        in = copy_of(in, ir);
        ir->at(*it).inputs[k] = in;
      }
      layout->homes[in] = {whole.root, channel};
      channel += (*ir)[in].dims.c;
    }
  }
}

// Gives the tensor at least that padding; false where it has one of another value already.
bool take_padding(int root, const Padding& b, Layout* layout) {
  const auto [it, fresh] = layout->paddings.emplace(root, b);
  Padding& own = it->second;
  if (fresh) return true;
  if (own.value != b.value) return false;
  own.top = std::max(own.top, b.top), own.left = std::max(own.left, b.left);
  own.bottom = std::max(own.bottom, b.bottom), own.right = std::max(own.right, b.right);
  return true;
}

// The tensor that a window reads gets the padding it needs, unless it has another one already.
void settle_paddings(const std::vector<int>& needed, Ir* ir, Layout* layout) {
  std::map<std::pair<int, int32_t>, int> copies;
  for (int v : computing_order(*ir, needed)) {
    const Kind kind = (*ir)[v].kind;
    if (kind != Kind::kConv && kind != Kind::kMaxPool) continue;
    Padding padding = (*ir)[v].padding;
    int in = (*ir)[v].inputs[0];
    if (const Value& b = (*ir)[in]; kind == Kind::kConv && b.kind == Kind::kPad &&
                                    (padding.empty() || b.padding.value == padding.value)) {
      padding.top += b.padding.top, padding.left += b.padding.left;
      padding.bottom += b.padding.bottom, padding.right += b.padding.right;
      padding.value = b.padding.value;
      in = b.inputs[0];
    }
    if (!padding.empty() && !take_padding(layout->root(in), padding, layout)) {
      int& copy = copies.emplace(std::make_pair(in, padding.value), kNone).first->second;
      if (copy == kNone) copy = copy_of(in, ir);
      in = copy;
      take_padding(in, padding, layout);
    }
    ir->at(v).inputs[0] = in;
    ir->at(v).padding = padding;
  }
}

}  // namespace

Layout lay_out(Ir* ir, const std::vector<int>& needed) {
  Layout layout;
  join_concats(needed, ir, &layout);
  settle_paddings(needed, ir, &layout);
  return layout;
}

}  // namespace cvm
