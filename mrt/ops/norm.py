"""Normalizations."""
import numpy as np

from mrt.graph import Node
from mrt.ops.base import Operator, register


@register("BatchNorm")
class BatchNorm(Operator):
    """Folded into the convolution or dense layer before it (passes.fold_batch_norm); elsewhere a factor, which the integers
    take as another scale of each channel, and an offset."""

    def reject(self, node, graph, shapes):
        shape = shapes[node.inputs[0].node][node.inputs[0].index]
        if node.int("axis", 1) % len(shape) != 1:
            return f"axis={node.int('axis', 1)} on an input of shape {shape}; normalize axis 1, transposing before it"
        if not all(graph.is_param(e.node) for e in node.inputs[1:]):
            return "gamma, beta or a running statistic is a computed tensor; make them parameters"
        return None

    def rewrite(self, node, inputs, r):
        factor, offset = factor_and_offset(node, r.params)
        shape = (1, -1) + (1,) * (len(r.shape(node.inputs[0])) - 2)
        scaled = r.add("broadcast_mul", [inputs[0], r.param(factor.reshape(shape), f"{node.name}_factor")], {}, node.name)
        return Node("broadcast_add", node.name, [scaled, r.param(offset.reshape(shape), f"{node.name}_offset")])


def factor_and_offset(node, params):
    """BatchNorm as x * factor + offset: two float64 vectors, one value per channel."""
    gamma, beta, mean, var = (params[e.node.name].astype(np.float64) for e in node.inputs[1:])
    if node.bool("fix_gamma", True):
        gamma = np.ones_like(gamma)
    factor = gamma / np.sqrt(var + node.float("eps", 1e-3))
    return factor, beta - factor * mean


# by statistics of the sample itself: products with a table of 1 / sqrt(x)

def _mean(name, entry, axes, count, r):
    total = r.add("sum", [entry], {"axis": str(axes), "keepdims": "True"}, name)
    return r.add("_mul_scalar", [total], {"scalar": repr(1.0 / count)}, name)


def _over_root(name, entry, power, eps, r):
    """Entry of x / sqrt(power + eps)."""
    shifted = r.add("broadcast_add", [power, r.param([eps], name)], {}, name)
    return r.add("broadcast_mul", [entry, r.add("rsqrt", [shifted], {}, name)], {}, name)


def _square(name, entry, r):
    return r.add("broadcast_mul", [entry, entry], {}, name)


@register("L2Normalization")
class L2Normalization(Operator):
    """x / sqrt(sum(x^2) + eps) over a sample, its channels, or its positions."""

    instead = "it becomes broadcast_mul, sum and rsqrt; broadcast_mul can have a precision"

    def rewrite(self, node, inputs, r):
        rank = len(r.shape(node.inputs[0]))
        axes = {"channel": (1,), "spatial": tuple(range(2, rank))}.get(node.str("mode", "instance"), tuple(range(1, rank)))
        total = r.add("sum", [_square(node.name, inputs[0], r)], {"axis": str(axes), "keepdims": "True"}, node.name)
        return _over_root(node.name, inputs[0], total, node.float("eps", 1e-10), r)


@register("InstanceNorm", "LayerNorm")
class SampleNorm(Operator):
    """(x - mean) / sqrt(variance + eps) * gamma + beta, over the positions of each channel, or along an axis."""

    def reject(self, node, graph, shapes):
        if not all(graph.is_param(e.node) for e in node.inputs[1:]):
            return "gamma or beta is a computed tensor; make them parameters"
        return None

    def rewrite(self, node, inputs, r):
        shape, name = r.shape(node.inputs[0]), node.name
        layer = node.op == "LayerNorm"
        axes = (node.int("axis", -1) % len(shape),) if layer else tuple(range(2, len(shape)))
        along, eps = (axes[0], 1e-5) if layer else (1, 1e-3)
        count = int(np.prod([shape[axis] for axis in axes]))
        centred = r.add("broadcast_sub", [inputs[0], _mean(name, inputs[0], axes, count, r)], {}, name)
        variance = _mean(name, _square(name, centred, r), axes, count, r)
        entry = _over_root(name, centred, variance, node.float("eps", eps), r)
        column = tuple(-1 if axis == along else 1 for axis in range(len(shape)))
        gamma, beta = (r.param(r.params[e.node.name].reshape(column), name) for e in node.inputs[1:])
        return Node("broadcast_add", name, [r.add("broadcast_mul", [entry, gamma], {}, name), beta])


@register("LRN")
class ResponseNorm(Operator):
    """x * (knorm + alpha / nsize * sum(x^2) over near channels) ^ -beta: the sum is a convolution."""

    def rewrite(self, node, inputs, r):
        channels, size, name = r.shape(node.inputs[0])[1], node.int("nsize"), node.name
        near = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels))) <= size // 2
        weight = r.param(near[:, :, None, None] * (node.float("alpha", 1e-4) / size), f"{name}_near")
        power = r.add("Convolution", [_square(name, inputs[0], r), weight],
                      {"kernel": "(1, 1)", "num_filter": channels, "no_bias": "True"}, name)
        power = r.add("broadcast_add", [power, r.param([node.float("knorm", 2.0)], name)], {}, name)
        root = r.add("_power_scalar", [power], {"scalar": repr(-node.float("beta", 0.75))}, name)
        return Node("broadcast_mul", name, [inputs[0], root])
