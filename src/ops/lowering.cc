#include "ops/lowering.h"

#include "ops/arith.h"

namespace cvm {
namespace {

// What is lowered of parameters may take so many bytes for each of the file's, and a little more;
// as much again is left for constants that later rearrangements make. Thousands of nodes may share
// one parameter.
constexpr int64_t kMaxCopies = 64;
constexpr int64_t kSmallCopies = 2 << 20;

constexpr int64_t kMaxGrowth = 4;  // of a tensor by its padding

}  // namespace

Lowering::Lowering(const Params& params) : params_(params), values_(params.size(), kNone) {
  int64_t bytes = 0;
  for (const Param& p : params) bytes += p.count * p.bits / 8;
  budget_ = kMaxCopies * bytes + kSmallCopies;
  ir_.max_kept = budget_ / static_cast<int64_t>(sizeof(int32_t));
}

void Lowering::start(NodeInfo node, const std::vector<int64_t>& entries, int64_t number) {
  node_ = std::move(node);
  entries_ = entries;
  ir_.node = number;
}

int Lowering::value(size_t k) {
  const int64_t entry = entries_[k];
  int& v = values_[static_cast<size_t>(entry)];
  if (v != kNone || param(k)) return v;
  const Shape& s = node_.in[k];
  if (s.size() != 4 && s.size() != 2) return kNone;
  Value plain;
  plain.kind = Kind::kPlain;
  plain.entry = entry;
  plain.dims = s.size() == 4 ? Dims{s[0], s[2], s[3], s[1]} : Dims{s[0], 1, 1, s[1]};
  const int64_t bound = int_max(node_.in_precision[k]);
  plain.range = {-bound, bound};
  return v = ir_.make(std::move(plain));
}

bool Lowering::constant(size_t k, size_t of, int x, Constant* out) {
  const Param& p = param(k);
  const Dims dims = ir_[x].dims;
  if (p.count == 1) {
    *out = {p[0]};
    return true;
  }
  const Shape &s = node_.in[k], &full = node_.in[of];
  const auto back = static_cast<size_t>(full.size() == 4 ? 3 : 1);  // channels' axis from the end
  const bool channels = p.count == dims.c && s.size() >= back && s[s.size() - back] == dims.c;
  if (!channels || (full.size() == 2 && dims.h * dims.w != 1)) return false;
  if (!spend_integers(2 * p.count)) return false;
  std::vector<int32_t> values(static_cast<size_t>(p.count));
  for (int64_t i = 0; i < p.count; ++i) values[static_cast<size_t>(i)] = p[i];
  *out = {0, ir_.keep(std::move(values))};
  return true;
}

const int8_t* Lowering::weights(size_t k) {
  const Param& p = param(k);
  if (p.bits == 8) return reinterpret_cast<const int8_t*>(p.data);
  std::vector<int8_t> narrow(static_cast<size_t>(p.count));
  for (int64_t i = 0; i < p.count; ++i) narrow[static_cast<size_t>(i)] = static_cast<int8_t>(p[i]);
  weights_.push_back(std::move(narrow));
  return weights_.back().data();
}

bool Lowering::spend(int64_t bytes) {
  if (bytes > budget_) return false;
  budget_ -= bytes;
  return true;
}

bool Lowering::spend_integers(int64_t count) {
  return spend((count + kChannelPadding) * static_cast<int64_t>(sizeof(int32_t)));
}

bool Lowering::takes_taps(int64_t taps) {
  return taps <= kMaxTaps && spend(taps * static_cast<int64_t>(sizeof(int64_t)));
}

bool grows_little(const Dims& d, const Padding& b) {
  const int64_t grown = (d.h + b.top + b.bottom) * (d.w + b.left + b.right);
  return grown <= kMaxGrowth * d.h * d.w + kMaxTaps;
}

}  // namespace cvm
