"""A loaded model: what it takes, what it gives, what it tells of itself."""

from __future__ import annotations

import array
import ctypes
import struct
from typing import Any

import numpy as np
import pytest
from examples import EXAMPLE_PARAMS, example, relu_of
from graphs import GraphWriter, dump

import cvm_runtime as cvm
from cvm_runtime import _lib


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
