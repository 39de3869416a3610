"""What a model file must be: the status class of every fault, and its text."""

from __future__ import annotations

import array
import copy
import ctypes
import json
import struct
from typing import Any, Callable, Dict

import numpy as np
import pytest
from graphs import GraphWriter, dump, params_bytes, tensor_bytes

import cvm_runtime as cvm
from cvm_runtime import _lib

LOGIC, RUNTIME = 1, 2

# Section 9 of the format specification, byte for byte.
EXAMPLE_PARAMS = bytes.fromhex(
    "b79c04054f8de5f7" + "0000000000000000" + "0200000000000000"
    "0900000000000000" + b"fc_weight".hex() + "0700000000000000" + b"fc_bias".hex() + "0200000000000000"
    "3fa1b496f0405edd" + "0000000000000000" + "010000000000000002000000" + "00080100"
    "0300000000000000" + "0400000000000000" + "0c00000000000000" + "01020304fffefdfc7f000081"
    "3fa1b496f0405edd" + "0000000000000000" + "010000000000000001000000" + "00200100"
    "0300000000000000" + "0c00000000000000" + "640000009cffffffe8030000"
)


def example() -> tuple[GraphWriter, dict[str, Any]]:
    g = GraphWriter()
    x = g.data((1, 4), 8)
    w = g.param("fc_weight", np.array([[1, 2, 3, 4], [-1, -2, -3, -4], [127, 0, 0, -127]]), 8)
    b = g.param("fc_bias", np.array([100, -100, 1000]), 12)
    y = g.op("dense", [x, w, b], (1, 3), units=3, use_bias=True)
    y = g.op("cvm_right_shift", [y], (1, 3), precision=8, shift_bit=6)
    y = g.op("relu", [y], (1, 3))
    document = g.document([y])
    document["attrs"]["storage_id"] = ["list_int", [2, 3, 4, 0, 1, 0]]
    return g, document


def status_of(symbol: bytes, params: bytes = EXAMPLE_PARAMS) -> tuple[int, str]:
    try:
        cvm.load(symbol, params, cvm.formal())
    except cvm.CvmError as e:
        return e.status, str(e)
    return 0, ""


def test_example(ctx: cvm.Context) -> None:
    g, document = example()
    assert params_bytes(g.params) == EXAMPLE_PARAMS
    assert len(EXAMPLE_PARAMS) == 192
    model = cvm.load(dump(document), EXAMPLE_PARAMS, ctx)
    assert model.infer(bytes([10, 20, 30, 40])) == bytes([6, 0, 0])
    assert (model.gas, model.storage_bytes) == (185, 100)
    assert (model.input_length, model.output_length) == (4, 3)
    assert (model.input_type_size, model.output_type_size) == (1, 1)
    assert (model.version, model.postprocess) == ("cvm_1.0.0", "")
    assert [n.outputs[0].precision for n in model.nodes] == [8, 8, 12, 20, 8, 8]
    assert model.outputs == [((1, 3), 8)]


Change = Callable[[Dict[str, Any]], Any]


def lists(d: dict[str, Any], key: str) -> list[Any]:
    return d["attrs"][key][1]


def func(d: dict[str, Any], node: int, name: str) -> None:
    d["nodes"][node]["attrs"]["func_name"] = name


