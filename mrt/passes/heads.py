"""Training heads become what they predict: the labels they wait for are no input of a network that is used."""
from mrt.graph import Entry, Names, Node

__all__ = ["without_losses"]


def without_losses(graph):
    """SoftmaxOutput as softmax, LogisticRegressionOutput as sigmoid, the other regression outputs as nothing."""
    names = Names(node.name for node in graph.topological())

    def visit(node, inputs):
        if node.op in ("LinearRegressionOutput", "MAERegressionOutput"):
            return inputs[0]
        if node.op == "LogisticRegressionOutput":
            return Node("sigmoid", node.name, inputs[:1])
        if node.op != "SoftmaxOutput":
            return node.with_inputs(inputs)
        if node.bool("multi_output") or node.bool("preserve_shape"):
            return Node("softmax", node.name, inputs[:1], {"axis": 1 if node.bool("multi_output") else -1})
        flat = Entry(Node("Flatten", names.fresh("heads", node.name), inputs[:1]), 0)
        shares = Entry(Node("softmax", names.fresh("heads", node.name), [flat], {"axis": -1}), 0)
        return Node("reshape_like", node.name, [shares, inputs[0]])

    return graph.rewrite(visit)
