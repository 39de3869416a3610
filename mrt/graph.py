"""A network as plain Python objects: nodes that point at their inputs, and numpy parameters.

    graph = Graph.from_symbol(symbol, params)       # or Graph.load(symbol_file, params_file)
    for node in graph.topological(): ...
    graph = graph.rewrite(lambda node, inputs: node.with_inputs(inputs))
    graph.save(symbol_file, params_file)

This is the only module that knows MXNet's symbol JSON. Whatever MXNet reads, from 0.8 to 1.9, loads: the text goes through
MXNet's own upgrade of old files first. A graph is never changed in place; passes make new graphs from old ones.
"""
import ast
import contextlib
import io
import json
import logging
import re
import warnings
from collections import namedtuple

import numpy as np

from mrt.errors import ModelError
from mrt.mxnet_bridge import mx
from mrt.params_file import load_params, save_params
from mrt.utils import atomic_write, plain_error, read_text

__all__ = ["Entry", "Graph", "Names", "Node", "first_line", "function_of", "invoke"]

Entry = namedtuple("Entry", "node index")
Entry.__doc__ = "Output number `index` of `node`."

VARIABLE = "null"
MAX_SYMBOL_BYTES = 1 << 28


class Node:
    """One operator or variable. `attrs` maps text to text as in MXNet; `inputs` is a tuple of Entry."""

    __slots__ = ("attrs", "inputs", "name", "op")

    def __init__(self, op, name, inputs=(), attrs=None):
        self.op = op
        self.name = name
        self.inputs = tuple(inputs)
        self.attrs = {key: str(value) for key, value in (attrs or {}).items()}

    def __repr__(self):
        return f"{self.op} {self.name}({', '.join(e.node.name for e in self.inputs)})"

    def with_inputs(self, inputs):
        """This node on other inputs; itself when nothing changes."""
        inputs = tuple(inputs)
        return self if inputs == self.inputs else Node(self.op, self.name, inputs, self.attrs)

    @property
    def is_variable(self):
        return self.op == VARIABLE

    @property
    def kind(self):
        """The operator a reader means: `op_type` for MXNet's Custom nodes, else the operator."""
        return self.attrs.get("op_type", self.op) if self.op == "Custom" else self.op

    def _value(self, key, default, accept, expected):
        text = self.attrs.get(key)
        if text is None:
            return default
        value = _literal(text)
        if not accept(value):
            raise ModelError(f"node {self.name} ({self.kind}): attribute {key}={text!r}, expected {expected}")
        return value

    def int(self, key, default=None):
        return self._value(key, default, lambda v: isinstance(v, int), "an integer")

    def float(self, key, default=None):
        """The number, which may be infinite or not a number: `inf`, `-inf`, `nan` as MXNet writes them."""
        return self._value(key, default, lambda v: isinstance(v, (int, float)), "a number")

    def bool(self, key, default=False):
        return bool(self._value(key, default, lambda v: v in (True, False, 0, 1), "True or False"))

    def str(self, key, default=""):
        return self.attrs.get(key, default)

    def tuple(self, key, default=()):
        value = self._value(key, default, lambda v: isinstance(v, (int, tuple, list)), "a tuple of integers")
        return (value,) if isinstance(value, int) else tuple(value)


class Names:
    """Gives names no node of the graph has yet, in MRT's scheme `mrt_<pass>_<hint>_<k>`."""

    def __init__(self, taken):
        self.taken = set(taken)

    def fresh(self, stage, hint):
        return self.numbered(f"mrt_{stage}_{hint}")

    def numbered(self, name):
        k = 0
        while f"{name}_{k}" in self.taken:
            k += 1
        return self.take(f"{name}_{k}")

    def take(self, name):
        self.taken.add(name)
        return name


