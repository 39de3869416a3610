"""Sums and products with constants disappear into the convolution or dense layer before them."""
import numpy as np

from mrt.graph import Entry, Names, Node
from mrt.ops.base import FILLING, is_layer
from mrt.ops.broadcast import per_channel

__all__ = ["fold_affine"]


def fold_affine(graph, shapes, kept=frozenset()):
    """W' = W * g, b' = b * g + c for a network of core operators whose layer is followed by y * g + c, with one number for all
    channels or one for each: broadcast_add, broadcast_sub, broadcast_mul with a parameter, _mul_scalar and negative.

    Only where nothing else reads the layer; its own parameters stay as they are for whoever shares them. The layer takes the
    name of the last operator that it absorbs. Nodes whose names are in `kept` stay as they are.
    """
    consumers = graph.consumers()
    names = Names(node.name for node in graph.topological())
    params = dict(graph.params)

    def variable(value, hint):
        name = names.fresh("rewrite", hint)
        params[name] = value.astype(np.float32)
        return Entry(Node("null", name), 0)

    def visit(node, inputs):
        found = None if node.name in kept else _affine(node, graph, shapes)
        if found is None:
            return node.with_inputs(inputs)
        k, factor, offset = found
        if np.abs(offset).max() >= FILLING:  # meant as infinity, perhaps: see mrt.fillers
            return node.with_inputs(inputs)
        before, layer = node.inputs[k].node, inputs[k].node
        if not is_layer(layer) or layer.name in kept or consumers[before] != [node]:
            return node.with_inputs(inputs)
        weight = params[layer.inputs[1].node.name].astype(np.float64)
        bias = params[layer.inputs[2].node.name].astype(np.float64) if len(layer.inputs) > 2 else np.zeros(len(weight))
        weight = weight * np.reshape(factor, (-1,) + (1,) * (weight.ndim - 1))
        entries = (layer.inputs[0], variable(weight, layer.inputs[1].node.name),
                   variable(bias * factor + offset, f"{node.name}_bias"))
        return Node(layer.op, node.name, entries, {**layer.attrs, "no_bias": "False"})

    return graph.rewrite(visit, params)


def _affine(node, graph, shapes):
    """(number of the input x, factor, offset) of a node that computes x * factor + offset; None for any other."""
    if node.op == "negative":
        return 0, np.full(1, -1.0), 0.0
    if node.op == "_mul_scalar":
        return 0, np.full(1, node.float("scalar")), 0.0
    constants = [i for i, entry in enumerate(node.inputs) if graph.is_param(entry.node)]
    if node.op not in ("broadcast_add", "broadcast_sub", "broadcast_mul") or len(constants) != 1:
        return None
    k = 1 - constants[0]
    values = per_channel(graph.params[node.inputs[1 - k].node.name], shapes[node][0])
    if values is None or shapes[node.inputs[k].node][node.inputs[k].index] != shapes[node][0]:
        return None
    if node.op == "broadcast_mul":
        return k, values, 0.0
    if node.op == "broadcast_add":
        return k, np.ones(1), values
    return (k, np.ones(1), -values) if k == 0 else (k, np.full(1, -1.0), values)