FAULTS: dict[str, tuple[int, Change]] = {
    "no nodes key": (LOGIC, lambda d: d.pop("nodes")),
    "no heads key": (LOGIC, lambda d: d.pop("heads")),
    "no attrs key": (LOGIC, lambda d: d.pop("attrs")),
    "empty nodes": (LOGIC, lambda d: d.update(nodes=[], arg_nodes=[])),
    "unknown key": (RUNTIME, lambda d: d.update(more=1)),
    "unknown node key": (RUNTIME, lambda d: d["nodes"][0].update(more=1)),
    "unknown node attr": (RUNTIME, lambda d: d["nodes"][3]["attrs"].update(more="1")),
    "unknown graph attr": (RUNTIME, lambda d: d["attrs"].update(more=["list_int", []])),
    "float": (RUNTIME, lambda d: d["arg_nodes"].__setitem__(0, 0.5)),
    "true": (RUNTIME, lambda d: d["arg_nodes"].__setitem__(0, True)),
    "null": (RUNTIME, lambda d: d.update(heads=None)),
    "huge integer": (RUNTIME, lambda d: d["arg_nodes"].__setitem__(0, 2**70)),
    "node without op": (LOGIC, lambda d: d["nodes"][0].pop("op")),
    "node without name": (LOGIC, lambda d: d["nodes"][0].pop("name")),
    "node without inputs": (LOGIC, lambda d: d["nodes"][0].pop("inputs")),
    "wrong op kind": (LOGIC, lambda d: d["nodes"][0].update(op="conv2d")),
    "no func_name": (LOGIC, lambda d: d["nodes"][3]["attrs"].pop("func_name")),
    "no node attrs": (RUNTIME, lambda d: d["nodes"][3].pop("attrs")),
    "wrong tag": (LOGIC, lambda d: d["attrs"]["shape"].__setitem__(0, "list_int")),
    "no op_attrs": (LOGIC, lambda d: d["attrs"].pop("op_attrs")),
    "no storage_id": (LOGIC, lambda d: d["attrs"].pop("storage_id")),
    "no shape": (LOGIC, lambda d: d["attrs"].pop("shape")),
    "no precision": (LOGIC, lambda d: d["attrs"].pop("precision")),
    "no dltype": (LOGIC, lambda d: d["attrs"].pop("dltype")),
    "no arg_nodes": (LOGIC, lambda d: d.pop("arg_nodes")),
    "no node_row_ptr": (LOGIC, lambda d: d.pop("node_row_ptr")),
    "arg_nodes out of range": (LOGIC, lambda d: d["arg_nodes"].__setitem__(0, 99)),
    "arg_nodes negative": (LOGIC, lambda d: d["arg_nodes"].__setitem__(0, -1)),
    "arg_nodes twice": (RUNTIME, lambda d: d["arg_nodes"].append(0)),
    "same variable names": (RUNTIME, lambda d: d["nodes"][1].update(name="data")),
    "op_attrs short": (LOGIC, lambda d: lists(d, "op_attrs").pop()),
    "op_attrs no JSON": (RUNTIME, lambda d: lists(d, "op_attrs").__setitem__(3, "units")),
    "op_attrs number": (RUNTIME, lambda d: lists(d, "op_attrs").__setitem__(3, '{"units": 3}')),
    "unknown operator": (RUNTIME, lambda d: func(d, 5, "sigmoid")),
    "cvm_op as operator": (RUNTIME, lambda d: func(d, 5, "cvm_op")),
    "alias": (LOGIC, lambda d: func(d, 5, "nn.relu")),
    "unreachable alias": (RUNTIME, lambda d: func(d, 5, "__add_symbol__")),
    "attr of relu": (LOGIC, lambda d: lists(d, "op_attrs").__setitem__(5, '{"__x__": "1"}')),
    "unknown attr": (RUNTIME, lambda d: lists(d, "op_attrs").__setitem__(3, '{"units": "3", "unit": "3"}')),
    "missing attr": (RUNTIME, lambda d: lists(d, "op_attrs").__setitem__(3, "{}")),
    "bad int": (RUNTIME, lambda d: lists(d, "op_attrs").__setitem__(3, '{"units": "3.0"}')),
    "int overflow": (RUNTIME, lambda d: lists(d, "op_attrs").__setitem__(3, '{"units": "4294967299"}')),
    "bad bool": (RUNTIME, lambda d: lists(d, "op_attrs").__setitem__(3, '{"units": "3", "use_bias": "yes"}')),
    "units 0": (RUNTIME, lambda d: lists(d, "op_attrs").__setitem__(3, '{"units": "0"}')),
    "units 4": (RUNTIME, lambda d: lists(d, "op_attrs").__setitem__(3, '{"units": "4"}')),
    "shift 33": (LOGIC, lambda d: lists(d, "op_attrs").__setitem__(4, '{"precision": "8", "shift_bit": "33"}')),
    "arity": (LOGIC, lambda d: d["nodes"][3]["inputs"].pop()),
    "variable with inputs": (LOGIC, lambda d: d["nodes"][1]["inputs"].append([0, 0, 0])),
    "storage short": (LOGIC, lambda d: lists(d, "storage_id").pop()),
    "storage negative": (LOGIC, lambda d: lists(d, "storage_id").__setitem__(0, -1)),
    "storage 50 million": (LOGIC, lambda d: lists(d, "storage_id").__setitem__(0, 50_000_000)),
    "storage shared by dense": (LOGIC, lambda d: lists(d, "storage_id").__setitem__(3, 2)),
    "storage of data and weight": (LOGIC, lambda d: lists(d, "storage_id").__setitem__(1, 2)),
    "storage of weight and relu": (LOGIC, lambda d: lists(d, "storage_id").__setitem__(5, 3)),
    "shape short": (LOGIC, lambda d: lists(d, "shape").pop()),
    "rank 0": (LOGIC, lambda d: lists(d, "shape").__setitem__(0, [])),
    "rank 7": (LOGIC, lambda d: lists(d, "shape").__setitem__(0, [1] * 7)),
    "extent 0": (LOGIC, lambda d: lists(d, "shape").__setitem__(0, [1, 0])),
    "extent -4": (LOGIC, lambda d: lists(d, "shape").__setitem__(0, [-1, -4])),
    "extent 2^24+1": (LOGIC, lambda d: lists(d, "shape").__setitem__(0, [2**24 + 1])),
    "size above 2^30": (LOGIC, lambda d: lists(d, "shape").__setitem__(0, [2**20, 2**11])),
    "shape differs": (LOGIC, lambda d: lists(d, "shape").__setitem__(5, [3, 1])),
    "precision short": (LOGIC, lambda d: lists(d, "precision").pop()),
    "precision 0": (LOGIC, lambda d: lists(d, "precision").__setitem__(5, 0)),
    "precision 33": (LOGIC, lambda d: lists(d, "precision").__setitem__(5, 33)),
    "variable without precision": (LOGIC, lambda d: lists(d, "precision").__setitem__(0, -1)),
    "input of 9 bits": (LOGIC, lambda d: lists(d, "precision").__setitem__(0, 9)),
    "precision above 32": (LOGIC, lambda d: lists(d, "precision").__setitem__(2, 32)),
    "device_index": (LOGIC, lambda d: d["attrs"].update(device_index=["list_int", [0]])),
    "dltype": (LOGIC, lambda d: lists(d, "dltype").__setitem__(0, "int8")),
    "row_ptr": (LOGIC, lambda d: d["node_row_ptr"].__setitem__(1, 2)),
    "row_ptr empty": (LOGIC, lambda d: d.update(node_row_ptr=[])),
    "version": (RUNTIME, lambda d: d.update(version="cvm_2.0.0")),
    "input node 9999": (LOGIC, lambda d: d["nodes"][4].update(inputs=[[9999, 0, 0]])),
    "input node 2^32-1": (LOGIC, lambda d: d["nodes"][4].update(inputs=[[2**32 - 1, 0, 0]])),
    "input output 1": (LOGIC, lambda d: d["nodes"][5].update(inputs=[[3, 1, 0]])),
    "input from later": (LOGIC, lambda d: d["nodes"][4].update(inputs=[[5, 0, 0]])),
    "input from itself": (LOGIC, lambda d: d["nodes"][4].update(inputs=[[4, 0, 0]])),
    "entry of one item": (RUNTIME, lambda d: d["nodes"][4].update(inputs=[[3]])),
    "head 9999": (LOGIC, lambda d: d.update(heads=[[9999, 0, 0]])),
    "head -1": (LOGIC, lambda d: d.update(heads=[[-1, 0, 0]])),
    "head output 1": (LOGIC, lambda d: d.update(heads=[[5, 1, 0]])),
    "no heads": (LOGIC, lambda d: d.update(heads=[])),
    "no data": (RUNTIME, lambda d: d["nodes"][0].update(name="input")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(fault: str) -> None:
    status, change = FAULTS[fault]
    document = example()[1]
    change(document)
    found, text = status_of(dump(document))
    assert found == status, text
    assert text and "\n" not in text


HARMLESS: dict[str, Change] = {
    "suffix": lambda d: func(d, 5, "relu_12"),
    "bare suffix": lambda d: func(d, 5, "relu_"),
    "version 1.1.0": lambda d: (d.update(version="cvm_1.1.0"), d.pop("arg_nodes"), d.pop("node_row_ptr")),
    "1.1.0 ignores dltype": lambda d: (d.update(version="cvm_1.1.0"), d["attrs"].pop("dltype")),
    "no version": lambda d: d.pop("version"),
    "node precision": lambda d: d["nodes"][0].update(precision=4),
    "dtype": lambda d: d["attrs"].update(dtype=["list_int", [0, 1]]),
    "dtype as number": lambda d: d["attrs"].update(dtype=["list_str", 0]),
    "operator precision": lambda d: lists(d, "precision").__setitem__(3, 5),
    "hidden attr": lambda d: lists(d, "op_attrs").__setitem__(3, '{"units": " +3 ", "__shape__": "x"}'),
    "variable op_attrs": lambda d: lists(d, "op_attrs").__setitem__(0, "no JSON at all"),
    "entry of two items": lambda d: d["nodes"][4].update(inputs=[[3, 0]]),
    "long postprocess": lambda d: d.update(postprocess="x" * 100),
    "shift in place": lambda d: lists(d, "storage_id").__setitem__(4, 0),
    "name beyond ASCII": lambda d: d["nodes"][3].update(name='\u5377\u79ef\t"\\'),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_accepted(change: str) -> None:
    document = example()[1]
    HARMLESS[change](document)
    model = cvm.load(dump(document), EXAMPLE_PARAMS)
    assert model.infer(bytes([10, 20, 30, 40])) == bytes([6, 0, 0])
    assert len(model.postprocess) <= 32


TEXTS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "text after the end": (0, lambda s: s + b"} anything"),
    "blanks": (0, lambda s: b" \t\v\f\r\n" + s.replace(b",", b" ,\v")),
    "duplicate key": (0, lambda s: s[:-1] + b', "version": "cvm_1.1.0"}'),
    "last byte missing": (RUNTIME, lambda s: s[:-1]),
    "empty": (RUNTIME, lambda s: b""),
    "trailing comma": (RUNTIME, lambda s: s[:-1] + b",}"),
    "unicode escape": (RUNTIME, lambda s: s.replace(b'"fc_weight"', b'"fc_\\u0077eight"')),
    "slash escape": (RUNTIME, lambda s: s.replace(b'"dense_3"', b'"dense\\/3"')),
    "newline in string": (RUNTIME, lambda s: s.replace(b'"dense_3"', b'"dense\n3"')),
    "deep nesting": (RUNTIME, lambda s: s.replace(b'"heads": ', b'"heads": ' + b"[" * 1_000_000)),
    "deep unknown": (RUNTIME, lambda s: b'{"a": ' + b"[" * 1_000_000),
}


@pytest.mark.parametrize("name", TEXTS)
def test_symbol_text(name: str) -> None:
    status, change = TEXTS[name]
    assert status_of(change(dump(example()[1])))[0] == status


def test_every_truncation_is_refused() -> None:
    symbol = dump(example()[1])
    for n in range(len(symbol)):
        assert status_of(symbol[:n])[0] != 0, n
    for n in range(len(EXAMPLE_PARAMS)):
        found = status_of(symbol, EXAMPLE_PARAMS[:n])[0]
        # Header and names are the list's (logic), what follows the tensors' (runtime).
        assert found == (LOGIC if n < 64 else RUNTIME), n


def patched(offset: int, layout: str, *values: int) -> bytes:
    data = bytearray(EXAMPLE_PARAMS)
    struct.pack_into(layout, data, offset, *values)
    return bytes(data)


WEIGHT = 64  # offset of the first tensor
PARAMS: dict[str, tuple[int, bytes]] = {
    "reserved words": (0, patched(8, "<Q", 77)),
    "trailing bytes": (0, EXAMPLE_PARAMS + b"stale"),  # the original's writer leaves them
    "list magic": (LOGIC, patched(0, "<B", 0)),
    "names count": (LOGIC, patched(16, "<Q", 3)),
    "names count huge": (LOGIC, patched(16, "<Q", 2**63)),
    "name length huge": (LOGIC, patched(24, "<Q", 2**64 - 1)),
    "tensor count": (LOGIC, patched(56, "<Q", 1)),
    "tensor magic": (RUNTIME, patched(WEIGHT, "<B", 0)),
    "device gpu": (RUNTIME, patched(WEIGHT + 16, "<i", 2)),
    "device formal": (LOGIC, patched(WEIGHT + 16, "<i", 3)),
    "rank 3": (RUNTIME, patched(WEIGHT + 24, "<i", 3)),
    "rank -1": (RUNTIME, patched(WEIGHT + 24, "<i", -1)),
    "rank huge": (RUNTIME, patched(WEIGHT + 24, "<i", 2**31 - 1)),
    "unsigned": (LOGIC, patched(WEIGHT + 28, "<B", 1)),
    "float": (LOGIC, patched(WEIGHT + 28, "<B", 2)),
    "bits 16": (RUNTIME, patched(WEIGHT + 29, "<B", 16)),
    "shape": (LOGIC, patched(WEIGHT + 32, "<qq", 4, 3)),
    "extent overflow": (RUNTIME, patched(WEIGHT + 32, "<qq", 2**62, 2**62)),
    "byte count": (RUNTIME, patched(WEIGHT + 48, "<q", 11)),
    "int8 -128": (LOGIC, patched(WEIGHT + 56, "<b", -128)),
    "bias of 13 bits": (LOGIC, patched(len(EXAMPLE_PARAMS) - 4, "<i", 2048)),
    "empty": (LOGIC, b""),
    "unknown name": (RUNTIME, params_bytes({"fc_weight": np.zeros((3, 4), np.int8), "x": np.zeros(3, np.int32)})),
    "missing tensor": (LOGIC, params_bytes({"fc_weight": np.zeros((3, 4), np.int8)})),
    "int32 weight": (0, params_bytes({"fc_weight": np.zeros((3, 4), np.int32), "fc_bias": np.zeros(3, np.int8)})),
}


@pytest.mark.parametrize("name", PARAMS)
def test_params(name: str) -> None:
    status, params = PARAMS[name]
    found, text = status_of(dump(example()[1]), params)
    assert found == status, text


def test_params_data_and_repeated_names() -> None:
    g = GraphWriter()
    x = g.data((1,), 4)
    y = g.op("elemwise_add", [x, g.param("w", np.array([1]), 4)], (1,))
    symbol, _ = g.build([y])
    one, two = np.array([1], np.int8), np.array([2], np.int8)
    wide = tensor_bytes(np.array([100], np.int8))  # data: outside its range, yet no fault
    names = b"".join(struct.pack("<Q", len(n)) + n for n in (b"w", b"data", b"w"))
    head = struct.pack("<QQQ", 0xF7E58D4F05049CB7, 0, 3) + names + struct.pack("<Q", 3)
    params = head + tensor_bytes(one) + wide + tensor_bytes(two)
    assert cvm.load(symbol, params).run(np.array([5]))[0] == [7]


def single(name: str, shapes: list[tuple[int, ...]], out: Any, **attrs: Any) -> tuple[int, str]:
    g = GraphWriter()
    inputs = [g.data(shapes[0], 8)]
    inputs += [g.param(f"p{k}", np.zeros(s, np.int32), 8) for k, s in enumerate(shapes[1:])]
    outs = out if isinstance(out, list) else [out]
    y = g.op(name, inputs, *outs, **attrs)
    return status_of(*g.build(y if isinstance(y, list) else [y]))


CONV = {"channels": 2, "kernel_size": (3, 3), "use_bias": False}
IMAGE, KERNEL = (1, 2, 5, 5), (2, 2, 3, 3)


@pytest.mark.parametrize(
    "status,name,shapes,out,attrs",
    [
        (0, "conv2d", [IMAGE, KERNEL], (1, 2, 3, 3), CONV),
        (LOGIC, "conv2d", [IMAGE, (2, 2, 3, 2)], (1, 2, 3, 3), CONV),
        (LOGIC, "conv2d", [IMAGE, (2, 1, 3, 3)], (1, 2, 3, 3), CONV),
        (RUNTIME, "conv2d", [IMAGE, KERNEL, (3,)], (1, 2, 3, 3), {**CONV, "use_bias": True}),
        (LOGIC, "conv2d", [IMAGE, KERNEL], (1, 2, 3, 3), {**CONV, "groups": 0}),
        (LOGIC, "conv2d", [IMAGE, KERNEL], (1, 2, 3, 3), {**CONV, "strides": (0, 1)}),
        (LOGIC, "conv2d", [IMAGE, KERNEL], (1, 2, 3, 3), {**CONV, "padding": (4097, 0)}),
        (LOGIC, "conv2d", [IMAGE, KERNEL], (1, 2, 3, 3), {**CONV, "dilation": (4, 4)}),
        (LOGIC, "conv2d", [IMAGE, KERNEL], (1, 2, 3, 3), {**CONV, "layout": "NHWC"}),
        (LOGIC, "conv2d", [IMAGE, KERNEL], (1, 2, 3, 3), {**CONV, "out_dtype": "int8"}),
        (RUNTIME, "conv2d", [IMAGE, KERNEL], (1, 2, 3, 3), {**CONV, "out_dtype": "int4"}),
        (RUNTIME, "conv2d", [IMAGE, KERNEL], (1, 2, 3, 3), {**CONV, "kernel_size": "(3 3)"}),
        (LOGIC, "conv2d", [IMAGE, KERNEL], (1, 2, 3, 3), {**CONV, "kernel_size": (2**62, 2**62)}),
        (LOGIC, "max_pool2d", [IMAGE], (1, 2, 3, 3), {"pool_size": (2, 2), "padding": (2, 2)}),
        (LOGIC, "max_pool2d", [IMAGE], (1, 2, 4, 4), {"pool_size": (1, 1), "strides": (2, 2), "ceil_mode": "1"}),
        (LOGIC, "upsampling", [IMAGE], (1, 2, 5, 5), {"scale": 0}),
        (LOGIC, "elemwise_add", [(2, 3), (3,)], (2, 3), {}),
        (LOGIC, "broadcast_add", [(2, 3), (2,)], (2, 3), {}),
        (LOGIC, "clip", [(4,)], (4,), {"a_min": 1, "a_max": 1}),
        (LOGIC, "clip", [(4,)], (4,), {"a_min": 0, "a_max": 2**31 - 1}),
        (LOGIC, "clip", [(4,)], (4,), {"a_min": -(2**31), "a_max": 1}),
        (LOGIC, "cvm_clip", [(4,)], (4,), {"precision": 33}),
        (RUNTIME, "cvm_left_shift", [(4,)], (4,), {"precision": 32, "shift_bit": 25}),
        (LOGIC, "sum", [(2, 3)], (3,), {"axis": (0, -2)}),
        (LOGIC, "sum", [(2, 3)], (3,), {"axis": (2,)}),
        (RUNTIME, "sum", [(2, 3)], (3,), {"axis": (0,), "dtype": "int"}),
        (LOGIC, "repeat", [(2,)], (2,), {"repeats": 0}),
        (LOGIC, "tile", [(2,)], (2,), {}),
        (LOGIC, "concatenate", [(2,), (2,)], (4,), {}),
        (RUNTIME, "expand_dims", [(2,)], (2,), {"axis": 0, "num_newaxis": 0}),
        (LOGIC, "expand_dims", [(2,)], (2, 1), {"axis": 2}),
        (LOGIC, "reshape", [(6,)], (6,), {"shape": ()}),
        (LOGIC, "reshape", [(6,)], (6,), {"shape": (-4, -1, 0, -2)}),
        (LOGIC, "reshape", [(6,)], (6,), {"shape": (-1, -1)}),
        (LOGIC, "reshape", [(6,)], (2, 3), {"shape": (-4, -1, -1)}),
        (LOGIC, "reshape", [(6,)], (2, 3), {"shape": (2**62, 2**62, -1)}),
        (LOGIC, "reshape", [(6,)], (6,), {"shape": (-3, -1)}),
        (LOGIC, "reshape", [(2, 3)], (6,), {"shape": (-3, -1)}),
        (LOGIC, "squeeze", [(2, 1)], (2,), {"axis": (0,)}),
        (LOGIC, "transpose", [(2, 3)], (3, 2), {"axes": (1, -1)}),
        (LOGIC, "strided_slice", [(2, 3, 4)], (1, 3, 4), {"begin": (0,) * 5, "end": (1,) * 5}),
        (LOGIC, "strided_slice", [(4,)], (4,), {"begin": (0,), "end": (4,), "stride": (0,)}),
        (LOGIC, "strided_slice", [(4,)], (4,), {"begin": (3,), "end": (2,)}),
        (LOGIC, "slice_like", [(2, 3), (3, 3)], (2, 3), {}),
        (LOGIC, "slice_like", [(2, 3), (3,)], (2, 3), {"axis": (1,)}),
        (RUNTIME, "slice_like", [(2, 3), (3,)], (2, 3), {"axis": (2**40,)}),
        (LOGIC, "take", [(2, 3), (1,)], (1, 3), {"axis": 2}),
        (RUNTIME, "take", [(2, 3), (1,)], (1, 3), {"axis": "none"}),
        (LOGIC, "cvm_lut", [(2,), (5,)], (2,), {"in_dim": 4}),
        (LOGIC, "where", [(3,), (2, 3), (2, 3)], (2, 3), {}),
        (LOGIC, "get_valid_counts", [(1, 4, 32)], [(1,), (1, 4, 32)], {}),
        (LOGIC, "non_max_suppression", [(1, 4, 6), (1,)], (1, 4, 6), {"iou_threshold": 0}),
        (LOGIC, "non_max_suppression", [(1, 4, 6), (1,)], (1, 4, 6), {"return_indices": True}),
        (LOGIC, "non_max_suppression", [(1, 4, 6), (2,)], (1, 4, 6), {}),
    ],
)
def test_operator_fault(status: int, name: str, shapes: list, out: Any, attrs: dict[str, Any]) -> None:
    found, text = single(name, shapes, out, **attrs)
    assert found == status, text
    if status:
        assert f"node {len(shapes)} '{name}_{len(shapes)}' ({name})" in text


def test_storage_soundness_over_time() -> None:
    """A slot may be taken over once its tensor is dead, not before."""
    g = GraphWriter()
    x = g.data((4,), 8)
    a, b = g.op("negative", [x], (4,)), g.op("abs", [x], (4,))
    y = g.op("elemwise_add", [a, b], (4,))
    document = g.document([y])
    for ids, fine in (([0, 1, 2, 3], True), ([0, 1, 0, 1], True), ([0, 1, 1, 2], False), ([0, 0, 1, 2], False)):
        document["attrs"]["storage_id"][1] = ids
        assert (status_of(dump(document), params_bytes({}))[0] == 0) is fine, ids


def test_storage_limit() -> None:
    g = GraphWriter()
    y = g.data((2**15, 2**15), 8)
    y = g.op("relu", [y], (2**15, 2**15))
    found, text = status_of(*g.build([y]))
    assert found == LOGIC
    assert "storage" in text


def test_device() -> None:
    symbol, params = dump(example()[1]), EXAMPLE_PARAMS
    for code in (1, 3, -1):
        with pytest.raises(cvm.CvmRuntimeError):
            cvm.load(symbol, params, cvm.Context(code))
    with pytest.raises(cvm.CvmRuntimeError):  # the device comes first
        cvm.load(b"", b"", cvm.gpu())


# ---- cost -------------------------------------------------------------------


def test_gas_of_the_api_examples() -> None:
    g = GraphWriter()
    x = g.data((1, 4), 8)
    assert cvm.gas(dump(g.document([g.op("relu", [x], (1, 4))]))) == 44
    g = GraphWriter()
    x = g.data((2, 3, 4), 8)
    assert cvm.gas(dump(g.document([g.op("sum", [x], (2,), axis=(1, 2))]))) == 154
    g = GraphWriter()
    x = g.data((1, 3, 6), 16)
    counts, rows = g.op("get_valid_counts", [x], (1,), (1, 3, 6))
    y = g.op("non_max_suppression", [rows, counts], (1, 3, 6))
    symbol, params = g.build([y])
    assert cvm.gas(symbol) == cvm.load(symbol, params).gas == 636


def test_gas_accepts_aliases() -> None:
    document = example()[1]
    func(document, 5, "nn.relu")
    assert cvm.gas(dump(document)) == 185


def test_gas_limits() -> None:
    g = GraphWriter()
    y = g.data((2**15, 2**15), 8)
    for _ in range(250):
        y = g.op("relu", [y], (2**15, 2**15))
    with pytest.raises(cvm.CvmLogicError, match="memory cost"):
        cvm.gas(dump(g.document([y])))


# ---- inputs and outputs -----------------------------------------------------


def test_input_is_clamped(ctx: cvm.Context) -> None:
    g = GraphWriter()
    y = g.op("negative", [g.data((3,), 8)], (3,))
    model = cvm.load(*g.build([y]), ctx)
    assert model.infer(bytes([128, 127, 129])) == bytes([127, 129, 127])
    assert model.run(np.array([-1000, 2**40, 5]))[0].tolist() == [127, -127, -5]
    g = GraphWriter()
    model = cvm.load(*g.build([g.op("negative", [g.data((1,), 12)], (1,))]), ctx)
    assert model.infer(struct.pack("<i", -(2**31))) == struct.pack("<i", 2047)


def test_wrong_inputs_say_what_was_expected() -> None:
    model = cvm.load(dump(example()[1]), EXAMPLE_PARAMS)
    for bad in (b"", b"123", b"12345"):
        with pytest.raises(cvm.CvmLogicError, match=f"{len(bad)} bytes, expected 4"):
            model.infer(bad)
    with pytest.raises(cvm.CvmLogicError, match=r"\(4,\), expected \(1, 4\)"):
        model.run(np.zeros(4, int))
    with pytest.raises(cvm.CvmLogicError, match="expected integers"):
        model.run(np.full((1, 4), 0.5))
    with pytest.raises(cvm.CvmLogicError, match="expected integers"):
        model.run(np.full((1, 4), np.nan))
    with pytest.raises(cvm.CvmLogicError, match="expected integers"):
        model.run(np.array([["a"] * 4]))
    assert model.run(np.full((1, 4), 2.0))[0].dtype == np.int32


def relu_of(precision: int) -> cvm.Model:
    g = GraphWriter()
    x = g.data((1, 4), precision)
    return cvm.load(*g.build([g.op("relu", [x], (1, 4))]))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "g", "?", ">i4", ">f4"])