class Graph:
    """`outputs`: list of Entry; `params`: name -> numpy array, in topological order; a variable without one is an input."""

    def __init__(self, outputs, params):
        self.outputs = list(outputs)
        self._nodes = None
        self.params = {node.name: params[node.name] for node in self.topological() if node.is_variable and node.name in params}

    # --- reading the structure

    def topological(self):
        """All nodes, inputs before users: depth first from the outputs, left to right, so the order is reproducible."""
        if self._nodes is None:
            order, seen = [], set()
            stack = [(entry.node, False) for entry in reversed(self.outputs)]
            while stack:
                node, inputs_done = stack.pop()
                if inputs_done:
                    order.append(node)
                elif node not in seen:
                    seen.add(node)
                    stack.append((node, True))
                    stack.extend((e.node, False) for e in reversed(node.inputs) if e.node not in seen)
            self._nodes = order
        return self._nodes

    def inputs(self):
        return [node for node in self.topological() if node.is_variable and node.name not in self.params]

    def is_param(self, node):
        return node.is_variable and node.name in self.params

    def find(self, name):
        """The node of that name, or None."""
        return next((node for node in self.topological() if node.name == name), None)

    def consumers(self):
        """node -> list of the nodes that read any of its outputs (None stands for the graph's own outputs)."""
        users = {node: [] for node in self.topological()}
        for node in self.topological():
            for entry in node.inputs:
                users[entry.node].append(node)
        for entry in self.outputs:
            users[entry.node].append(None)
        return users

    def check_names(self):
        """Every table of MRT is keyed by node name: a name given twice is an error."""
        seen, twice = set(), []
        for node in self.topological():
            if node.name in seen and node.name not in twice:
                twice.append(node.name)
            seen.add(node.name)
        if twice:
            raise ModelError(f"node names must be unique; given more than once: {', '.join(twice)}. Rename them")

    def with_unique_names(self):
        """The same graph with a name of its own for every node: a gluon block that calls one activation twice gives both calls
        one name. The first keeps it, later ones become `name_0`, `name_1`, ...; names given once stay. Variables of one name are
        one variable, and keep it whatever else is called so."""
        names = Names(node.name for node in self.topological())
        variables, used, renamed = {}, {node.name for node in self.topological() if node.is_variable}, []

        def visit(node, inputs):
            if node.is_variable:
                return variables.setdefault(node.name, node)
            if node.name not in used:
                used.add(node.name)
                return node.with_inputs(inputs)
            renamed.append((node.name, names.numbered(node.name)))
            return Node(node.op, renamed[-1][1], inputs, node.attrs)

        graph = self.rewrite(visit)
        if renamed:
            logging.getLogger("mrt.graph").warning(
                "node names must be unique; given more than once and renamed: %s",
                ", ".join(f"{old} -> {new}" for old, new in renamed))
        return graph

    # --- changing it

    def rewrite(self, visit, params=None):
        """A new graph. `visit(node, inputs)` sees every node in topological order, `inputs` being the entries that replace
        its own, and returns what takes its place: a Node, an Entry (for output 0), or a list with an Entry per output.
        `params` are the parameters of the new graph, the same by default; the visitor may add to that dictionary."""
        done = {}
        for node in self.topological():
            done[node] = visit(node, tuple(_lookup(done, e) for e in node.inputs))
        return Graph([_lookup(done, e) for e in self.outputs], self.params if params is None else params)

    # --- shapes

    def infer_shapes(self, **input_shapes):
        """node -> list of the shapes of its outputs, inferred by MXNet from the shapes of the inputs and parameters."""
        known = {node.name: node.tuple("__shape__") for node in self.inputs()}
        known.update({name: tuple(shape) for name, shape in input_shapes.items()})
        missing = [name for name, shape in known.items() if not shape or 0 in shape]
        if missing:
            raise ModelError(f"the shape of input {missing[0]} is not known; pass it, as in prepare((1, 3, 224, 224))")
        symbol = self.to_symbol().get_internals()
        heads = json.loads(symbol.tojson())
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # MXNet prints the arguments where there is an error
                _, shapes, _ = symbol.infer_shape(**known, **{n: v.shape for n, v in self.params.items()})
        except mx.MXNetError as error:
            self._check_param_shapes(symbol, known)
            raise ModelError(f"shapes do not fit together with {_shape_text(known)}: {first_line(error)}") from error
        if shapes is None:
            raise ModelError(f"MXNet cannot infer all shapes from {_shape_text(known)}; is a parameter missing?")
        by_name = {}
        for (node_id, index, *_), shape in zip(heads["heads"], shapes):
            by_name.setdefault(heads["nodes"][node_id]["name"], {})[index] = tuple(shape)
        return {node: [by_name[node.name][i] for i in sorted(by_name[node.name])] for node in self.topological()}

    def _check_param_shapes(self, symbol, known):
        try:
            arg_shapes, _, aux_shapes = symbol.infer_shape_partial(**known)
        except mx.MXNetError:
            return  # the error of the full inference says why
        names = symbol.list_arguments() + symbol.list_auxiliary_states()
        for name, shape in zip(names, list(arg_shapes) + list(aux_shapes)):
            if name in self.params and shape and 0 not in shape and tuple(shape) != self.params[name].shape:
                raise ModelError(f"parameter {name} has shape {self.params[name].shape} in the params file, but the symbol "
                                 f"needs {tuple(shape)} with {_shape_text(known)}; the two files do not belong together "
                                 "or the input shape is wrong")

    # --- MXNet symbols and files

    @staticmethod
    def from_symbol(symbol, params):
        """From an mx.sym.Symbol and a dictionary of NDArray or numpy arrays."""
        nodes, heads = _parse(symbol.tojson())
        arrays = {name: value if isinstance(value, np.ndarray) else value.asnumpy() for name, value in params.items()}
        return Graph([Entry(nodes[e[0]], e[1]) for e in heads], arrays).with_unique_names()

    def to_symbol(self):
        """The mx.sym.Symbol; the parameters are `self.params`."""
        index = {node: i for i, node in enumerate(self.topological())}
        nodes = [{"op": n.op, "name": n.name, **({"attrs": n.attrs} if n.attrs else {}),
                  "inputs": [[index[e.node], e.index, 0] for e in n.inputs]} for n in self.topological()]
        text = _mxnet_json({"nodes": nodes, "arg_nodes": [i for i, n in enumerate(self.topological()) if n.is_variable],
                           "node_row_ptr": list(range(len(nodes) + 1)),
                           "heads": [[index[e.node], e.index, 0] for e in self.outputs],
                           "attrs": {"mxnet_version": ["int", 10901]}})
        return mx.sym.load_json(text)

    def to_block(self, dtype, ctx=None):
        """An executable gluon SymbolBlock with the parameters loaded in `dtype` on `ctx`, one context or a list."""
        names = Names(node.name for node in self.topological())
        outputs = [Entry(Node("_copy", names.fresh("output", entry.node.name), [entry]), 0) if entry.node.is_variable else entry
                   for entry in self.outputs]  # gluon runs no network of variables alone
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Cannot decide type")  # the inputs may have any
            block = mx.gluon.SymbolBlock(Graph(outputs, self.params).to_symbol(),
                                         [mx.sym.var(node.name) for node in self.inputs()])
        for name, param in block.collect_params().items():
            param.shape, param.dtype = self.params[name].shape, dtype
            param.initialize(ctx=ctx or mx.cpu(), force_reinit=True)
            param.set_data(mx.nd.array(self.params[name], dtype=dtype))
        return block

    @staticmethod
    def load(symbol_file, params_file):
        """Read a checkpoint: MXNet symbol JSON and an NDArray dictionary, as written by `export`, `save_checkpoint`,
        `collect_params().save` or `save_parameters`."""
        nodes, heads = _parse(_upgrade(_symbol_text(symbol_file), symbol_file))
        graph = Graph([Entry(nodes[e[0]], e[1]) for e in heads], {}).with_unique_names()
        return Graph(graph.outputs, load_params(graph, symbol_file, params_file))

    def save(self, symbol_file, params_file, more=None):
        """Write both files; the same graph gives the same bytes. `more`: further arrays by name, for `params_file` to keep."""
        atomic_write(symbol_file, self.to_symbol().tojson())
        save_params({**self.params, **(more or {})}, params_file)


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


