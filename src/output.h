// The output bytes of a model: element size, length, and what is written.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"

namespace cvm {

int output_type_size(const Graph& graph);
int64_t output_length(const Graph& graph);

// `heads` are the values of the graph's heads. Writes exactly output_length()
// bytes, or throws a logic error where the model format defines no output.
void write_output(const Graph& graph, const std::vector<const int32_t*>& heads, char* output);

}  // namespace cvm
