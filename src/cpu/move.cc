// Operators that only move data.
//
// Most of them are one strided copy: output axis k runs over the input with a
// stride, which is 0 where elements repeat and negative where they reverse.
// Neighbouring axes that advance like one are merged, so that what is left of
// a slice or a repetition are long runs, and of a transpose two axes to swap.
#include <algorithm>
#include <cstring>

#include "cpu/kernels.h"
#include "ops/arith.h"
#include "ops/nn.h"
#include "ops/transform.h"

namespace cvm {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements worth handing to a thread
constexpr int64_t kTile = 16;        // side of the squares in which two axes are swapped

struct Axis {
  int64_t extent, stride;  // the stride counts input elements
};

// A strided copy in the making; axes are added from the outermost.
struct Move {
  int64_t offset = 0;
  std::vector<Axis> axes;

  void add(int64_t extent, int64_t stride) {
    if (extent == 1) return;
    Axis* outer = axes.empty() ? nullptr : &axes.back();
    if (outer && outer->stride == stride * extent)
      *outer = {outer->extent * extent, stride};
    else
      axes.push_back({extent, stride});
  }
};

// out[r * width + c] = in[r * row_stride + c * column_stride]
struct Block {
  const int32_t* in;
  int64_t row_stride, column_stride;
  int32_t* out;
  int64_t width, rows, columns;
};

void copy_row(const int32_t* in, int64_t stride, int64_t count, int32_t* out) {
  if (stride == 1)
    std::memcpy(out, in, static_cast<size_t>(count) * sizeof(int32_t));
  else if (stride == 0)
    std::fill_n(out, count, *in);
  else
    for (int64_t c = 0; c < count; ++c) out[c] = in[c * stride];
}

// Rows of the output lie far apart in it and columns far apart in the input:
// small squares keep both in the cache.
void swap_axes(const Block& b) {
  for (int64_t r0 = 0; r0 < b.rows; r0 += kTile)
    for (int64_t c0 = 0; c0 < b.columns; c0 += kTile) {
      const int64_t r1 = std::min(r0 + kTile, b.rows), c1 = std::min(c0 + kTile, b.columns);
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t c = c0; c < c1; ++c)
          b.out[r * b.width + c] = b.in[r * b.row_stride + c * b.column_stride];
    }
}

void copy_block(const Block& b) {
  if (b.row_stride == 1 && b.column_stride > 1) {
    swap_axes(b);
    return;
  }
  for (int64_t r = 0; r < b.rows; ++r)
    copy_row(b.in + r * b.row_stride, b.column_stride, b.columns, b.out + r * b.width);
}

class MoveKernel : public Kernel {
 public:
  MoveKernel(const NodeInfo& n, Move move) : Kernel(n), offset_(move.offset) {
    while (move.axes.size() < 2) move.axes.insert(move.axes.begin(), {1, 0});
    column_ = move.axes.back();
    move.axes.pop_back();
    row_ = move.axes.back();
    move.axes.pop_back();
    outer_ = std::move(move.axes);
    for (const Axis& axis : outer_) planes_ *= axis.extent;
    columns_ = std::min(column_.extent, kGrain);
    rows_ = std::min(row_.extent, std::max<int64_t>(1, kGrain / columns_));
  }

  void run(const Buffers& b, Team& team) const override {
    const int64_t across = (column_.extent + columns_ - 1) / columns_;
    const int64_t down = (row_.extent + rows_ - 1) / rows_;
    const int64_t grain = std::max<int64_t>(1, kGrain / (rows_ * columns_));
    team.parallel_for(planes_ * down * across, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t k = begin; k < end; ++k)
        run_block(b, k / (down * across), k / across % down * rows_, k % across * columns_);
    });
  }

 private:
  void run_block(const Buffers& b, int64_t plane, int64_t row, int64_t column) const {
    int64_t from = offset_ + row * row_.stride + column * column_.stride;
    int64_t index = plane;
    for (size_t k = outer_.size(); k-- > 0; index /= outer_[k].extent)
      from += index % outer_[k].extent * outer_[k].stride;
    int32_t* out = b.out[0] + (plane * row_.extent + row) * column_.extent + column;
    copy_block({b.in[0] + from, row_.stride, column_.stride, out, column_.extent,
                std::min(rows_, row_.extent - row), std::min(columns_, column_.extent - column)});
  }

  int64_t offset_;
  std::vector<Axis> outer_;
  Axis row_, column_;
  int64_t planes_ = 1;
  int64_t rows_, columns_;  // of one block
};

std::unique_ptr<Kernel> move_kernel(const NodeInfo& n, Move move) {
  return std::make_unique<MoveKernel>(n, std::move(move));
}

// A loop over single output elements, or over rows of them.
template <class F>
class LoopKernel : public Kernel {
 public:
  LoopKernel(const NodeInfo& n, int64_t count, int64_t grain, F f)
      : Kernel(n), count_(count), grain_(std::max<int64_t>(1, grain)), f_(f) {}
  void run(const Buffers& b, Team& team) const override {
    team.parallel_for(count_, grain_, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) f_(b, i);
    });
  }

 private:
  int64_t count_, grain_;
  F f_;
};

template <class F>
std::unique_ptr<Kernel> loop_kernel(const NodeInfo& n, int64_t count, int64_t grain, F f) {
  return std::make_unique<LoopKernel<F>>(n, count, grain, f);
}

void copy_run(const int32_t* from, int64_t count, int32_t* to) { copy_row(from, 1, count, to); }

}  // namespace