def test_every_type_of_number_runs(dtype: str) -> None:
    """Values far outside of int32 and of the precision are clamped, wherever they lie in memory."""
    t = np.dtype(dtype)
    if t.kind == "f":
        most = float(min(np.finfo(t).max, np.finfo("f8").max))
        values, expected = [-most, 2, 3, most], [0, 2, 3, 127]
    elif t.kind == "b":
        values, expected = [False, True, True, False], [0, 1, 1, 0]
    else:
        limits = np.iinfo(t)
        values, expected = [limits.min, 2, 3, limits.max], [0, 2, 3, 127]
    x = np.array([values], t)
    model = relu_of(8)
    unaligned = np.frombuffer(b"x" + x.tobytes(), t, offset=1).reshape(1, 4)
    for y in (x, np.repeat(x, 2, axis=1)[:, ::2], np.asfortranarray(x), unaligned):
        assert model.run(y)[0].tolist() == [expected]
    assert relu_of(32).run(np.array([[0, 2**31 - 2, 2**31 - 1, 2**53]]))[0].tolist() == [[0, 2**31 - 2] + [2**31 - 1] * 2]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.5])
def test_numbers_that_are_no_integers(dtype: str, bad: float) -> None:
    x = np.zeros((1, 4), dtype)
    x[0, 2] = bad
    with pytest.raises(cvm.CvmLogicError, match="expected integers"):
        relu_of(8).run(x)


