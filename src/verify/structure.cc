#include <set>

#include "error.h"
#include "graph/symbol.h"
#include "verify/verify.h"

namespace cvm {
namespace {

int64_t length_of(const std::vector<Node>& nodes) { return static_cast<int64_t>(nodes.size()); }

// Step 2.
void check_arg_names(const Graph& g) {
  std::set<std::string> names;
  for (int64_t index : g.arg_nodes) {
    if (index < 0 || index >= length_of(g.nodes))
      logic_error("symbol: arg_nodes lists node ", index, ", but there are ", g.nodes.size(),
                  " nodes");
    if (!names.insert(g.nodes[index].name).second)
      runtime_error("symbol: arg_nodes lists the name ", quoted(g.nodes[index].name), " twice");
  }
}

// Step 3.
void check_op_attrs_length(const Graph& g) {
  if (g.nodes.empty()) logic_error("symbol: the list of nodes is empty");
  if (g.op_attrs.size() != g.nodes.size())
    logic_error("symbol: attrs.op_attrs has ", g.op_attrs.size(), " items, expected ",
                g.nodes.size(), ", one per node");
}

// "conv2d_3" and "conv2d_" mean conv2d.
std::string strip_suffix(const std::string& name) {
  const size_t bar = name.find_last_of('_');
  if (bar == std::string::npos) return name;
  const bool numbered = name.find_first_not_of("0123456789", bar + 1) == std::string::npos;
  return numbered ? name.substr(0, bar) : name;
}

void check_arity(const Node& node) {
  const int arity = node.op->arity(node.attrs.get());
  const int found = static_cast<int>(node.inputs.size());
  if (arity >= 0 ? found != arity : found < -arity)
    logic_error("has ", found, " inputs, expected ", arity < 0 ? "at least " : "",
                arity < 0 ? -arity : arity);
}

void bind_operator(Node* node, const std::string& op_attrs) {
  const std::string name = strip_suffix(node->function);
  node->op = find_operator(name);
  if (!node->op) runtime_error("the operator ", quoted(node->function), " is unknown");
  node->by_alias = name != node->op->name;
  node->num_outputs = node->op->num_outputs;
  const AttrText text = parse_op_attrs(op_attrs);
  if (node->op->parse)
    node->attrs = node->op->parse(text);
  else if (!text.empty())
    logic_error("attribute ", quoted(text.begin()->first), " given, but ", node->op->name,
                " takes none");
  check_arity(*node);
}

// Step 4.
void bind_operators(Graph* g) {
  for (size_t i = 0; i < g->nodes.size(); ++i) {
    Node& node = g->nodes[i];
    if (!node.is_variable) at_node(*g, node, [&] { bind_operator(&node, g->op_attrs[i]); });
  }
}

// Step 5. Entries are numbered here; the file's node_row_ptr is only compared
// with this numbering (step 8), never used.
int64_t number_entries(Graph* g) {
  int64_t entries = 0;
  for (Node& node : g->nodes) {
    node.first_entry = entries;
    entries += node.num_outputs;
  }
  if (static_cast<int64_t>(g->storage_id.size()) != entries)
    logic_error("symbol: attrs.storage_id has ", g->storage_id.size(), " items, expected ", entries,
                ", one per entry");
  for (int64_t id : g->storage_id)
    if (id < 0 || id >= entries)
      logic_error("symbol: attrs.storage_id has the item ", id, ", expected 0..", entries - 1);
  return entries;
}

void check_entry(const Graph& g, const EntryRef& ref, const char* what) {
  if (ref.node < 0 || ref.node >= length_of(g.nodes))
    logic_error(what, " refers to node ", ref.node, ", but there are ", g.nodes.size(), " nodes");
  const int outputs = g.nodes[ref.node].num_outputs;
  if (ref.output < 0 || ref.output >= outputs)
    logic_error(what, " refers to output ", ref.output, " of node ", ref.node, ", which has ",
                outputs);
}

void resolve_entries(Graph* g) {
  for (Node& node : g->nodes) {
    at_node(*g, node, [&] {
      if (node.is_variable && !node.inputs.empty())
        logic_error("a variable has ", node.inputs.size(), " inputs, expected none");
      for (const EntryRef& ref : node.inputs) {
        check_entry(*g, ref, "an input");
        node.input_entries.push_back(g->entry_id(ref));
      }
    });
  }
  for (const EntryRef& ref : g->heads) check_entry(*g, ref, "symbol: a head");
}

// Step 6.
void check_sharing(const Graph& g) {
  for (const Node& node : g.nodes) {
    if (node.is_variable || node.op->in_place) continue;
    for (int k = 0; k < node.num_outputs; ++k)
      for (int64_t e : node.input_entries)
        if (g.storage_id[e] == g.storage_id[node.first_entry + k])
          logic_error(describe(g, node), ": an output shares the storage id ", g.storage_id[e],
                      " with an input, which this operator does not allow");
  }
}

// Step 7.
void check_declared(const Graph& g, int64_t entries) {
  if (g.num_entries() != entries)
    logic_error("symbol: attrs.shape has ", g.shapes.size(), " items, expected ", entries,
                ", one per entry");
  for (const Node& node : g.nodes)
    for (int k = 0; k < node.num_outputs; ++k)
      at_node(g, node, [&] { check_shape(g.shapes[node.first_entry + k]); });
  if (static_cast<int64_t>(g.precisions.size()) != entries)
    logic_error("symbol: attrs.precision has ", g.precisions.size(), " items, expected ", entries,
                ", one per entry");
  for (int64_t p : g.precisions)
    if (p != -1 && (p < 1 || p > kMaxPrecision))
      logic_error("symbol: attrs.precision has the item ", p, ", expected -1 or 1..",
                  kMaxPrecision);
  if (!g.device_index.empty()) logic_error("symbol: attrs.device_index is not empty");
}

// Step 8.
void check_version(Graph* g, int64_t entries) {
  std::vector<int64_t> args, row_ptr;
  for (int64_t i = 0; i < length_of(g->nodes); ++i) {
    if (g->nodes[i].is_variable) args.push_back(i);
    row_ptr.push_back(g->nodes[i].first_entry);
  }
  row_ptr.push_back(entries);
  if (g->version == "cvm_1.0.0") {
    if (static_cast<int64_t>(g->dltypes.size()) != entries)
      logic_error("symbol: attrs.dltype has ", g->dltypes.size(), " items, expected ", entries,
                  ", one per entry");
    for (const std::string& type : g->dltypes)
      if (type != "int32") logic_error("symbol: attrs.dltype has ", quoted(type), ", expected 'int32'");
    if (g->node_row_ptr != row_ptr)
      logic_error("symbol: node_row_ptr differs from the running sum of output counts");
    if (g->arg_nodes != args)
      logic_error("symbol: arg_nodes differs from the list of variable nodes");
  } else if (g->version == "cvm_1.1.0") {
    g->node_row_ptr = row_ptr;
    g->arg_nodes = args;
    check_arg_names(*g);
  } else {
    runtime_error("symbol: version is ", quoted(g->version),
                  ", expected 'cvm_1.0.0' or 'cvm_1.1.0'");
  }
}

// Step 9.
void check_order(const Graph& g) {
  for (const Node& node : g.nodes)
    for (int64_t e : node.input_entries)
      if (e >= node.first_entry)
        logic_error(describe(g, node), ": an input is entry ", e,
                    ", which is not computed before this node");
}

}  // namespace

std::string describe(const Graph& graph, const Node& node) {
  return concat("node ", &node - graph.nodes.data(), " ", quoted(node.name), " (",
                node.is_variable ? "variable" : node.op ? node.op->name : "operator", ")");
}

void verify_structure(Graph* graph) {
  check_arg_names(*graph);
  check_op_attrs_length(*graph);
  bind_operators(graph);
  const int64_t entries = number_entries(graph);
  resolve_entries(graph);
  check_sharing(*graph);
  check_declared(*graph, entries);
  check_version(graph, entries);
  check_order(*graph);
}

Graph read_graph(const char* symbol, size_t length) {
  Graph graph = parse_symbol(symbol, length);
  verify_structure(&graph);
  infer(&graph);
  return graph;
}

}  // namespace cvm
