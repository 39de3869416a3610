#include "ops/broadcast.h"

#include <algorithm>

#include "ops/arith.h"

namespace cvm {

Shape broadcast_shape(const Shape& a, const Shape& b) {
  const size_t rank = std::max(a.size(), b.size());
  Shape out(rank);
  for (size_t i = 0; i < rank; ++i) {  // counted from the last axis
    const int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t db = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (da != db && da != 1 && db != 1)
      logic_error("the shapes ", to_string(a), " and ", to_string(b), " do not broadcast");
    out[rank - 1 - i] = std::max(da, db);
  }
  return out;
}

std::array<int64_t, kMaxRank> broadcast_strides(const Shape& in, const Shape& out) {
  std::array<int64_t, kMaxRank> strides{};
  int64_t stride = 1;
  for (size_t i = 0; i < in.size(); ++i) {
    const int64_t extent = in[in.size() - 1 - i];
    strides[out.size() - 1 - i] = extent == 1 ? 0 : stride;
    stride *= extent;
  }
  return strides;
}

namespace {

// Offset of row-major element `index` of `shape`, under other strides.
int64_t offset_of(int64_t index, const Shape& shape, const std::array<int64_t, kMaxRank>& strides) {
  int64_t offset = 0;
  for (size_t i = shape.size(); i-- > 0; index /= shape[i]) offset += index % shape[i] * strides[i];
  return offset;
}

template <int32_t (*F)(int32_t, int32_t)>
void broadcast_kernel(const NodeInfo& n, const Buffers& b) {
  const Shape& out = n.out[0];
  const auto strides0 = broadcast_strides(n.in[0], out);
  const auto strides1 = broadcast_strides(n.in[1], out);
  const int64_t size = size_of(out);
  for (int64_t i = 0; i < size; ++i)
    b.out[0][i] = F(b.in[0][offset_of(i, out, strides0)], b.in[1][offset_of(i, out, strides1)]);
}

template <int32_t (*F)(int32_t, int32_t)>
Operator broadcast(const char* name) {
  Operator op;
  op.name = name;
  op.arity = [](const Attrs*) { return 2; };
  op.shape = [](const NodeInfo& n) {
    return std::vector<Shape>{broadcast_shape(n.in[0], n.in[1])};
  };
  op.kernel = broadcast_kernel<F>;
  return op;
}

std::vector<int> one_bit_more(const NodeInfo& n) {
  return {std::max(n.in_precision[0], n.in_precision[1]) + 1};
}

int32_t max_of(int32_t a, int32_t b) { return std::max(a, b); }
int32_t greater_of(int32_t a, int32_t b) { return a > b ? 1 : 0; }

Operator broadcast_add() {
  Operator op = broadcast<wrap_add>("broadcast_add");
  op.aliases = {"add"};
  op.precision = one_bit_more;
  return op;
}

Operator broadcast_sub() {
  Operator op = broadcast<wrap_sub>("broadcast_sub");
  op.aliases = {"subtract"};
  op.precision = one_bit_more;
  return op;
}

Operator broadcast_mul() {
  Operator op = broadcast<wrap_mul>("broadcast_mul");
  op.aliases = {"multiply"};
  op.precision = [](const NodeInfo& n) {
    return std::vector<int>{n.in_precision[0] + n.in_precision[1]};
  };
  return op;
}

Operator broadcast_div() {
  Operator op = broadcast<safe_div>("broadcast_div");
  op.precision = [](const NodeInfo& n) { return std::vector<int>{n.in_precision[0]}; };
  return op;
}

Operator broadcast_max() {
  Operator op = broadcast<max_of>("broadcast_max");
  op.precision = [](const NodeInfo& n) {
    return std::vector<int>{std::max(n.in_precision[0], n.in_precision[1])};
  };
  return op;
}

Operator broadcast_greater() {
  Operator op = broadcast<greater_of>("broadcast_greater");
  op.precision = [](const NodeInfo& n) { return std::vector<int>{n.in_precision[0]}; };
  op.sound = [](const NodeInfo& n) { return n.in_precision[0] >= 2; };  // 1 is not in Int(1)
  return op;
}

}  // namespace

std::vector<Operator> broadcast_operators() {
  // The __x_symbol__ aliases are left out: a trailing "_" is stripped from
  // every name, so they can never be looked up.
  return {broadcast_add(), broadcast_sub(), broadcast_mul(),
          broadcast_div(), broadcast_max(), broadcast_greater()};
}

}  // namespace cvm
