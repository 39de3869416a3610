"""Operators that treat every element alike."""
from mrt.graph import Node
from mrt.ops.base import Operator, Unchanged, register


@register("relu")
class Relu(Unchanged):
    """max(x, 0)."""


@register("Activation")
class Activation(Operator):
    """relu is core; the other activation functions need tables."""

    def reject(self, node, graph, shapes):
        kind = node.str("act_type")
        if kind != "relu":
            return f"act_type={kind}; only relu is supported: use relu, or split the network before this node"
        return None

    def rewrite(self, node, inputs, r):
        return Node("relu", node.name, inputs)


@register("Dropout", "identity", "_copy", "BlockGrad")
class Identity(Operator):
    """Does nothing at inference."""

    def reject(self, node, graph, shapes):
        if node.op == "Dropout" and node.str("mode", "training") == "always":
            return "mode=always makes the output random; remove the node"
        return None

    def rewrite(self, node, inputs, r):
        return inputs[0]
