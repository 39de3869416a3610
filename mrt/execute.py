"""Running a graph in MXNet: shapes, as a gluon block, or node by node."""
import contextlib
import io
import json
import warnings

import numpy as np

from mrt.errors import ModelError
from mrt.frontend.mxnet import to_symbol
from mrt.graph import Entry, Graph, Names, Node
from mrt.mxnet_bridge import first_line, mx

__all__ = ["function_of", "infer_shapes", "invoke", "run_in_step", "to_block"]


def infer_shapes(graph, **input_shapes):
    """node -> list of the shapes of its outputs, inferred by MXNet from the shapes of the inputs and parameters."""
    known = {node.name: node.tuple("__shape__") for node in graph.inputs()}
    known.update({name: tuple(shape) for name, shape in input_shapes.items()})
    missing = [name for name, shape in known.items() if not shape or 0 in shape]
    if missing:
        raise ModelError(f"the shape of input {missing[0]} is not known; pass it, as in prepare((1, 3, 224, 224))")
    symbol = to_symbol(graph).get_internals()
    heads = json.loads(symbol.tojson())
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # MXNet prints the arguments where there is an error
            _, shapes, _ = symbol.infer_shape(**known, **{n: v.shape for n, v in graph.params.items()})
    except mx.MXNetError as error:
        _check_param_shapes(graph, symbol, known)
        raise ModelError(f"shapes do not fit together with {_shape_text(known)}: {first_line(error)}") from error
    if shapes is None:
        raise ModelError(f"MXNet cannot infer all shapes from {_shape_text(known)}; is a parameter missing?")
    by_name = {}
    for (node_id, index, *_), shape in zip(heads["heads"], shapes):
        by_name.setdefault(heads["nodes"][node_id]["name"], {})[index] = tuple(shape)
    return {node: [by_name[node.name][i] for i in sorted(by_name[node.name])] for node in graph.topological()}


def _check_param_shapes(graph, symbol, known):
    try:
        arg_shapes, _, aux_shapes = symbol.infer_shape_partial(**known)
    except mx.MXNetError:
        return  # the error of the full inference says why
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    for name, shape in zip(names, list(arg_shapes) + list(aux_shapes)):
        if name in graph.params and shape and 0 not in shape and tuple(shape) != graph.params[name].shape:
            raise ModelError(f"parameter {name} has shape {graph.params[name].shape} in the params file, but the symbol "
                             f"needs {tuple(shape)} with {_shape_text(known)}; the two files do not belong together "
                             "or the input shape is wrong")


def _shape_text(shapes):
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())


def to_block(graph, dtype, ctx=None):
    """An executable gluon SymbolBlock with the parameters loaded in `dtype` on `ctx`, one context or a list."""
    names = Names(node.name for node in graph.topological())
    outputs = [Entry(Node("_copy", names.fresh("output", entry.node.name), [entry]), 0) if entry.node.is_variable else entry
               for entry in graph.outputs]  # gluon runs no network of variables alone
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Cannot decide type")  # the inputs may have any
        block = mx.gluon.SymbolBlock(to_symbol(Graph(outputs, graph.params)),
                                     [mx.sym.var(node.name) for node in graph.inputs()])
    for name, param in block.collect_params().items():
        param.shape, param.dtype = graph.params[name].shape, dtype
        param.initialize(ctx=ctx or mx.cpu(), force_reinit=True)
        param.set_data(mx.nd.array(graph.params[name], dtype=dtype))
    return block


def invoke(node, arrays):
    """Run one operator node with MXNet on a list of NDArray; returns the list of its outputs."""
    attrs = {k: v for k, v in node.attrs.items() if not k.startswith("__")}
    result = function_of(node.op)(*arrays, **attrs)
    return list(result) if isinstance(result, (list, tuple)) else [result]


def function_of(op):
    """MXNet's function on NDArray for an operator, or None; those with a prefix are in modules of their own."""
    for prefix in ("contrib", "linalg", "image", "random", "sparse"):
        module, begin = getattr(mx.nd, prefix), f"_{prefix}_"
        if op.startswith(begin) and hasattr(module, op[len(begin):]):
            return getattr(module, op[len(begin):])
    return getattr(mx.nd, op, None) or getattr(mx.nd._internal, op, None)


def run_in_step(graph, batches, dtype="float32", ctx=None, compute=invoke):
    """Run a network node by node: yields (node, inputs, results) for every node that is not a parameter, in topological order.

    `batches`: list of arrays of the network's input shape, which go through each node one after the other; `inputs`, `results`:
    for each of them the list of NDArray that the node takes and gives, which compute(node, inputs) makes. Results are kept to
    their last consumer, so that memory holds live tensors alone; whoever receives them may change them.
    """
    waiting = {node: sum(user is not None for user in users) for node, users in graph.consumers().items()}
    alive = {}

    def constant(node):
        values = np.ascontiguousarray(graph.params[node.name], dtype)
        return mx.nd.from_numpy(values, zero_copy=True).as_in_context(ctx or mx.cpu())

    for node in graph.topological():
        if graph.is_param(node):
            continue
        if node.is_variable:
            inputs, results = [[] for _ in batches], [[mx.nd.array(batch, dtype=dtype, ctx=ctx)] for batch in batches]
        else:
            constants = {e.node: constant(e.node) for e in node.inputs if graph.is_param(e.node)}
            inputs = [[constants[e.node] if e.node in constants else alive[e.node][i][e.index] for e in node.inputs]
                      for i in range(len(batches))]
            results = [compute(node, arrays) for arrays in inputs]
        yield node, inputs, results
        if waiting[node]:
            alive[node] = results
        for entry in node.inputs:
            waiting[entry.node] -= 1
            if not waiting[entry.node]:
                alive.pop(entry.node, None)
