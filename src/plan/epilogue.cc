#include "plan/epilogue.h"

#include <set>

#include "plan/phases.h"
#include "plan/rewrite.h"

namespace cvm {
namespace {

// What is computed when, and how long it is wanted.
struct Schedule {
  std::vector<int> order;                   // of values, each computed once
  std::multimap<int, int> stores;           // value -> tensor, right after it is computed
  std::vector<std::pair<int, int>> late;    // value -> tensor, after everything else
  std::map<int, size_t> last_use;           // of a value: an item of `order`
  std::set<int> saved;                      // wanted after the operation that follows their own
};

// Reads happen where they are used; all else is computed once, in this order.
void find_order(const Ir& ir, const Codes& codes, Schedule* s) {
  std::vector<int> results;
  if (codes.start != kNone) results.push_back(codes.start);  // it is in the registers at first
  for (const auto& [value, tensor] : codes.stores) {
    if (!s->stores.count(value)) results.push_back(value);
    s->stores.emplace(value, tensor);
  }
  for (int v : computing_order(ir, results))
    if (!codes.reads.count(v) || s->stores.count(v)) s->order.push_back(v);
}

// Fills in uses; the result says which operation is the last to read a place in the arena.
std::map<int64_t, size_t> find_uses(const Ir& ir, const Codes& codes,
                                    const std::vector<View>& tensors, Schedule* s) {
  std::map<int64_t, size_t> last_read;
  for (size_t k = 0; k < s->order.size(); ++k) {
    const auto reads = [&](int v) {
      const auto it = codes.reads.find(v);
      if (it != codes.reads.end()) last_read[tensors[it->second].offset] = k;
      return it != codes.reads.end();
    };
    const std::vector<int>& inputs = ir[s->order[k]].inputs;
    reads(s->order[k]);
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (reads(inputs[i])) continue;
      s->last_use[inputs[i]] = k;
      const bool follows = k > 0 && s->order[k - 1] == inputs[i];
      if (!follows || (i == 1 && inputs[0] == inputs[1])) s->saved.insert(inputs[i]);
    }
  }
  return last_read;
}

// What is stored where another operation has yet to read waits for the end.
void delay_stores(const std::map<int64_t, size_t>& last_read, const std::vector<View>& tensors,
                  Schedule* s) {
  for (size_t k = 0; k < s->order.size(); ++k) {
    const int v = s->order[k];
    for (auto [it, end] = s->stores.equal_range(v); it != end;) {
      const auto read = last_read.find(tensors[it->second].offset);
      if (read == last_read.end() || read->second <= k) {
        ++it;
        continue;
      }
      s->late.push_back(*it);
      s->saved.insert(v), s->last_use[v] = s->order.size();
      it = s->stores.erase(it);
    }
  }
}

// Slots of saved values, each free for another one after its last use.
std::map<int, int> assign_slots(const Ir& ir, const Schedule& s, int* count) {
  std::map<int, int> slots;
  std::vector<int> free_slots;
  for (size_t k = 0; k < s.order.size(); ++k) {
    const int v = s.order[k];
    const std::vector<int>& inputs = ir[v].inputs;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const auto slot = slots.find(inputs[i]);
      const bool twice = i == 1 && inputs[0] == inputs[1];
      if (slot != slots.end() && s.last_use.at(inputs[i]) == k && !twice)
        free_slots.push_back(slot->second);
    }
    if (!s.saved.count(v)) continue;
    if (free_slots.empty()) free_slots.push_back((*count)++);
    slots[v] = free_slots.back();
    free_slots.pop_back();
  }
  return slots;
}

class Writer {
 public:
  Writer(const Ir& ir, const Codes& codes, const Schedule& schedule, Step* step)
      : ir_(ir), codes_(codes), schedule_(schedule), step_(*step), current_(codes.start) {
    slots_ = assign_slots(ir, schedule, &step->slots);
  }

  void run() {
    for (int v : schedule_.order) {
      compute(v);
      current_ = v;
      for (auto [it, end] = schedule_.stores.equal_range(v); it != end; ++it)
        on_tensor(Primitive::kStore, it->second);
      if (schedule_.saved.count(v)) on_slot(Primitive::kStore, v);
    }
    for (const auto& [v, tensor] : schedule_.late) {
      bring(v);
      on_tensor(Primitive::kStore, tensor);
    }
  }

 private:
  void compute(int v) {
    const Value& value = ir_[v];
    if (value.kind == Kind::kMap) {
      bring(value.inputs[0]);
      MapOp& o = op(value.primitive, Operand::kConstant);
      o.value = value.constant.value, o.channels = value.constant.channels, o.table = value.table;
    } else if (value.kind == Kind::kJoin) {
      const bool swapped = current_ == value.inputs[1] && current_ != value.inputs[0];
      bring(value.inputs[swapped ? 1 : 0]);
      const int other = value.inputs[swapped ? 0 : 1];
      on_value(swapped ? facts(value.primitive).swapped : value.primitive, other);
    } else {
      bring(v);  // a read that is stored as it is, or what the window computes
    }
  }

  // Makes v the current value.
  void bring(int v) {
    if (current_ == v) return;
    on_value(Primitive::kLoad, v);
    current_ = v;
  }

  MapOp& op(Primitive primitive, Operand operand) {
    step_.epilogue.push_back({primitive, operand});
    return step_.epilogue.back();
  }

  // On a value that was computed before, or lies in a tensor.
  void on_value(Primitive primitive, int v) {
    const auto read = codes_.reads.find(v);
    read != codes_.reads.end() ? on_tensor(primitive, read->second) : on_slot(primitive, v);
  }

  void on_slot(Primitive primitive, int v) { op(primitive, Operand::kSlot).index = slots_.at(v); }

  void on_tensor(Primitive primitive, int tensor) {
    MapOp& o = op(primitive, Operand::kTensor);
    o.index = tensor;
    o.storage = step_.tensors[tensor].storage;
  }

  const Ir& ir_;
  const Codes& codes_;
  const Schedule& schedule_;
  Step& step_;
  int current_;  // value in the registers
  std::map<int, int> slots_;
};

}  // namespace

void write_epilogue(const Ir& ir, const Codes& codes, Step* step) {
  Schedule schedule;
  find_order(ir, codes, &schedule);
  delay_stores(find_uses(ir, codes, step->tensors, &schedule), step->tensors, &schedule);
  Writer(ir, codes, schedule, step).run();
}

}  // namespace cvm
