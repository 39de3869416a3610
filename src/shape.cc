#include "shape.h"

#include "error.h"

namespace cvm {

std::string to_string(const Shape& shape) {
  constexpr size_t kMaxShown = 16;  // a hostile file may list any number
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i) text += ", ";
    if (i == kMaxShown) return text + "...)";
    text += std::to_string(shape[i]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

void check_shape(const Shape& shape) {
  if (shape.empty() || shape.size() > kMaxRank)
    logic_error("rank is ", shape.size(), ", expected 1..", kMaxRank);
  int64_t elements = 1;
  for (int64_t d : shape) {
    if (d < 1 || d > kMaxDim)
      logic_error("shape ", to_string(shape), " has extent ", d, ", expected 1..", kMaxDim);
    elements *= d;  // at most 2^30 * 2^24 before the next line stops it
    if (elements > kMaxElements)
      logic_error("shape ", to_string(shape), " has more than ", kMaxElements, " elements");
  }
}

}  // namespace cvm
