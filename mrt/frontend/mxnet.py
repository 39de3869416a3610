"""MXNet's symbols and checkpoints as graphs, and back.

This is the only module that knows MXNet's symbol JSON. Whatever MXNet reads, from 0.8 to 1.9, loads: the text goes through
MXNet's own upgrade of old files first.
"""
import json

import numpy as np

from mrt.errors import ModelError, plain_error
from mrt.files import atomic_write, read_text
from mrt.frontend.mxnet_params import load_params, save_params
from mrt.graph import VARIABLE, Entry, Graph, Node
from mrt.mxnet_bridge import first_line, mx

__all__ = ["from_symbol", "load", "save", "to_symbol"]

MAX_SYMBOL_BYTES = 1 << 28


def from_symbol(symbol, params):
    """From an mx.sym.Symbol and a dictionary of NDArray or numpy arrays."""
    nodes, heads = _parse(symbol.tojson())
    arrays = {name: value if isinstance(value, np.ndarray) else value.asnumpy() for name, value in params.items()}
    return Graph([Entry(nodes[e[0]], e[1]) for e in heads], arrays).with_unique_names()


def to_symbol(graph):
    """The mx.sym.Symbol; the parameters are `graph.params`."""
    index = {node: i for i, node in enumerate(graph.topological())}
    nodes = [{"op": n.op, "name": n.name, **({"attrs": n.attrs} if n.attrs else {}),
              "inputs": [[index[e.node], e.index, 0] for e in n.inputs]} for n in graph.topological()]
    text = _mxnet_json({"nodes": nodes, "arg_nodes": [i for i, n in enumerate(graph.topological()) if n.is_variable],
                       "node_row_ptr": list(range(len(nodes) + 1)),
                       "heads": [[index[e.node], e.index, 0] for e in graph.outputs],
                       "attrs": {"mxnet_version": ["int", 10901]}})
    return mx.sym.load_json(text)


def load(symbol_file, params_file):
    """Read a checkpoint: MXNet symbol JSON and an NDArray dictionary, as written by `export`, `save_checkpoint`,
    `collect_params().save` or `save_parameters`."""
    nodes, heads = _parse(_upgrade(_symbol_text(symbol_file), symbol_file))
    graph = Graph([Entry(nodes[e[0]], e[1]) for e in heads], {}).with_unique_names()
    return Graph(graph.outputs, load_params(graph, symbol_file, params_file))


def save(graph, symbol_file, params_file, more=None):
    """Write both files; the same graph gives the same bytes. `more`: further arrays by name, for `params_file` to keep."""
    atomic_write(symbol_file, to_symbol(graph).tojson())
    save_params({**graph.params, **(more or {})}, params_file)


def _mxnet_json(document):
    """JSON text that MXNet reads: it knows no \\u escapes."""
    return json.dumps(document, ensure_ascii=False)


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
