"""From any network MRT takes to one made of core operators alone, with one input called `data`."""
from mrt.execute import infer_shapes
from mrt.graph import Entry, Graph
from mrt.passes.finite import finite_constants
from mrt.passes.fold_affine import fold_affine
from mrt.passes.fold_batch_norm import fold_batch_norm
from mrt.passes.fold_constants import fold_constants
from mrt.passes.inputs import name_input
from mrt.passes.rewrite import rewrite
from mrt.passes.validate import names_above, validate

__all__ = ["known_shapes", "prepare", "with_input"]


def with_input(graph, input_shape=None, keys=()):
    """The graph with unique names, one input called `data`, and constants computed. What only nodes above `keys` need may have
    inputs of its own."""
    graph.check_names()
    return fold_constants(name_input(graph, input_shape, names_above(graph, keys)))


def known_shapes(graph):
    """Like `infer_shapes(graph)`, without the nodes that wait for another input than `data`."""
    waiting = {node for node in graph.inputs() if node.name != "data"}
    for node in graph.topological():
        if any(entry.node in waiting for entry in node.inputs):
            waiting.add(node)
    ends = [Entry(node, 0) for node in graph.topological() if node not in waiting]
    return infer_shapes(Graph(ends, graph.params) if waiting else graph)


def prepare(graph, input_shape=None, keys=()):
    """The prepared graph; above `keys`, operators that are not supported, or that wait for other inputs, stay as they are.
    Errors: ModelError when names, inputs or shapes are wrong, UnsupportedError for operators."""
    graph = with_input(graph, input_shape, keys)
    kept = validate(graph, known_shapes(graph), names_above(graph, keys))
    graph = fold_batch_norm(graph, kept)
    graph = rewrite(graph, known_shapes(graph), kept)
    graph = finite_constants(fold_constants(graph))
    return fold_affine(graph, known_shapes(graph), kept)
