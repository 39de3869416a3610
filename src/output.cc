#include "output.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace cvm {
namespace {

const char* const kArgmax = "argmax";
const char* const kDetection = "detection";

const Shape& head_shape(const Graph& g, size_t k) { return g.shapes[g.entry_id(g.heads[k])]; }
int64_t rows_of(const Shape& shape) { return size_of(shape) / shape.back(); }

int64_t argmax_length(const Graph& g) {
  int64_t rows = 0;
  for (size_t k = 0; k < g.heads.size(); ++k) rows += rows_of(head_shape(g, k));
  return rows * 4;
}

// Rows of the second to last axis of head 0, all last axes side by side.
int64_t detection_length(const Graph& g) {
  const Shape& first = head_shape(g, 0);
  if (first.size() < 2) return 0;
  int64_t columns = 0;
  for (size_t k = 0; k < g.heads.size(); ++k) columns += head_shape(g, k).back();
  return first[first.size() - 2] * columns * 4;
}

void write_argmax(const Graph& g, const std::vector<const int32_t*>& heads, char* output) {
  for (size_t k = 0; k < heads.size(); ++k) {
    const Shape& shape = head_shape(g, k);
    const int64_t columns = shape.back();
    for (int64_t r = 0; r < rows_of(shape); ++r, output += 4) {
      const int32_t* row = heads[k] + r * columns;
      const auto best = static_cast<int32_t>(std::max_element(row, row + columns) - row);
      std::memcpy(output, &best, 4);
    }
  }
}

void write_elements(const int32_t* from, int64_t count, int type_size, char* to) {
  if (type_size == 4) {
    std::memcpy(to, from, static_cast<size_t>(count) * 4);
    return;
  }
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<char>(from[i]);  // the low byte
}

// For each row: that row of head 0, of head 1, ... Stops after `length` bytes.
void write_rows(const Graph& g, const std::vector<const int32_t*>& heads, int type_size,
                int64_t length, char* output) {
  const int64_t rows = rows_of(head_shape(g, 0));
  int64_t row_bytes = 0;
  for (size_t k = 0; k < heads.size(); ++k) {
    const Shape& shape = head_shape(g, k);
    if (rows_of(shape) != rows)
      logic_error("output ", k, " has shape ", to_string(shape), " with ", rows_of(shape),
                  " rows, expected ", rows, " as output 0 has");
    row_bytes += shape.back() * type_size;
  }
  for (int64_t r = 0; r < rows && (r + 1) * row_bytes <= length; ++r)
    for (size_t k = 0; k < heads.size(); ++k) {
      const int64_t columns = head_shape(g, k).back();
      write_elements(heads[k] + r * columns, columns, type_size, output);
      output += columns * type_size;
    }
}

}  // namespace

int output_type_size(const Graph& g) {
  if (g.postprocess == kArgmax || g.postprocess == kDetection) return 4;
  int64_t widest = 0;
  for (const EntryRef& head : g.heads) widest = std::max(widest, g.precisions[g.entry_id(head)]);
  return widest <= 8 ? 1 : 4;
}

int64_t output_length(const Graph& g) {
  if (g.postprocess == kArgmax) return argmax_length(g);
  if (g.postprocess == kDetection) return detection_length(g);
  int64_t elements = 0;
  for (size_t k = 0; k < g.heads.size(); ++k) elements += size_of(head_shape(g, k));
  return elements * output_type_size(g);
}

void write_output(const Graph& g, const std::vector<const int32_t*>& heads, char* output) {
  const int type_size = output_type_size(g);
  if (g.postprocess == kArgmax) {
    write_argmax(g, heads, output);
  } else if (g.postprocess == kDetection && heads.size() < 2) {
    logic_error("the postprocess 'detection' needs at least two outputs, the model has one");
  } else if (heads.size() == 1) {
    write_elements(heads[0], size_of(head_shape(g, 0)), type_size, output);
  } else {
    write_rows(g, heads, type_size, output_length(g), output);
  }
}

}  // namespace cvm