def _mxnet_json(document):
    """JSON text that MXNet reads: it knows no \\u escapes."""
    return json.dumps(document, ensure_ascii=False)


def _literal(text):
    """The value of an attribute's text, or the text where it is none of Python's literals, infinity, or not a number."""
    for read in (ast.literal_eval, float):
        try:
            return read({"true": "True", "false": "False"}.get(text, text).replace("L", ""))
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # the latter for what is nested too deeply
            continue
    return text


def _lookup(done, entry):
    result = done[entry.node]
    if isinstance(result, Node):
        return Entry(result, entry.index)
    if isinstance(result, Entry):
        if entry.index != 0:
            raise ModelError(f"output {entry.index} of {entry.node.name} ({entry.node.kind}) is used, but only its first "
                             "output exists after rewriting")
        return result
    return result[entry.index]


def _shape_text(shapes):
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())


def first_line(error):
    """What an MXNetError says, without places in its sources and stack traces."""
    text = re.sub(r"\[\d\d:\d\d:\d\d\] \S+?:\d+: ", "", str(error).strip())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("Stack", "  [bt]"))]
    lines = [line for line in lines if line != "MXNetError:" and not line.startswith(("Traceback", 'File "'))]
    return re.sub(r"^(MXNetError: )+", "", lines[0]) if lines else "unknown MXNet error"


