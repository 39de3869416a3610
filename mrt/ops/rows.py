"""Operators that look rows up by number, made of Embedding."""
import numpy as np

from mrt.graph import Entry, Node
from mrt.ops.base import SPLIT, Operator, register


def _embedding(table, indices, hint, r):
    attrs = {"input_dim": len(table), "output_dim": table.shape[1]}
    return r.add("Embedding", [indices, r.param(table, f"{hint}_table")], attrs, hint)


@register("take")
class Take(Operator):
    """Parts of a parameter by their number along axis 0; a number outside takes the nearest."""

    def reject(self, node, graph, shapes):
        if not graph.is_param(node.inputs[0].node):
            return f"it gathers from a computed tensor, which the runtime cannot; {SPLIT}"
        if node.int("axis", 0) != 0:
            return f"axis={node.int('axis')}; transpose the parameter and take along axis 0"
        return "mode=wrap; bring the numbers into range and use clip" if node.str("mode") == "wrap" else None

    def rewrite(self, node, inputs, r):
        table, shape = r.params[inputs[0].node.name], r.shape(Entry(node, 0))
        rows = _embedding(table.reshape(len(table), -1), inputs[1], node.name, r)
        return Node("Reshape", node.name, [rows], {"shape": str((-1, *shape[1:]))})


@register("one_hot")
class OneHot(Operator):
    """A row of the identity by number; nothing but `off_value` for a number outside."""

    def rewrite(self, node, inputs, r):
        depth, on, off = node.int("depth"), node.float("on_value", 1.0), node.float("off_value", 0.0)
        table = np.full((depth + 2, depth), off)  # the first and the last row stand for numbers outside
        np.fill_diagonal(table[1:], on)
        moved = r.add("broadcast_add", [inputs[0], r.param([1], node.name)], {}, node.name)
        rows = _embedding(table, moved, node.name, r)
        return Node("Reshape", node.name, [rows], {"shape": str((-1, *r.shape(Entry(node, 0))[1:]))})