def test_arrays_that_are_no_numbers() -> None:
    model = relu_of(8)
    for x in (
        np.zeros((1, 4), complex),
        np.zeros((1, 4), object),
        np.zeros((1, 4), "U3"),
        np.zeros((1, 4), "S3"),
        np.zeros((1, 4), "M8[s]"),
        np.zeros((1, 4), "m8[s]"),
        np.zeros((1, 4), "V0"),
        np.zeros((1, 4), [("x" * 10**6, "i4")]),
    ):
        with pytest.raises(cvm.CvmLogicError, match="expected integers") as e:
            model.run(x)
        assert len(str(e.value)) < 200
    for x in (None, {}, [[1, 2], [3]], "1234", b"1234"):
        with pytest.raises(cvm.CvmLogicError, match=r"no array of numbers|has shape"):
            model.run(x)  # type: ignore[arg-type]


def test_bytes_of_an_input() -> None:
    model, raw = relu_of(8), bytes([1, 254, 3, 4])
    x = np.frombuffer(raw, np.int8)
    expected = bytes([1, 0, 3, 4])
    backwards = memoryview(raw[::-1])[::-1]
    for good in (raw, bytearray(raw), memoryview(raw), backwards, array.array("b", x.tolist()), x, x[None], x[::-1].copy()[::-1]):
        assert model.infer(good) == expected
    wide = relu_of(16)
    y = x.astype("<i4")
    for good in (y.tobytes(), y, y[None], memoryview(y), array.array("i", y.tolist())):
        assert np.frombuffer(wide.infer(good), "<i4").tolist() == [1, 0, 3, 4]


