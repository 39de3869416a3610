"""From any network MRT takes to one made of core operators alone, with one input called `data`."""
from mrt.passes.fold_batch_norm import fold_batch_norm
from mrt.passes.fold_constants import fold_constants
from mrt.passes.inputs import name_input
from mrt.passes.rewrite import rewrite
from mrt.passes.validate import validate

__all__ = ["prepare"]


def prepare(graph, input_shape=None):
    """The prepared graph. Errors: ModelError when names, inputs or shapes are wrong, UnsupportedError for operators."""
    graph.check_names()
    graph = name_input(graph, input_shape)
    graph = fold_constants(graph)
    graph = validate(graph, graph.infer_shapes())
    graph = fold_batch_norm(graph)
    graph = rewrite(graph, graph.infer_shapes())
    graph = fold_constants(graph)
    graph.infer_shapes()
    return graph
