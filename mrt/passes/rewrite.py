"""Every operator becomes core operators, by its own rule."""
import numpy as np

from mrt.graph import Entry, Names, Node
from mrt.ops import operator_of

__all__ = ["Rewriter", "rewrite"]


class Rewriter:
    """What the `rewrite` rule of an operator may ask: shapes of the old graph, values of parameters, new nodes."""

    def __init__(self, graph, shapes):
        self.params = dict(graph.params)
        self._shapes = shapes
        self._names = Names(node.name for node in graph.topological())

    def shape(self, entry):
        """Shape of an entry of the old graph."""
        return self._shapes[entry.node][entry.index]

    def add(self, op, inputs, attrs, hint):
        """Entry of a new node, named after the node `hint` it stands for."""
        return Entry(Node(op, self._names.fresh("rewrite", hint), inputs, attrs), 0)

    def name(self, hint):
        """A name no node has yet."""
        return self._names.fresh("rewrite", hint)

    def again(self, node, sources=None):
        """What the rule of the operator of a new node makes of it. `sources`: the inputs it stands on in the old graph, where the
        rule asks for their shapes."""
        return operator_of(node).rewrite(node if sources is None else node.with_inputs(sources), node.inputs, self)

    def param(self, value, hint):
        """Entry of a new float32 parameter."""
        name = self._names.fresh("rewrite", hint)
        self.params[name] = np.asarray(value, np.float32)
        return Entry(Node("null", name), 0)


def rewrite(graph, shapes, kept=frozenset()):
    """The graph in core operators but for the nodes whose names are in `kept`; `shapes` as from `infer_shapes(graph)`."""
    rewriter = Rewriter(graph, shapes)

    def visit(node, inputs):
        if node.is_variable or node.name in kept:
            return node.with_inputs(inputs)
        return operator_of(node).rewrite(node, inputs, rewriter)

    return graph.rewrite(visit, rewriter.params)