@pytest.mark.parametrize("precision", [8, 16])
def test_what_is_no_input(precision: int) -> None:
    """Each of them has 4 or 16 bytes, or the length 4."""
    model = relu_of(precision)
    fits = "int32" if precision == 8 else "int8"
    for dtype in (fits, "uint8", "int16", "uint32", ">i4", "int64", "float32", "bool", "object", "V0", "V4", "S4", "U1"):
        x = np.zeros(4, dtype)
        with pytest.raises(cvm.CvmLogicError, match=r"the input is a .* array, expected int"):
            model.infer(x)
    for bad in (4, None, "1234", [1, 2, 3, 4], (1, 2, 3, 4), iter(b"1234")):
        with pytest.raises(cvm.CvmLogicError, match="expected bytes or an array"):
            model.infer(bad)
    with pytest.raises(cvm.CvmLogicError, match="has shape"):
        model.infer(np.zeros((4, 1), "i1" if precision == 8 else "<i4"))


def test_zero_size_items_are_not_read_past() -> None:
    g = GraphWriter()
    x = g.data((1, 2**24), 8)
    model = cvm.load(*g.build([g.op("relu", [x], x.shape)]))
    for bad in (np.zeros(2**24, "V0"), memoryview(np.zeros(2**24, "V0")), np.broadcast_to(np.int8(0), 2**24 - 1)):
        with pytest.raises(cvm.CvmLogicError):
            model.infer(bad)


