// get_valid_counts and non_max_suppression.
#include <algorithm>
#include <cstring>
#include <limits>

#include "ops/arith.h"
#include "ops/attr_reader.h"

namespace cvm {
namespace {

constexpr int kColumns = 6;  // class id, score, x1, y1, x2, y2
constexpr int kId = 0, kScore = 1, kX1 = 2, kY1 = 3, kX2 = 4, kY2 = 5;

// ---- get_valid_counts ------------------------------------------------------

struct ValidCountsAttrs : Attrs {
  int32_t score_threshold = 0;
};

std::vector<Shape> valid_counts_shape(const NodeInfo& n) {
  const Shape& x = n.in[0];
  expect_rank(x, 3, "the input");
  if (x[2] < 2 || x[2] > 31)
    logic_error("the input has ", x[2], " columns, expected 2..31");
  return {{x[0]}, x};
}

void valid_counts_kernel(const NodeInfo& n, const Buffers& b) {
  const int32_t threshold = n.as<ValidCountsAttrs>().score_threshold;
  const int64_t batch = n.in[0][0], rows = n.in[0][1], columns = n.in[0][2];
  for (int64_t i = 0; i < batch; ++i) {
    const int32_t* in = b.in[0] + i * rows * columns;
    int32_t* out = b.out[1] + i * rows * columns;
    int32_t count = 0;
    for (int64_t r = 0; r < rows; ++r) {
      if (in[r * columns + kScore] <= threshold) continue;
      std::copy_n(in + r * columns, columns, out + count * columns);
      ++count;
    }
    std::fill(out + count * columns, out + rows * columns, -1);
    b.out[0][i] = count;
  }
}

std::unique_ptr<Attrs> parse_valid_counts(const AttrText& text) {
  auto a = std::make_unique<ValidCountsAttrs>();
  AttrReader in(text);
  in.optional("score_threshold", &a->score_threshold);
  in.finish();
  return a;
}

std::vector<int> valid_counts_precision(const NodeInfo& n) {
  return {num_bits(size_of(n.in[0]) / n.in[0][0]), n.in_precision[0]};
}

// The filler -1 is not in Int(1).
bool filler_fits(const NodeInfo& n) { return n.in_sound[0] && n.in_precision[0] >= 2; }

Operator get_valid_counts() {
  Operator op("get_valid_counts", takes<1>, valid_counts_shape, valid_counts_precision,
              valid_counts_kernel, kByKernel, kOneThread);
  op.num_outputs = 2;
  op.parse = parse_valid_counts;
  op.sound = filler_fits;
  return op;
}

// ---- non_max_suppression ---------------------------------------------------

struct NmsAttrs : Attrs {
  int32_t max_output_size = -1, iou_threshold = 50, top_k = -1;
  int32_t coord_start = 2, score_index = 1, id_index = 0;
  bool force_suppress = false, return_indices = false, invalid_to_bottom = true;
};

std::unique_ptr<Attrs> parse_nms(const AttrText& text) {
  auto a = std::make_unique<NmsAttrs>();
  AttrReader in(text);
  in.optional("max_output_size", &a->max_output_size);
  in.optional("iou_threshold", &a->iou_threshold);
  in.optional("force_suppress", &a->force_suppress);
  in.optional("top_k", &a->top_k);
  in.optional("coord_start", &a->coord_start);
  in.optional("score_index", &a->score_index);
  in.optional("id_index", &a->id_index);
  in.optional("return_indices", &a->return_indices);
  in.optional("invalid_to_bottom", &a->invalid_to_bottom);
  in.finish();
  return a;
}

std::vector<Shape> nms_shape(const NodeInfo& n) {
  const auto& a = n.as<NmsAttrs>();
  const Shape &x = n.in[0], &counts = n.in[1];
  expect_rank(x, 3, "the input");
  if (x[2] != kColumns) logic_error("the input has ", x[2], " columns, expected ", kColumns);
  if (counts != Shape{x[0]})
    logic_error("the counts have shape ", to_string(counts), ", expected (", x[0], ",)");
  if (a.iou_threshold < 1)
    logic_error("attribute 'iou_threshold' is ", a.iou_threshold, ", expected at least 1");
  expect_range(a.coord_start, kX1, kX1, "coord_start");
  expect_range(a.score_index, kScore, kScore, "score_index");
  expect_range(a.id_index, kId, kId, "id_index");
  expect_range(a.return_indices, 0, 0, "return_indices");
  expect_range(a.invalid_to_bottom, 1, 1, "invalid_to_bottom");
  return {x};
}

int64_t area(const int32_t* r) {
  return int64_t{wrap_sub(r[kX2], r[kX1])} * wrap_sub(r[kY2], r[kY1]);
}

int64_t overlap(const int32_t* r, const int32_t* s, int low, int high) {
  return std::max(0, wrap_sub(std::min(r[high], s[high]), std::max(r[low], s[low])));
}

// Intersection over union in percent. Only coordinates of 32 bits can make the
// 64-bit sums wrap; they do so modulo 2^64.
int64_t iou_percent(const int32_t* r, const int32_t* s) {
  const uint64_t total = static_cast<uint64_t>(area(r)) + static_cast<uint64_t>(area(s));
  if (static_cast<int64_t>(total) <= 0) return 0;
  int64_t both = overlap(r, s, kX1, kX2) * overlap(r, s, kY1, kY2);
  int64_t either = static_cast<int64_t>(total - static_cast<uint64_t>(both));
  if (either <= 0) return 0;
  if (both > std::numeric_limits<int64_t>::max() / 100)
    either /= 100;
  else
    both *= 100;
  return either == 0 ? 0 : both / either;
}

bool suppressed(const int32_t* row, const int32_t* kept, int64_t count, const NmsAttrs& a) {
  for (int64_t k = 0; k < count; ++k) {
    const int32_t* other = kept + k * kColumns;
    const bool compared = a.force_suppress || other[kId] == row[kId];
    if (compared && iou_percent(row, other) >= a.iou_threshold) return true;
  }
  return false;
}

int64_t limit(int64_t rows, int32_t at_most) {
  return at_most < 0 ? rows : std::min<int64_t>(rows, at_most);
}

void nms_kernel(const NodeInfo& n, const Buffers& b) {
  const auto& a = n.as<NmsAttrs>();
  const int64_t batch = n.in[0][0], rows = n.in[0][1];
  int32_t* order = static_cast<int32_t*>(b.scratch);
  for (int64_t i = 0; i < batch; ++i) {
    const int32_t* in = b.in[0] + i * rows * kColumns;
    int32_t* out = b.out[0] + i * rows * kColumns;
    const int64_t valid = std::clamp<int64_t>(b.in[1][i], 0, rows);
    for (int64_t r = 0; r < valid; ++r) order[r] = static_cast<int32_t>(r);
    // The row number breaks ties, which makes the order that of a stable sort.
    std::sort(order, order + valid, [&](int32_t r, int32_t s) {
      const int32_t left = in[r * int64_t{kColumns} + kScore];
      const int32_t right = in[s * int64_t{kColumns} + kScore];
      return left != right ? left > right : r < s;
    });
    int64_t kept = 0;
    const int64_t visits = limit(valid, a.top_k), most = limit(valid, a.max_output_size);
    for (int64_t v = 0; v < visits && kept < most; ++v) {
      const int32_t* row = in + order[v] * int64_t{kColumns};
      if (row[kId] < 0 || suppressed(row, out, kept, a)) continue;
      std::copy_n(row, kColumns, out + kept * kColumns);
      ++kept;
    }
    std::fill(out + kept * kColumns, out + rows * kColumns, -1);
  }
}

Operator non_max_suppression() {
  Operator op("non_max_suppression", takes<2>, nms_shape, first_precision, nms_kernel, kByKernel,
              kOneThread);
  op.aliases = {"vision.non_max_suppression"};
  op.parse = parse_nms;
  op.sound = filler_fits;
  op.cost = [](const NodeInfo& n) { return 20 * n.in[0][0]; };
  op.scratch = [](const NodeInfo& n) {
    return n.in[0][1] * static_cast<int64_t>(sizeof(int32_t));
  };
  return op;
}

}  // namespace

std::vector<Operator> vision_operators() { return {get_valid_counts(), non_max_suppression()}; }

}  // namespace cvm
