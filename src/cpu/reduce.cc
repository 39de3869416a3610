// sum and max whose reduced axes are neighbours: (outer, reduced, inner).
#include "ops/reduce.h"

#include <algorithm>

#include "cpu/kernels.h"
#include "ops/arith.h"

namespace cvm {
namespace {

constexpr int64_t kWorkPerChunk = 1 << 14;

struct Span {
  int64_t outer = 1, terms = 1, inner = 1;
  bool adjacent = true;
};

// Axes of extent 1 belong to no side.
Span find_span(const NodeInfo& n) {
  const Shape& in = n.in[0];
  const auto reduced = reduced_axes(n.as<ReduceAttrs>(), in.size());
  Span s;
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i] == 1) continue;
    if (!reduced[i])
      (s.terms == 1 ? s.outer : s.inner) *= in[i];
    else if (s.inner != 1)
      s.adjacent = false;
    else
      s.terms *= in[i];
  }
  return s;
}

template <int32_t (*F)(int32_t, int32_t)>
class ReduceKernel : public Kernel {
 public:
  ReduceKernel(const NodeInfo& n, const Span& span, bool from_zero)
      : Kernel(n), s_(span), from_zero_(from_zero) {}

  void run(const Buffers& b, Team& team) const override {
    const int64_t work = s_.terms * s_.inner;
    team.parallel_for(s_.outer, std::max<int64_t>(1, kWorkPerChunk / work),
                      [&](int64_t begin, int64_t end, int) {
                        for (int64_t k = begin; k < end; ++k)
                          reduce(b.in[0] + k * work, b.out[0] + k * s_.inner);
                      });
  }

 private:
  void reduce(const int32_t* in, int32_t* out) const {
    if (s_.inner == 1) {
      int32_t value = from_zero_ ? F(0, in[0]) : in[0];
      for (int64_t t = 1; t < s_.terms; ++t) value = F(value, in[t]);
      *out = value;
      return;
    }
    std::copy_n(in, s_.inner, out);
    for (int64_t t = 1; t < s_.terms; ++t)
      for (int64_t i = 0; i < s_.inner; ++i) out[i] = F(out[i], in[t * s_.inner + i]);
  }

  Span s_;
  bool from_zero_;  // only without inner axes: all axes are reduced then
};

int32_t max_of(int32_t a, int32_t b) { return a > b ? a : b; }

}  // namespace

std::unique_ptr<Kernel> make_sum(const NodeInfo& n) {
  const Span span = find_span(n);
  if (!span.adjacent) return nullptr;
  return std::make_unique<ReduceKernel<wrap_add>>(n, span, false);
}

std::unique_ptr<Kernel> make_max(const NodeInfo& n) {
  const Span span = find_span(n);
  if (!span.adjacent) return nullptr;
  const bool from_zero = max_starts_at_zero(n.as<ReduceAttrs>());
  return std::make_unique<ReduceKernel<max_of>>(n, span, from_zero);
}

}  // namespace cvm