def test_numbers_of_threads_that_are_none() -> None:
    model = relu_of(8)
    for bad in (-1, 2**32 + 1, 1.5, "2", None):
        with pytest.raises(cvm.CvmLogicError, match="the number of threads is"):
            model.threads = bad  # type: ignore[assignment]
    model.threads = np.int64(2)  # type: ignore[assignment]
    assert model.threads == 2
    with pytest.raises(cvm.CvmLogicError, match="the number of threads is"):
        cvm.load(dump(example()[1]), EXAMPLE_PARAMS, cvm.cpu(threads=2**32 + 1))


def test_a_million_outputs() -> None:
    """They are told by one call of the library, when they are asked for."""
    g = GraphWriter()
    y = g.op("relu", [g.data((1, 4), 8)], (1, 4))
    z = g.op("reshape", [y], (2, 2), shape=(2, 2))
    symbol, params = g.build([y, z])
    count = 300_000
    heads = b"[" + b",".join([b"[1,0],[2,0]"] * count) + b"]"
    symbol = symbol.replace(b"[[1, 0, 0], [2, 0, 0]]", heads)
    calls = []
    original = _lib.call
    _lib.call = lambda name, *args: (calls.append(name), original(name, *args))[1]
    try:
        model = cvm.load(symbol, params)
        assert model.outputs == [((1, 4), 8), ((2, 2), 8)] * count
        ys = model.run(np.array([[1, -2, 3, 4]]))
        assert len(model.nodes) == 3
    finally:
        _lib.call = original
    assert len(calls) < 30
    assert len(ys) == 2 * count
    assert all(y.tolist() == [[1, 0, 3, 4]] for y in ys[::2]) and ys[-1].tolist() == [[1, 0], [3, 4]]
    assert len(repr(model)) < 500


