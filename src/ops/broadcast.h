// Operators of two tensors that are broadcast to one shape.
#pragma once

#include "ops/lowering.h"

namespace cvm {

// `primitive` of two values of one shape, or of a value and a parameter that is one integer or one
// for each of its channels.
int lower_join(Lowering& lowering, Primitive primitive);

template <Primitive primitive>
int lower_join(Lowering& lowering) {
  static_assert(facts(primitive).joins);
  return lower_join(lowering, primitive);
}

// What a sum or a difference needs.
std::vector<int> one_bit_more(const NodeInfo& node);

}  // namespace cvm
