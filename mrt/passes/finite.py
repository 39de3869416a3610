"""Infinite constants become very large ones, where an operator takes them as a bound or a filler."""
import numpy as np

from mrt.errors import ModelError
from mrt.graph import Entry, Names, Node
from mrt.ops.base import ENORMOUS

__all__ = ["finite_constants"]

FILLED = ("broadcast_add", "broadcast_sub", "broadcast_maximum", "broadcast_greater", "broadcast_lesser_equal", "where", "Concat")


def finite_constants(graph):
    """The graph with the constants of FILLED within +-1e15. ModelError where any other is not finite, or none is a number."""
    params, names = dict(graph.params), Names(node.name for node in graph.topological())
    near = {}

    def visit(node, inputs):
        inputs = list(inputs)
        for i, entry in enumerate(node.inputs):
            values = graph.params.get(entry.node.name)
            if values is None or values.dtype.kind != "f" or (np.abs(values) <= ENORMOUS).all():
                continue
            if np.isnan(values).any() or (node.op not in FILLED and not np.isfinite(values).all()):
                raise ModelError(f"the constant {entry.node.name}, which {node.name} ({node.kind}) takes, holds "
                                 f"{int((~np.isfinite(values)).sum())} values of {values.size} that are not finite; a diverged "
                                 "training, a damaged file, or an operator that only takes finite numbers")
            if node.op in FILLED:
                if entry.node not in near:
                    near[entry.node] = Entry(Node("null", names.fresh("finite", entry.node.name)), 0)
                    params[near[entry.node].node.name] = np.clip(values, -ENORMOUS, ENORMOUS)
                inputs[i] = near[entry.node]
        return node.with_inputs(inputs)

    for entry in graph.outputs:
        if graph.is_param(entry.node) and not np.isfinite(graph.params[entry.node.name]).all():
            raise ModelError(f"the output {entry.node.name} is a constant with values that are not finite")
    return graph.rewrite(visit, params)
