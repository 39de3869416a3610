"""One input, called `data`, with its shape."""
import numpy as np

from mrt.errors import ModelError
from mrt.graph import Entry, Names, Node

__all__ = ["name_input"]


def name_input(graph, input_shape=None, above=frozenset()):
    """The graph with its only input renamed to `data` and carrying `input_shape` (tuple, or {name: tuple}, or None to keep
    the shape the symbol declares). Several inputs, for all of which shapes are given, become parts of one flat `data`, in the
    order of the network, because the runtime has one input. Inputs named in `above` may stay as they are, if their shapes are
    not given."""
    inputs = graph.inputs()
    if not isinstance(input_shape, dict) or set(input_shape) != {node.name for node in inputs}:
        inputs = [node for node in inputs if node.name not in above]
    if len(inputs) > 1 and isinstance(input_shape, dict) and set(input_shape) == {node.name for node in inputs}:
        graph, input_shape = _fused(graph, inputs, {name: tuple(shape) for name, shape in input_shape.items()})
        inputs = [node for node in graph.inputs() if node.name not in above]
    if len(inputs) != 1:
        names = ", ".join(n.name for n in inputs) or "none"
        raise ModelError(f"the network must have one input, found {len(inputs)}: {names}. If some of them are parameters, the "
                         "params file lacks them; else give the shapes of all of them, as {name: shape}")
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


def _fused(graph, inputs, shapes):
    """(the graph with slices of one flat variable in place of its inputs, the length of that variable)."""
    bad = [f"{name} {shape}" for name, shape in shapes.items()
           if not shape or any(not isinstance(d, int) or d < 1 for d in shape)]
    if bad:
        raise ModelError(f"input shapes must be positive integers with the batch filled in; found {', '.join(bad)}")
    names = Names(node.name for node in graph.topological())
    flat, parts, begin = Node("null", names.fresh("fmi", "data")), {}, 0
    for node in inputs:
        end = begin + int(np.prod(shapes[node.name]))
        part = Entry(Node("slice", names.fresh("fmi", node.name), [Entry(flat, 0)], {"begin": (begin,), "end": (end,)}), 0)
        parts[node] = Node("Reshape", names.fresh("fmi", node.name), [part], {"shape": shapes[node.name]})
        begin = end
    return graph.rewrite(lambda node, entries: parts.get(node) or node.with_inputs(entries)), (begin,)