def test_nodes_tell_all() -> None:
    """What the bulk functions say, and those of one node."""
    model = cvm.load(dump(example()[1]), EXAMPLE_PARAMS)
    lib, handle = _lib.library(), model._handle
    for node in model.nodes:
        info = _lib.NodeInfo()
        assert lib.CVMModelGetNode(handle, node.index, ctypes.byref(info)) == 0
        assert (info.name.decode(), info.op.decode(), info.gas) == (node.name, node.op, node.gas)
        assert (info.num_inputs, info.num_outputs) == (len(node.inputs), len(node.outputs))
        tensor = _lib.TensorInfo()
        assert lib.CVMModelGetNodeOutput(handle, node.index, 0, ctypes.byref(tensor)) == 0
        assert (tuple(tensor.shape[: tensor.ndim]), tensor.precision) == node.outputs[0]
    tensor = _lib.TensorInfo()
    assert lib.CVMModelGetOutput(handle, 0, ctypes.byref(tensor)) == 0
    assert (tuple(tensor.shape[: tensor.ndim]), tensor.precision) == model.outputs[0]
    document = example()[1]
    assert [node.inputs for node in model.nodes] == [[e[0] for e in node["inputs"]] for node in document["nodes"]]


def test_errors_are_short() -> None:
    for name in ("symbol", "params"):
        contents = {"symbol": dump(example()[1]), "params": EXAMPLE_PARAMS, name: "x\x1b" * 10**6}
        with pytest.raises(cvm.CvmRuntimeError, match=f"the {name} file x.x1bx.x1b.*cannot be read") as e:
            cvm.load(**contents)
        assert len(str(e.value)) < 1100
        with pytest.raises(cvm.CvmRuntimeError, match="cannot be read: embedded null byte"):
            cvm.load(**{**contents, name: "a\0b"})
    document = example()[1]
    document["nodes"][3]["name"] = document["nodes"][3]["attrs"]["func_name"] = "x" * 10**6
    with pytest.raises(cvm.CvmError) as e:
        cvm.load(dump(document), EXAMPLE_PARAMS)
    assert len(str(e.value)) < 300


def outputs(shapes: list[tuple[int, ...]], precision: int, ctx: cvm.Context, **extra: Any) -> Any:
    g = GraphWriter()
    size = max(int(np.prod(s)) for s in shapes)
    x = g.data((size,), precision)
    heads = []
    for s in shapes:
        cut = g.op("strided_slice", [x], (int(np.prod(s)),), end=(int(np.prod(s)),))
        heads.append(g.op("reshape", [cut], s, shape=s))
    return cvm.load(*g.build(heads, **extra), ctx)


