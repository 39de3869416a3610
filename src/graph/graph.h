// A CVM graph: nodes in topological order, and everything known of their entries.
//
// An entry is one output of one node; entry ids number all outputs in node
// order. symbol.cc fills the declared part from the file, verify/ checks it
// and fills in what follows from it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/operator.h"
#include "shape.h"

namespace cvm {

struct EntryRef {
  int64_t node = 0;
  int64_t output = 0;
};

struct Node {
  std::string name;
  std::string function;     // operator name as written; empty for a variable
  bool is_variable = false;
  std::vector<EntryRef> inputs;

  // Filled by verification.
  const Operator* op = nullptr;
  bool by_alias = false;    // found under an alias: has a cost, but no kernel
  std::unique_ptr<Attrs> attrs;
  std::vector<int64_t> input_entries;
  int64_t first_entry = 0;
  int num_outputs = 1;
};

struct Graph {
  std::vector<Node> nodes;
  std::vector<EntryRef> heads;
  std::vector<int64_t> arg_nodes;
  std::vector<int64_t> node_row_ptr;
  std::string version = "cvm_1.0.0";
  std::string postprocess;

  // Per node.
  std::vector<std::string> op_attrs;
  // Per entry.
  std::vector<int64_t> storage_id;
  std::vector<Shape> shapes;
  std::vector<int64_t> precisions;
  std::vector<std::string> dltypes;
  std::vector<int64_t> device_index;
  std::vector<char> sound;  // filled by verification: the value surely lies in Int(precision)

  int64_t num_entries() const { return static_cast<int64_t>(shapes.size()); }
  int64_t entry_id(const EntryRef& ref) const { return nodes[ref.node].first_entry + ref.output; }
  // The static facts of one operator node, as its rules and kernels see them.
  NodeInfo info(const Node& node) const;
};

}  // namespace cvm
