// Checks of the attributes of windows.
#pragma once

#include <string>

#include "ops/arith.h"
#include "ops/attr_reader.h"

namespace cvm {

constexpr int64_t kMaxBounded = 4096;  // bound of strides, padding, dilation, scale

inline void expect_pair(const Tuple& pair, int64_t low, const char* what) {
  if (pair.size() != 2)
    logic_error("attribute '", what, "' is ", to_string(pair), ", expected two items");
  for (int64_t item : pair) expect_range(item, low, kMaxBounded, what);
}

inline void expect_text(const std::string& found, const char* expected, const char* what) {
  if (found != expected)
    logic_error("attribute '", what, "' is ", quoted(found), ", expected '", expected, "'");
}

}  // namespace cvm
