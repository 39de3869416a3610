"""What the files of a model must be: the status class of every fault, and its text."""

from __future__ import annotations

import copy
import json
import struct
from typing import Callable

import numpy as np
import pytest
from examples import EXAMPLE_PARAMS, LOGIC, RUNTIME, Change, example, func, lists, status_of
from graphs import GraphWriter, dump, params_bytes, tensor_bytes

import cvm_runtime as cvm


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


def test_errors_name_the_place() -> None:
    document = copy.deepcopy(example()[1])
    document["attrs"]["op_attrs"][1][3] = json.dumps({"units": "x"})
    text = status_of(dump(document))[1]
    assert text == "node 3 'dense_3' (dense): attribute 'units' is 'x', expected a 32-bit integer"
    text = status_of(dump(document)[:200])[1]
    assert "at byte 200" in text
