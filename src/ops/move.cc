#include "ops/move.h"

#include <algorithm>
#include <cstring>

namespace cvm {

void Move::add(int64_t extent, int64_t stride) {
  if (extent == 1) return;
  Axis* outer = axes.empty() ? nullptr : &axes.back();
  if (outer && outer->stride == stride * extent)
    *outer = {outer->extent * extent, stride};
  else
    axes.push_back({extent, stride});
}

namespace {

constexpr int64_t kTile = 16;  // side of the squares in which two axes are swapped

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

// The blocks that a strided copy is cut into, of `rows` and `columns` of its last two axes.
struct Blocks {
  int64_t offset;
  std::vector<Move::Axis> outer;
  Move::Axis row, column;
  int64_t planes = 1;  // of the outer axes
  int64_t rows, columns;

  explicit Blocks(Move move) : offset(move.offset) {
    while (move.axes.size() < 2) move.axes.insert(move.axes.begin(), {1, 0});
    column = move.axes.back();
    move.axes.pop_back();
    row = move.axes.back();
    move.axes.pop_back();
    outer = std::move(move.axes);
    for (const Move::Axis& axis : outer) planes *= axis.extent;
    columns = std::min(column.extent, kGrain);
    rows = std::min(row.extent, std::max<int64_t>(1, kGrain / columns));
  }

  int64_t across() const { return (column.extent + columns - 1) / columns; }
  int64_t down() const { return (row.extent + rows - 1) / rows; }

  void copy(const Buffers& b, int64_t plane, int64_t first_row, int64_t first_column) const {
    int64_t from = offset + first_row * row.stride + first_column * column.stride;
    int64_t index = plane;
    for (size_t k = outer.size(); k-- > 0; index /= outer[k].extent)
      from += index % outer[k].extent * outer[k].stride;
    int32_t* out = b.out[0] + (plane * row.extent + first_row) * column.extent + first_column;
    copy_block({b.in[0] + from, row.stride, column.stride, out, column.extent,
                std::min(rows, row.extent - first_row),
                std::min(columns, column.extent - first_column)});
  }
};

}  // namespace

std::unique_ptr<Loop> move_loop(const Move& move) {
  const Blocks blocks(move);
  const int64_t across = blocks.across(), down = blocks.down();
  return make_loop(blocks.planes * down * across, kGrain / (blocks.rows * blocks.columns),
                   [=](const Buffers& b, int64_t begin, int64_t end) {
                     for (int64_t k = begin; k < end; ++k)
                       blocks.copy(b, k / (down * across), k / across % down * blocks.rows,
                                   k % across * blocks.columns);
                   });
}

void copy_run(const int32_t* from, int64_t count, int32_t* to) { copy_row(from, 1, count, to); }

}  // namespace cvm