def test_rows_of_several_outputs(ctx: cvm.Context) -> None:
    model = outputs([(2, 3), (2, 1), (1, 2, 2)], 8, ctx)
    assert model.infer(bytes(range(6))) == bytes([0, 1, 2, 0, 0, 1, 3, 4, 5, 1, 2, 3])
    model = outputs([(2, 3), (3, 1)], 8, ctx)
    with pytest.raises(cvm.CvmLogicError, match="rows"):
        model.infer(bytes(6))
    assert [y.shape for y in model.run(np.zeros(6, int))] == [(2, 3), (3, 1)]


def test_argmax(ctx: cvm.Context) -> None:
    model = outputs([(2, 3), (1, 2)], 12, ctx, postprocess="argmax")
    assert (model.output_length, model.output_type_size, model.postprocess) == (12, 4, "argmax")
    x = np.array([1, 300, 300, 2, 1, 256], "<i4")
    assert np.frombuffer(model.infer(x.tobytes()), "<i4").tolist() == [1, 2, 1]


def test_detection(ctx: cvm.Context) -> None:
    model = outputs([(1, 2, 3), (1, 2, 1)], 8, ctx, postprocess="detection")
    assert (model.output_length, model.output_type_size) == (32, 4)
    found = np.frombuffer(model.infer(bytes(range(6))), "<i4").tolist()
    assert found == [0, 1, 2, 0, 3, 4, 5, 1]
    batch = outputs([(2, 2, 3), (2, 2, 1)], 8, ctx, postprocess="detection")
    assert len(batch.infer(bytes(12))) == batch.output_length == 32  # no overrun
    model = outputs([(2, 3)], 8, ctx, postprocess="detection")
    with pytest.raises(cvm.CvmLogicError, match="two outputs"):
        model.infer(bytes(6))
    model = outputs([(6,), (6,)], 8, ctx, postprocess="detection")
    assert model.output_length == 0
    assert model.infer(bytes(6)) == b""


def test_parameter_and_input_as_outputs(ctx: cvm.Context) -> None:
    g = GraphWriter()
    x, w = g.data((3,), 8), g.param("w", np.array([7, 8, 9]), 8)
    g.op("relu", [x], (3,))
    model = cvm.load(*g.build([w, x]), ctx)
    assert [y.tolist() for y in model.run(np.array([1, 2, 3]))] == [[7, 8, 9], [1, 2, 3]]


def test_input_need_not_be_first(ctx: cvm.Context) -> None:
    g = GraphWriter()
    w = g.param("w", np.arange(6).reshape(2, 3), 8)
    n = g.op("negative", [w], (2, 3))
    counts = g.op("get_valid_counts", [g.op("reshape", [n], (1, 2, 3), shape=(1, 2, 3))], (1,), (1, 2, 3))[0]
    x = g.data((4,), 8)
    y = g.op("broadcast_add", [x, counts], (4,))
    model = cvm.load(*g.build([y]), ctx)
    assert model.input_shape == (4,)
    assert model.input_length == 4
    assert len(model.run(np.arange(4))[0]) == 4


# ---- the Python face --------------------------------------------------------


def test_paths_and_contents(tmp_path: Any) -> None:
    symbol = dump(example()[1])
    (tmp_path / "symbol").write_bytes(symbol)
    (tmp_path / "params").write_bytes(EXAMPLE_PARAMS)
    for s in (symbol, tmp_path / "symbol", str(tmp_path / "symbol")):
        assert cvm.load(s, EXAMPLE_PARAMS).gas == cvm.gas(s) == 185
    with pytest.raises(cvm.CvmRuntimeError, match="cannot be read"):
        cvm.load(tmp_path / "nothing", EXAMPLE_PARAMS)
    with pytest.raises(TypeError, match="symbol is a dict"):
        cvm.load({}, EXAMPLE_PARAMS)  # type: ignore[arg-type]


def test_original_names() -> None:
    from cvm_runtime import runtime

    net = runtime.CVMAPILoadModel(dump(example()[1]).decode(), EXAMPLE_PARAMS, cvm.formal())
    sizes = [getattr(runtime, f"CVMAPIGet{n}")(net) for n in ("InputLength", "OutputLength", "StorageSize")]
    assert sizes == [4, 3, 100]
    assert runtime.CVMAPIInference(net, bytes([10, 20, 30, 40])) == [6, 0, 0]
    with pytest.raises(cvm.CvmLogicError):
        runtime.CVMAPIInference(net, b"")
    runtime.CVMAPIFreeModel(net)


def test_null_pointers_and_untouched_results() -> None:
    lib = _lib.library()
    out = ctypes.c_ulonglong(77)
    assert lib.CVMAPIFreeModel(None) == 0
    assert lib.CVMAPIGetGasFromModel(None, ctypes.byref(out)) == RUNTIME
    assert lib.CVMAPIGetGasFromGraphFile(b"{}", ctypes.byref(out)) == LOGIC
    assert lib.CVMAPIGetGasFromGraphFile(None, ctypes.byref(out)) == RUNTIME
    handle = ctypes.c_void_p(5)
    assert lib.CVMAPILoadModel(b"", -1, b"", 0, ctypes.byref(handle), 0, 0) == RUNTIME
    assert lib.CVMAPILoadModel(None, 0, b"", 0, ctypes.byref(handle), 0, 0) == RUNTIME
    assert (out.value, handle.value) == (77, 5)
    net = cvm.load(dump(example()[1]), EXAMPLE_PARAMS)
    assert lib.CVMAPIInference(net._handle, None, 4, None) == RUNTIME


def test_errors_name_the_place() -> None:
    document = copy.deepcopy(example()[1])
    document["attrs"]["op_attrs"][1][3] = json.dumps({"units": "x"})
    text = status_of(dump(document))[1]
    assert text == "node 3 'dense_3' (dense): attribute 'units' is 'x', expected a 32-bit integer"
    text = status_of(dump(document)[:200])[1]
    assert "at byte 200" in text
