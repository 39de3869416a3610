"""One input, called `data`, with its shape."""
from mrt.errors import ModelError
from mrt.graph import Node

__all__ = ["name_input"]


def name_input(graph, input_shape=None):
    """The graph with its only input renamed to `data` and carrying `input_shape` (tuple, or {name: tuple}, or None to keep
    the shape the symbol declares)."""
    inputs = graph.inputs()
    if len(inputs) != 1:
        names = ", ".join(n.name for n in inputs) or "none"
        raise ModelError(f"the network must have one input, found {len(inputs)}: {names}. If some of them are parameters, the "
                         "params file lacks them")
    source = inputs[0]
    if isinstance(input_shape, dict):
        if set(input_shape) != {source.name}:
            raise ModelError(f"shapes are given for {', '.join(input_shape)}, but the network's input is {source.name}")
        input_shape = input_shape[source.name]
    shape = tuple(source.tuple("__shape__")) if input_shape is None else tuple(input_shape)
    if not shape:
        raise ModelError(f"the network does not say which shape its input {source.name} has; give it with the batch filled in, "
                         "as (1, 3, 224, 224) (mrt check: --shape 1,3,224,224)")
    if any(not isinstance(d, int) or d < 1 for d in shape):
        raise ModelError("the input shape must be positive integers with the batch filled in, as (1, 3, 224, 224); found "
                         f"{shape}")
    clash = graph.find("data")
    if clash is not None and clash is not source:
        raise ModelError(f"a node of the network is called data, but its input is {source.name}; rename one of them")
    data = Node(source.op, "data", attrs={**source.attrs, "__shape__": shape})
    return graph.rewrite(lambda node, entries: data if node is source else node.with_inputs(entries))
