// Turns groups of values into steps, whose operations work on the codes that tensors hold.
#include <utility>

#include "ops/arith.h"
#include "plan/epilogue.h"
#include "plan/phases.h"

namespace cvm {
namespace {

class Emitter {
 public:
  Emitter(Ir* ir, const Grouping& grouping, const Places& places, const Group& group)
      : ir_(*ir), grouping_(grouping), places_(places), group_(group) {}

  Step emit() {
    step_.kind = group_.kind;
    step_.node = group_.node;
    step_.entry = group_.entry;
    switch (group_.kind) {
      case Step::Kind::kKernel: break;
      case Step::Kind::kPack:
        fill_padding(group_.value);
        [[fallthrough]];
      case Step::Kind::kUnpack:
        step_.dims = ir_[group_.value].dims;
        step_.tensors = {view(group_.value)};
        break;
      case Step::Kind::kConv:
      case Step::Kind::kMaxPool:
      case Step::Kind::kSum:
      case Step::Kind::kMap: compute();
    }
    return std::move(step_);
  }

 private:
  const View& view(int v) const { return places_.views.at(v); }

  void compute() {
    step_.dims = ir_[group_.members.front()].dims;
    for (int v : group_.members) {
      ir_.node = ir_[v].node;
      computed_[v] = compute(v);
      if (grouping_.stored[v]) store(v);
    }
    write_epilogue(ir_, codes_, &step_);
    if (step_.kind == Step::Kind::kConv) start_from_bias();
  }

  // A value of the ir that stands for v and is computed from codes.
  int compute(int v) {
    const Value value = ir_[v];
    if (is_window(value.kind)) return window(value);
    if (value.kind == Kind::kPad) {
      step_.dims = ir_[value.inputs[0]].dims;
      return read(value.inputs[0]);
    }
    std::vector<int> inputs;
    for (int in : value.inputs) {
      const auto it = computed_.find(in);
      inputs.push_back(it != computed_.end() ? it->second : read(in));
    }
    return ir_.reapply(value, inputs);
  }

  int leaf(const Value& of, int64_t added) {
    Value leaf;
    leaf.dims = of.dims;
    leaf.range = {of.range.low + added, of.range.high + added};
    return ir_.make(std::move(leaf));
  }

  int read(int v) {
    const View& from = view(v);
    const int32_t zero = zero_point(from.storage);
    int& code = read_.emplace(v, kNone).first->second;
    if (code == kNone) {
      code = leaf(ir_[v], zero);
      codes_.reads[code] = static_cast<int>(step_.tensors.size());
      step_.tensors.push_back(from);
    }
    return ir_.add(code, {-zero});
  }

  // What a window computes, from codes: with the zeros of bytes in it.
  int window(const Value& value) {
    step_.in = view(value.inputs[0]).with(value.padding);
    step_.conv = value.conv;
    step_.pool = value.pool;
    const int64_t taps = value.kind == Kind::kSum ? value.conv.kernel_h * value.conv.kernel_w : 1;
    const int64_t zeros = value.kind == Kind::kConv ? 0 : zero_point(step_.in.storage) * taps;
    codes_.start = leaf(value, zeros);
    return ir_.add(codes_.start, {static_cast<int32_t>(-zeros)});
  }

  void store(int v) {
    View to = view(v);
    fill_padding(v);
    if (ir_[v].kind == Kind::kPad) to = interior(v, to);
    const int code = without_limit(ir_.add(computed_[v], {zero_point(to.storage)}), to.storage);
    codes_.stores.push_back({code, static_cast<int>(step_.tensors.size())});
    step_.tensors.push_back(to);
  }

  // The first step that writes to a tensor also writes its padding.
  void fill_padding(int v) {
    const auto it = places_.fills.find(v);
    if (it != places_.fills.end()) step_.fills.push_back(it->second);
  }

  // What padding lies around; the step fills it.
  View interior(int v, const View& whole) {
    Padding b = ir_[v].padding;
    View inside = whole;
    inside.dims = ir_[ir_[v].inputs[0]].dims;
    inside.offset += b.top * whole.row_stride + b.left * whole.pixel_stride;
    b.value += zero_point(inside.storage);
    step_.fills.push_back({inside, b});
    return inside;
  }

  // Without a minimum that storing takes anyway.
  int without_limit(int code, Storage storage) const {
    const Range held =
        storage == Storage::kByte ? Range{0, 255} : Range{INT16_MIN, INT16_MAX};
    const Value& top = ir_[code];
    const bool limits = storage != Storage::kInt && top.kind == Kind::kMap &&
                        top.primitive == Primitive::kMin && !top.constant.channels &&
                        top.constant.value == held.high &&
                        ir_[top.inputs[0]].range.low >= held.low;
    return limits ? top.inputs[0] : code;
  }

  // What a convolution's sums get added first, they start from.
  void start_from_bias() {
    if (step_.epilogue.empty()) return;
    const MapOp first = step_.epilogue[0];
    if (first.primitive != Primitive::kAdd || first.operand != Operand::kConstant) return;
    const int32_t* const own = step_.conv.bias;
    std::vector<int32_t> bias(static_cast<size_t>(step_.dims.c));
    for (size_t c = 0; c < bias.size(); ++c)
      bias[c] = wrap_add(own ? own[c] : 0, first.channels ? first.channels[c] : first.value);
    step_.conv.bias = ir_.keep(std::move(bias));
    step_.epilogue.erase(step_.epilogue.begin());
  }

  Ir& ir_;
  const Grouping& grouping_;
  const Places& places_;
  const Group& group_;
  std::map<int, int> computed_;  // value -> that value, computed here
  std::map<int, int> read_;      // value -> its code, read here
  Codes codes_;
  Step step_;
};

}  // namespace

std::vector<Step> emit(Ir* ir, const Grouping& grouping, const Places& places) {
  std::vector<Step> steps;
  for (const Group& group : grouping.groups)
    steps.push_back(Emitter(ir, grouping, places, group).emit());
  return steps;
}

}  // namespace cvm
