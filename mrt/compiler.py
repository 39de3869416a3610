"""From an integer graph to the two files of the CVM runtime: `symbol` (JSON) and `params` (binary).

The layout of both is the runtime's; see `src/graph/`. The same graph gives the same bytes.
"""
import json
import struct
from collections import Counter

import numpy as np

from mrt.arithmetic import bits
from mrt.errors import ModelError, UnsupportedError
from mrt.execute import infer_shapes
from mrt.graph import Entry
from mrt.ops import operator_of
from mrt.simulate import is_integer

__all__ = ["compile_graph"]

LIST_MAGIC = 0xF7E58D4F05049CB7
TENSOR_MAGIC = 0xDD5E40F096B4A13F
CPU, SIGNED = 1, 0


def compile_graph(graph, input_shape=None):
    """(symbol text, params bytes) of a quantized graph for one fixed shape of `data`, batch included.

    Errors: ModelError when the graph is not an integer graph, UnsupportedError for a node the runtime has no operator for.
    """
    if not is_integer(graph):
        raise ModelError("only a quantized model can be compiled: call MRT.quantize first")
    shapes = infer_shapes(graph, **({"data": input_shape} if input_shape else {}))
    compiler = Compiler(graph, shapes)
    for node in graph.topological():
        compiler.add(node)
    heads = [compiler.entries[entry] for entry in graph.outputs]
    return _symbol_text(compiler.nodes, heads), _params_bytes(compiler.params)


class _Node:
    """A node of the compiled graph; every operator MRT emits has one output."""

    def __init__(self, op, name, inputs, attrs, shape, precision):
        self.op, self.name, self.inputs, self.attrs = op, name, inputs, attrs
        self.shape, self.precision = tuple(shape), precision


class Compiler:
    """What the `export` rule of an operator may ask: shapes, and to emit runtime operators. Entries are node indices."""

    def __init__(self, graph, shapes):
        self.nodes, self.entries, self.params = [], {}, {}
        self._graph, self._shapes = graph, shapes
        self._counts, self._filled = Counter(), {}

    def add(self, node):
        if node.is_variable:
            self.entries[Entry(node, 0)] = self._variable(node)
            return
        inputs = [self.entries[entry] for entry in node.inputs]
        self.entries[Entry(node, 0)] = operator_of(node).export(node, inputs, self)

    def shape(self, node):
        """Shape of a node's first output."""
        return self._shapes[node][0]

    def emit(self, node, op, inputs, attrs, shape=None):
        """Append the runtime operator `op` for `node`; its output has the node's shape unless another is given."""
        name = f"{op}_{self._counts[op]}"
        self._counts[op] += 1
        texts = {key: str(tuple(value) if isinstance(value, (list, tuple)) else value) for key, value in attrs.items()}
        return self._append(_Node(op, name, inputs, texts, shape or self.shape(node), attrs.get("precision", -1)))

    def filled(self, value, shape):
        """Entry of a constant of one value; made once per value and shape."""
        name = f"const_{value}_{'x'.join(map(str, shape))}"
        if name not in self._filled:
            values = np.full(shape, value, np.int32)
            self._filled[name] = self._parameter(name, values, bits(values))
        return self._filled[name]

    def _variable(self, node):
        precision = node.int("precision")
        if precision is None:
            raise UnsupportedError(f"{node.name} is a float tensor in the integer graph; nodes restored by set_restore are for "
                                   "debugging and cannot be compiled")
        if self._graph.is_param(node):
            return self._parameter(node.name, self._graph.params[node.name], precision)
        return self._append(_Node("null", node.name, [], _declared(precision, self.shape(node)), self.shape(node), precision))

    def _parameter(self, name, values, precision):
        _check_range(name, values, precision)
        self.params[name] = values, precision
        return self._append(_Node("null", name, [], _declared(precision, values.shape), values.shape, precision))

    def _append(self, node):
        self.nodes.append(node)
        return len(self.nodes) - 1


def _declared(precision, shape):
    return {"precision": str(precision), "__shape__": str(tuple(shape))}


def _check_range(name, values, precision):
    limit = 2 ** (precision - 1) - 1
    if not np.issubdtype(values.dtype, np.integer):
        raise ModelError(f"parameter {name} holds {values.dtype} values, the runtime takes integers only")
    if values.size and max(int(values.max()), -int(values.min())) > limit:
        raise ModelError(f"parameter {name} holds values beyond its {precision} bits (+-{limit})")


