"""Nodes that depend on parameters alone are computed once and become parameters."""
from mrt.execute import function_of, invoke
from mrt.graph import Entry, Node
from mrt.mxnet_bridge import mx

__all__ = ["fold_constants"]


def fold_constants(graph):
    """The same graph with every operator whose inputs are all parameters replaced by its value."""
    params = dict(graph.params)

    def visit(node, inputs):
        constant = not node.is_variable and all(e.node.is_variable and e.node.name in params for e in inputs)
        if not constant or function_of(node.op) is None:
            return node.with_inputs(inputs)
        values = invoke(node, [mx.nd.array(params[e.node.name], dtype=params[e.node.name].dtype) for e in inputs])
        names = [node.name] if len(values) == 1 else [f"{node.name}_{i}" for i in range(len(values))]
        params.update((name, value.asnumpy()) for name, value in zip(names, values))
        return [Entry(Node("null", name), 0) for name in names]

    return graph.rewrite(visit, params)
