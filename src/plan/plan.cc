#include "plan/plan.h"

#include <utility>

#include "plan/phases.h"
#include "plan/rewrite.h"

namespace cvm {
namespace {

// What a kernel or the caller reads as int32, but for what is that already.
Needed find_needed(const Graph& graph, const Lowered& lowered) {
  Needed needed;
  const auto need = [&](int64_t entry) {
    const int v = lowered.value[entry];
    if (v == kNone || (lowered.ir[v].kind == Kind::kPlain && lowered.ir[v].entry == entry)) return;
    if (needed.unpacked.emplace(entry, needed.values.size()).second) needed.values.push_back(v);
  };
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (lowered.by_kernel[i])
      for (int64_t e : graph.nodes[i].input_entries) need(e);
  for (const EntryRef& head : graph.heads) need(graph.entry_id(head));
  return needed;
}

}  // namespace

Plan plan_fused(const Graph& graph, const Params& params) {
  Lowered lowered = lower(graph, params);
  Needed needed = find_needed(graph, lowered);
  rearrange(&lowered.ir, &needed.values);
  const Layout layout = lay_out(&lowered.ir, needed.values);
  const Grouping grouping = group_steps(graph, lowered, needed);
  const ByImage by_image = choose_by_image(lowered.ir, grouping);
  Places places = place(graph, params, lowered.ir, grouping, by_image, layout);
  Plan plan;
  plan.steps = emit(&lowered.ir, grouping, places);
  plan.by_image = by_image.steps;
  plan.images = by_image.images;
  plan.offset = std::move(places.offset);
  plan.bytes = places.bytes;
  plan.constants = lowered.ir.take_constants();
  plan.weights = std::move(lowered.weights);
  return plan;
}

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
