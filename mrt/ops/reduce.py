"""Reductions over axes."""
import numpy as np

from mrt import arithmetic
from mrt.graph import Node
from mrt.ops.base import FAR, Operator, Real, register

SUM_BITS = 31  # a sum stays below the full width, so that something can still be added to it


def reduced_axes(node, rank):
    """The axes a reduction runs over, as sorted non-negative integers."""
    text = node.str("axis", "()")
    axes = () if text in ("None", "()", "[]") else node.tuple("axis")
    axes = {axis % rank for axis in axes}
    if not axes:
        return tuple(range(rank))
    if node.bool("exclude"):
        axes = set(range(rank)) - axes
    return tuple(sorted(axes))


def keeps_channels(axes, keepdims):
    """Does axis 1 of the input stay axis 1 of the output, with all its channels?"""
    return 1 not in axes and (keepdims or 0 not in axes)


def below_maximum(node, room, q):
    """Room of the input of a maximum: what lies below does not matter, where fillers are never the largest themselves."""
    source = q.source(node, 0)
    alone = FAR * q.thresholds[node.name] < q.thresholds[source.name]
    return 0.0 if alone else room[0], room[1]


class _Reduction(Operator):

    differentiable = True

    def _tensor(self, node, q):
        tensor = q.tensor(node, 0)
        axes = reduced_axes(node, len(q.shapes[q.source(node, 0)][0]))
        if not tensor.is_uniform and not keeps_channels(axes, node.bool("keepdims")):
            tensor = q.requantize(node, 0, 16)
        return tensor

    def wanted(self, node, limit, q):
        return [max(limit, arithmetic.code_range(16))]

    def export(self, node, inputs, c):
        axes = reduced_axes(node, len(c.shape(node.inputs[0].node)))
        return c.emit(node, node.op, inputs, {"axis": axes, "keepdims": node.bool("keepdims")})


@register("sum")
class Sum(Real, _Reduction):
    """The sum, in the precision that comes in as far as it fits."""

    def quantize(self, node, q):
        source = q.source(node, 0)
        growth = arithmetic.count_bits(int(np.prod(q.shapes[source][0])) // int(np.prod(q.shapes[node][0])))
        tensor = self._tensor(node, q)
        if tensor.precision + growth > SUM_BITS:
            tensor = q.requantize(node, 0, min(16, SUM_BITS - growth))
        return q.result(node, [tensor.entry], tensor.scale, tensor.precision + growth)


@register("max")
class Max(_Reduction):
    """The largest element."""

    def saturation(self, node, room, q):
        return [below_maximum(node, room, q)]

    def quantize(self, node, q):
        return q.follow(node, self._tensor(node, q))


@register("mean")
class Mean(Operator):
    """The average: a sum and a factor."""

    def rewrite(self, node, inputs, r):
        shape = r.shape(node.inputs[0])
        count = int(np.prod([shape[axis] for axis in reduced_axes(node, len(shape))]))
        total = r.add("sum", inputs, node.attrs, node.name)
        return Node("_mul_scalar", node.name, [total], {"scalar": repr(1.0 / count)})


@register("min")
class Min(Operator):
    """The smallest element: -max(-x)."""

    def rewrite(self, node, inputs, r):
        turned = r.add("negative", inputs, {}, node.name)
        return Node("negative", node.name, [r.add("max", [turned], node.attrs, node.name)])
