"""Batch normalization disappears into the convolution or dense layer before it (Jacob et al., 2018, section 3.2)."""
import numpy as np

from mrt.graph import Entry, Names, Node
from mrt.ops.base import is_layer
from mrt.ops.norm import factor_and_offset

__all__ = ["fold_batch_norm"]


def fold_batch_norm(graph, kept=frozenset()):
    """W' = W * g, b' = (b - mean) * g + beta, with g = gamma / sqrt(var + eps) per output channel.

    Only where the layer has no other consumer; the layer's own parameters stay as they are for whoever shares them.
    Nodes whose names are in `kept` stay as they are. New names follow MRT's scheme: `mrt_rewrite_<weight>_<k>`, and
    `mrt_rewrite_<batch norm>_<k>` for the layer.
    """
    consumers = graph.consumers()
    names = Names(node.name for node in graph.topological())
    params = dict(graph.params)

    def variable(value, name):
        params[name] = value.astype(np.float32)
        return Entry(Node("null", name), 0)

    def visit(node, inputs):
        layer = node.inputs[0].node if node.op == "BatchNorm" and node.name not in kept else None
        if layer is None or not is_layer(layer) or consumers[layer] != [node] \
                or not _on_channels(node, layer):
            return node.with_inputs(inputs)
        factor, offset = factor_and_offset(node, graph.params)
        weight_name = layer.inputs[1].node.name
        weight = graph.params[weight_name].astype(np.float64)
        weight = weight * factor.reshape((-1,) + (1,) * (weight.ndim - 1))
        new_weight = variable(weight, names.fresh("rewrite", weight_name))
        if len(layer.inputs) > 2:
            bias_name = layer.inputs[2].node.name
            offset = offset + factor * graph.params[bias_name].astype(np.float64)
            new_bias = variable(offset, names.fresh("rewrite", bias_name))
        else:
            new_bias = variable(offset, names.fresh("rewrite", f"{layer.name}_bias"))
        layer_now = inputs[0].node
        return Node(layer.op, names.fresh("rewrite", node.name), (layer_now.inputs[0], new_weight, new_bias),
                    {**layer.attrs, "no_bias": "False"})

    return graph.rewrite(visit, params)


def _on_channels(node, layer):
    """Does the normalized axis hold the layer's output channels? (A dense layer that keeps its leading axes has them last.)"""
    return node.int("axis", 1) == 1 and (layer.op == "Convolution" or layer.bool("flatten", True))
