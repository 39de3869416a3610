"""Operators that move elements and compute nothing."""
from mrt.ops.base import Operator, register


class _Move(Operator):
    """Mixes positions of different channels, so the input needs one scale for all of them."""

    def quantize(self, node, q):
        return q.follow(node, q.uniform(node, 0))


@register("Flatten", "flatten")
class Flatten(_Move):
    """(N, d1, .., dk) -> (N, d1 * .. * dk)."""

    def export(self, node, inputs, c):
        return c.emit(node, "flatten", inputs, {})


@register("Reshape", "reshape")
class Reshape(_Move):
    """Exported with the shape it has after inference, so that the special codes 0, -1, .. -4 need no counterpart."""

    def reject(self, node, graph, shapes):
        return "reverse=True is not supported; write the shape out" if node.bool("reverse") else None

    def export(self, node, inputs, c):
        return c.emit(node, "reshape", inputs, {"shape": c.shape(node)})
