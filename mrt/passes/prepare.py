"""From any network MRT takes to one made of core operators alone, with one input called `data`."""
from mrt.passes.fold_affine import fold_affine
from mrt.passes.fold_batch_norm import fold_batch_norm
from mrt.passes.fold_constants import fold_constants
from mrt.passes.inputs import name_input
from mrt.passes.rewrite import rewrite
from mrt.passes.validate import names_above, validate

__all__ = ["prepare", "with_input"]


def with_input(graph, input_shape=None):
    """The graph with unique names, one input called `data`, and constants computed."""
    graph.check_names()
    return fold_constants(name_input(graph, input_shape))


def prepare(graph, input_shape=None, keys=()):
    """The prepared graph; above `keys`, operators that are not supported stay as they are. Errors: ModelError when names, inputs
    or shapes are wrong, UnsupportedError for operators."""
    graph = with_input(graph, input_shape)
    kept = validate(graph, graph.infer_shapes(), names_above(graph, keys))
    graph = fold_batch_norm(graph, kept)
    graph = rewrite(graph, graph.infer_shapes(), kept)
    return fold_affine(fold_constants(graph), kept)