std::unique_ptr<Kernel> make_transpose(const NodeInfo& n) {
  const Shape& x = n.in[0];
  const auto axes = transpose_axes(n.as<TupleAttrs>(), x.size());
  const auto strides = row_major_strides(x);
  Move move;
  for (size_t i = 0; i < x.size(); ++i) move.add(x[axes[i]], strides[axes[i]]);
  return move_kernel(n, move);
}

std::unique_ptr<Kernel> make_strided_slice(const NodeInfo& n) {
  const Shape& x = n.in[0];
  const auto axes = slice_axes(n.as<SliceAttrs>(), x);
  const auto strides = row_major_strides(x);
  Move move;
  for (size_t i = 0; i < x.size(); ++i) {
    move.offset += axes[i].begin * strides[i];
    move.add(axes[i].extent, axes[i].stride * strides[i]);
  }
  return move_kernel(n, move);
}

std::unique_ptr<Kernel> make_slice_like(const NodeInfo& n) {
  const auto strides = row_major_strides(n.in[0]);
  Move move;
  for (size_t i = 0; i < n.in[0].size(); ++i) move.add(n.out[0][i], strides[i]);
  return move_kernel(n, move);
}

std::unique_ptr<Kernel> make_tile(const NodeInfo& n) {
  const Shape &x = n.in[0], &y = n.out[0];
  const size_t lead = y.size() - x.size();
  const auto strides = row_major_strides(x);
  Move move;
  for (size_t i = 0; i < lead; ++i) move.add(y[i], 0);
  for (size_t i = 0; i < x.size(); ++i) {
    move.add(y[lead + i] / x[i], 0);
    move.add(x[i], strides[i]);
  }
  return move_kernel(n, move);
}

std::unique_ptr<Kernel> make_repeat(const NodeInfo& n) {
  const auto& a = n.as<RepeatAttrs>();
  const Shape& x = n.in[0];
  const size_t axis = normal_axis(a.axis, static_cast<int64_t>(x.size()), "axis");
  const int64_t inner = size_of(x, axis + 1, x.size());
  Move move;
  move.add(size_of(x, 0, axis + 1), inner);
  move.add(a.repeats, 0);
  move.add(inner, 1);
  return move_kernel(n, move);
}

std::unique_ptr<Kernel> make_upsampling(const NodeInfo& n) {
  const int64_t scale = n.as<UpsamplingAttrs>().scale;
  const Shape& x = n.in[0];
  Move move;
  move.add(x[0] * x[1] * x[2], x[3]);
  move.add(scale, 0);
  move.add(x[3], 1);
  move.add(scale, 0);
  return move_kernel(n, move);
}

std::unique_ptr<Kernel> make_concatenate(const NodeInfo& n) {
  const Shape& y = n.out[0];
  const size_t axis = normal_axis(n.as<AxisAttrs>().axis, static_cast<int64_t>(y.size()), "axis");
  const int64_t parts = static_cast<int64_t>(n.in.size()), row = size_of(y, axis, y.size());
  std::vector<int64_t> place = {0};  // of each input within a row, and the end
  for (const Shape& x : n.in) place.push_back(place.back() + size_of(x, axis, x.size()));
  return loop_kernel(n, size_of(y, 0, axis) * parts, kGrain * parts / row,
                     [=](const Buffers& b, int64_t i) {
                       const int64_t k = i % parts, run = place[k + 1] - place[k];
                       copy_run(b.in[k] + i / parts * run, run, b.out[0] + i / parts * row + place[k]);
                     });
}

std::unique_ptr<Kernel> make_take(const NodeInfo& n) {
  const auto& a = n.as<TakeAttrs>();
  const Shape& x = n.in[0];
  int64_t outer = 1, extent = size_of(x), inner = 1;
  if (a.axis) {
    const size_t axis = normal_axis(*a.axis, static_cast<int64_t>(x.size()), "axis");
    outer = size_of(x, 0, axis);
    extent = x[axis];
    inner = size_of(x, axis + 1, x.size());
  }
  const int64_t indices = size_of(n.in[1]);
  return loop_kernel(n, outer * indices, kGrain / inner, [=](const Buffers& b, int64_t i) {
    const int64_t from = i / indices * extent + clamp_index(b.in[1][i % indices], extent);
    copy_run(b.in[0] + from * inner, inner, b.out[0] + i * inner);
  });
}

std::unique_ptr<Kernel> make_cvm_lut(const NodeInfo& n) {
  const auto last = static_cast<int32_t>(size_of(n.in[1]) - 1);
  return loop_kernel(n, size_of(n.out[0]), kGrain, [=](const Buffers& b, int64_t i) {
    b.out[0][i] = b.in[1][std::min(std::max(b.in[0][i], 0), last)];  // without a branch
  });
}

std::unique_ptr<Kernel> make_where(const NodeInfo& n) {
  const int64_t conditions = size_of(n.in[0]), run = size_of(n.out[0]) / conditions;
  if (run == 1)
    return loop_kernel(n, conditions, kGrain, [](const Buffers& b, int64_t i) {
      b.out[0][i] = b.in[0][i] != 0 ? b.in[1][i] : b.in[2][i];
    });
  return loop_kernel(n, conditions, kGrain / run, [=](const Buffers& b, int64_t i) {
    copy_run(b.in[b.in[0][i] != 0 ? 1 : 2] + i * run, run, b.out[0] + i * run);
  });
}

}  // namespace cvm
