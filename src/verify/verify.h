// Proves that a parsed graph is a legal model, in the order in which the
// original checks: the first failing step decides the status, so the order is
// part of consensus. The step numbers are those of the model format.
#pragma once

#include <cstdint>

#include "graph/graph.h"

namespace cvm {

// Steps 2..9: names, list lengths, operators and attributes, indices, storage
// ids, shapes and precisions as declared, version rules, topological order.
void verify_structure(Graph* graph);

// Steps 10..12: shapes and precisions follow from the operators. After this no
// int32 can overflow, except downstream of an entry that is not `sound`.
void infer(Graph* graph);

// Steps 13 and 14: bytes of all storage slots. Logic error when two tensors
// that are alive at once, or a parameter and anything, share a slot.
int64_t verify_storage(const Graph& graph);

// The cost ("gas") of one node and of one inference. Logic error above the limits.
struct Cost {
  int64_t ops = 0, memory = 0;
  int64_t total() const { return ops + memory; }
};
Cost node_cost(const Graph& graph, const Node& node);
int64_t cost(const Graph& graph);

// Parses and verifies steps 1..12.
Graph read_graph(const char* symbol, size_t length);

// "node 5 'relu_0' (relu)"
std::string describe(const Graph& graph, const Node& node);

// Runs f; an error it throws gets the node in front of its text.
template <class F>
auto at_node(const Graph& graph, const Node& node, F f) -> decltype(f());

}  // namespace cvm

#include "error.h"

namespace cvm {

template <class F>
auto at_node(const Graph& graph, const Node& node, F f) -> decltype(f()) {
  try {
    return f();
  } catch (const Error& e) {
    throw Error(e.status(), describe(graph, node) + ": " + e.text());
  }
}

}  // namespace cvm
