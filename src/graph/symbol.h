// Symbol JSON -> Graph: the schema of the file, and nothing that needs operators.
#pragma once

#include <map>
#include <string>

#include "graph/graph.h"

namespace cvm {

// Runtime error for malformed text and unknown keys, logic error for missing
// keys, wrong type tags and wrong node kinds. No index is checked here.
Graph parse_symbol(const char* text, size_t length);

// One op_attrs string: an object whose values are all strings.
std::map<std::string, std::string> parse_op_attrs(const std::string& text);

}  // namespace cvm
