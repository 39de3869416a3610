"""Writes arbitrary small models: the `symbol` and `params` bytes of a graph.

    g = GraphWriter()
    x = g.data((1, 4), 8)
    w = g.param("w", np.ones((3, 4), np.int32), 8)
    y = g.op("dense", [x, w], (1, 3), units=3, use_bias=False)
    symbol, params = g.build([y])

Nothing is checked here: wrong graphs can be written too.
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

import numpy as np

LIST_MAGIC = 0xF7E58D4F05049CB7
TENSOR_MAGIC = 0xDD5E40F096B4A13F


OPERATORS = [
    "conv2d", "dense", "relu", "max_pool2d", "upsampling", "abs", "negative", "cvm_precision", "elemwise_add",
    "elemwise_sub", "clip", "cvm_clip", "cvm_right_shift", "cvm_left_shift", "broadcast_add", "broadcast_sub",
    "broadcast_mul", "broadcast_div", "broadcast_max", "broadcast_greater", "sum", "max", "repeat", "tile", "flatten",
    "concatenate", "expand_dims", "reshape", "squeeze", "transpose", "strided_slice", "slice_like", "take", "cvm_lut",
    "where", "get_valid_counts", "non_max_suppression",
]  # fmt: skip
# Operators whose output may take the slot of an input.
IN_PLACE = {
    "flatten", "relu", "expand_dims", "reshape", "squeeze", "abs", "cvm_precision", "elemwise_add", "elemwise_sub",
    "clip", "cvm_clip", "cvm_right_shift", "cvm_left_shift",
}  # fmt: skip


class Entry(NamedTuple):
    """One output of one node."""

    node: int
    index: int
    shape: tuple[int, ...]


class GraphWriter:
    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.op_attrs: list[str] = []
        self.shapes: list[list[int]] = []
        self.precisions: list[int] = []
        self.row_ptr = [0]
        self.params: dict[str, np.ndarray] = {}

    def _add(self, node: dict[str, Any], op_attrs: dict[str, str], shapes: list, precision: int) -> list[Entry]:
        self.nodes.append(node)
        self.op_attrs.append(json.dumps(op_attrs))
        self.shapes += [list(map(int, shape)) for shape in shapes]
        self.precisions += [precision] * len(shapes)
        self.row_ptr.append(self.row_ptr[-1] + len(shapes))
        return [Entry(len(self.nodes) - 1, k, tuple(map(int, s))) for k, s in enumerate(shapes)]

    def variable(self, name: str, shape: tuple[int, ...], precision: int) -> Entry:
        node = {"op": "null", "name": name, "inputs": []}
        return self._add(node, {"precision": str(precision)}, [shape], precision)[0]

    def data(self, shape: tuple[int, ...], precision: int) -> Entry:
        return self.variable("data", shape, precision)

    def param(self, name: str, values: np.ndarray, precision: int) -> Entry:
        values = np.asarray(values)
        self.params[name] = values.astype(np.int8 if precision <= 8 else np.int32)
        return self.variable(name, values.shape, precision)

    def op(self, name: str, inputs: list[Entry], *shapes: tuple[int, ...], **attrs: Any) -> Any:
        """An operator node with the output shapes given; its entry, or a list of them."""
        label = f"{name}_{len(self.nodes)}"
        node = {
            "op": "cvm_op",
            "name": label,
            "attrs": {
                "func_name": name,
                "num_inputs": str(len(inputs)),
                "num_outputs": str(len(shapes)),
                "flatten_data": "0",
            },
            "inputs": [[e.node, e.index, 0] for e in inputs],
        }
        entries = self._add(node, {k: str(v) for k, v in attrs.items()}, list(shapes), -1)
        return entries[0] if len(entries) == 1 else entries

    def document(self, heads: list[Entry], version: str = "cvm_1.0.0", **extra: Any) -> dict[str, Any]:
        """The symbol as a JSON document, every entry in a storage slot of its own."""
        n = self.row_ptr[-1]
        return {
            "nodes": self.nodes,
            "arg_nodes": [i for i, node in enumerate(self.nodes) if node["op"] == "null"],
            "node_row_ptr": self.row_ptr,
            "heads": [[e.node, e.index, 0] for e in heads],
            "attrs": {
                "op_attrs": ["list_str", self.op_attrs],
                "dltype": ["list_str", ["int32"] * n],
                "precision": ["list_int", self.precisions],
                "storage_id": ["list_int", list(range(n))],
                "shape": ["list_shape", self.shapes],
            },
            "version": version,
            **extra,
        }

    def build(self, heads: list[Entry], storage: list[int] | None = None, **extra: Any) -> tuple[bytes, bytes]:
        document = self.document(heads, **extra)
        if storage:
            document["attrs"]["storage_id"][1] = storage
        return dump(document), params_bytes(self.params)

    def entry_id(self, e: Entry) -> int:
        return self.row_ptr[e.node] + e.index

    def plan_storage(self, heads: list[Entry], rng: np.random.Generator) -> list[int]:
        """Storage ids in which tensors take over the slots of dead ones, at random."""
        last = [len(self.nodes)] * self.row_ptr[-1]  # node that reads an entry last
        for i, node in enumerate(self.nodes):
            if node["op"] != "null" or node["name"] == "data":
                last[self.row_ptr[i] : self.row_ptr[i + 1]] = [i] * (self.row_ptr[i + 1] - self.row_ptr[i])
            for n, k, _ in node["inputs"]:
                last[self.row_ptr[n] + k] = max(last[self.row_ptr[n] + k], i)
        for e in heads:
            last[self.entry_id(e)] = len(self.nodes)
        holder: list[int] = []  # entry in each slot
        # The parameters and the input are there before the first node.
        order = sorted(range(len(self.nodes)), key=lambda i: self.nodes[i]["op"] != "null")
        found: dict[int, int] = {}
        for i in order:
            in_place = self.nodes[i]["op"] != "null" and self.nodes[i]["attrs"]["func_name"] in IN_PLACE
            read = {self.row_ptr[n] + k for n, k, _ in self.nodes[i]["inputs"]} if in_place else set()
            for e in range(self.row_ptr[i], self.row_ptr[i + 1]):
                free = [s for s, h in enumerate(holder) if last[h] < i or (h in read and last[h] == i)]
                if self.nodes[i]["op"] == "null" or not free or rng.random() < 0.2:
                    free = [len(holder)]
                    holder.append(e)
                slot = free[int(rng.integers(len(free)))]
                holder[slot], found[e] = e, slot
        return [found[e] for e in range(self.row_ptr[-1])]


def dump(document: dict[str, Any]) -> bytes:
    # The dialect has no \u escapes: bytes beyond ASCII are written as they are.
    return json.dumps(document, ensure_ascii=False).encode()


def tensor_bytes(values: np.ndarray) -> bytes:
    values = np.ascontiguousarray(values)
    head = struct.pack("<QQiiiBBH", TENSOR_MAGIC, 0, 1, 0, values.ndim, 0, values.dtype.itemsize * 8, 1)
    return head + struct.pack(f"<{values.ndim}q", *values.shape) + struct.pack("<q", values.nbytes) + values.tobytes()


def params_bytes(params: dict[str, np.ndarray]) -> bytes:
    out = struct.pack("<QQQ", LIST_MAGIC, 0, len(params))
    for name in params:
        out += struct.pack("<Q", len(name.encode())) + name.encode()
    out += struct.pack("<Q", len(params))
    return out + b"".join(tensor_bytes(values) for values in params.values())


def int_range(precision: int) -> int:
    """Largest value of a precision; the smallest is its negative."""
    return 2 ** (precision - 1) - 1


def random_values(rng: np.random.Generator, shape: tuple[int, ...], precision: int) -> np.ndarray:
    """Uniform over the precision, with its bounds and zero well represented."""
    bound = int_range(precision)
    values = rng.integers(-bound, bound, shape, np.int64, endpoint=True)
    corners = rng.choice([-bound, -1, 0, 1, bound], shape)
    return np.clip(np.where(rng.random(shape) < 0.2, corners, values), -bound, bound).astype(np.int32)