def _symbol_text(path):
    try:
        return read_text(path, MAX_SYMBOL_BYTES)
    except FileNotFoundError:
        raise ModelError(f"symbol file {path} does not exist") from None
    except UnicodeDecodeError as error:
        raise ModelError(f"symbol file {path} is no text (byte {error.start}); is it a params file, have the two been "
                         "swapped?") from None
    except OSError as error:
        raise ModelError(f"symbol file {plain_error(error)}") from None


def _upgrade(text, path):
    """The text as MXNet 1.9 writes it. Operators MXNet does not know are named before MXNet stops at the first."""
    try:
        document = json.loads(text)
        nodes = document["nodes"]
        operators = {(node["name"], node["op"]) for node in nodes if node["op"] != VARIABLE}
    except RecursionError:
        raise ModelError(f"{path} is not an MXNet symbol file: it is nested too deeply") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not an MXNet symbol file: {type(error).__name__}: {error}. It may be truncated; export "
                         "the network again") from None
    known = set(mx.operator.get_all_registered_operators()) | {"Custom"}
    unknown = sorted(f"{name} ({op})" for name, op in operators if op not in known)
    if unknown:
        raise ModelError(f"{path} holds operators that MXNet {mx.__version__} does not have: {', '.join(unknown)}. "
                         "Split the network before them or replace them")
    try:
        return mx.sym.load_json(_mxnet_json(document)).tojson()
    except mx.MXNetError as error:
        raise ModelError(f"{path}: MXNet cannot load it: {first_line(error)}") from error


def _parse(text):
    """MXNet 1.9 JSON -> (list of Node, list of [node, output] heads)."""
    document = json.loads(text)
    nodes = []
    for item in document["nodes"]:
        attrs = item.get("attrs", {})
        if item["op"] == VARIABLE:
            # training hints (learning rate, initializer, dtype) say nothing about the network, and a float32 hint would
            # stand in the way of exact simulation
            attrs = {k: v for k, v in attrs.items() if k == "__shape__" or not k.startswith("__")}
        nodes.append(Node(item["op"], item["name"], [Entry(nodes[e[0]], e[1]) for e in item["inputs"]], attrs))
    return nodes, document["heads"]