# --- symbol

def _symbol_text(nodes, heads):
    storage = _plan_storage(nodes, heads)
    document = {
        "nodes": [_node_json(node) for node in nodes],
        "arg_nodes": [i for i, node in enumerate(nodes) if node.op == "null"],
        "node_row_ptr": list(range(len(nodes) + 1)),
        "heads": [[head, 0, 0] for head in heads],
        "attrs": {
            "op_attrs": ["list_str", [json.dumps(node.attrs, ensure_ascii=False, sort_keys=True) for node in nodes]],
            "dltype": ["list_str", ["int32"] * len(nodes)],
            "precision": ["list_int", [node.precision for node in nodes]],
            "storage_id": ["list_int", storage],
            "shape": ["list_shape", [list(node.shape) for node in nodes]],
        },
        "version": "cvm_1.0.0",
    }
    return _pretty(document)


def _node_json(node):
    if node.op == "null":
        return {"op": "null", "name": node.name, "inputs": []}
    return {"op": "cvm_op", "name": node.name,
            "attrs": {"flatten_data": "0", "func_name": node.op, "num_inputs": str(len(node.inputs)), "num_outputs": "1"},
            "inputs": [[i, 0, 0] for i in node.inputs]}


def _pretty(document):
    """JSON with one line per node and per list: readable, and a difference shows in the line it belongs to. Non-ASCII
    characters stay as they are, because the runtime's reader knows no \\u escapes."""
    def text(value):
        return json.dumps(value, ensure_ascii=False)

    nodes = ",\n".join(f"    {text(node)}" for node in document["nodes"])
    attrs = ",\n".join(f"    {text(key)}: {text(value)}" for key, value in document["attrs"].items())
    rest = [f"  {text(key)}: {text(document[key])}" for key in ("arg_nodes", "node_row_ptr", "heads")]
    return "{\n" + ",\n".join([f'  "nodes": [\n{nodes}\n  ]', *rest, f'  "attrs": {{\n{attrs}\n  }}',
                               f'  "version": {text(document["version"])}']) + "\n}\n"


def _plan_storage(nodes, heads):
    """A storage slot per node: operators reuse the slots of dead tensors, greedily; then each variable has its own.

    A free slot is taken when its size is within a factor 16 of the need: the smallest that is large enough, else the largest,
    which grows.
    """
    uses = Counter(i for node in nodes for i in node.inputs) + Counter(heads)
    slots, free, sizes = [None] * len(nodes), [], []

    def release(i):
        uses[i] -= 1
        if uses[i] <= 0 and nodes[i].op != "null":
            free.append(slots[i])

    for i, node in enumerate(nodes):
        if node.op == "null":
            continue
        need = 4 * int(np.prod(node.shape, dtype=np.int64))
        fitting = [s for s in free if need / 16 <= sizes[s] <= need * 16]
        large = [s for s in fitting if sizes[s] >= need]
        slot = min(large, key=lambda s: (sizes[s], s)) if large else max(fitting, key=lambda s: (sizes[s], -s), default=None)
        if slot is None:
            slot = len(sizes)
            sizes.append(0)
        else:
            free.remove(slot)
        sizes[slot] = max(sizes[slot], need)
        slots[i] = slot
        for source in node.inputs:
            release(source)
        if uses[i] == 0:
            free.append(slot)
    following = len(sizes)
    for i, node in enumerate(nodes):
        if node.op == "null":
            slots[i], following = following, following + 1
    return slots


# --- params

def _params_bytes(params):
    """`params`: name -> (values, precision); int8 where the declared precision is at most 8, else int32."""
    names = [name.encode() for name in params]
    parts = [struct.pack("<QQQ", LIST_MAGIC, 0, len(names))]
    parts += [struct.pack("<Q", len(name)) + name for name in names]
    parts.append(struct.pack("<Q", len(names)))
    parts += [_tensor_bytes(values, 8 if precision <= 8 else 32) for values, precision in params.values()]
    return b"".join(parts)


def _tensor_bytes(values, width):
    data = np.ascontiguousarray(values, "<i1" if width == 8 else "<i4").tobytes()
    return (struct.pack("<QQiii", TENSOR_MAGIC, 0, CPU, 0, values.ndim) + struct.pack("<BBH", SIGNED, width, 1)
            + struct.pack(f"<{values.ndim}q", *values.shape) + struct.pack("<q", len(data)) + data)
