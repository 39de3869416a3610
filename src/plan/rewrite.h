// Rearrangements that let more of a graph be fused.
#pragma once

#include <vector>

#include "ir/ir.h"

namespace cvm {

// Values in the order in which they can be computed: those that `needed` follow from.
std::vector<int> computing_order(const Ir& ir, const std::vector<int>& needed);
// The same without those that are `done`, one item per value, which it brings up to date.
std::vector<int> computing_order(const Ir& ir, const std::vector<int>& needed,
                                 std::vector<char>* done);

// A maximum over windows commutes with operations that never decrease, and
// those of one element with joining channels. Both move after the operations
// that follow them, so that these join the step in front and what is pooled or
// joined is narrow. Where what is pooled is made of a convolution alone and
// used in several forms, the maximum moves in front of all that and becomes
// part of the convolution. Replaces items of `needed`.
void rearrange(Ir* ir, std::vector<int>* needed);

}  // namespace cvm
