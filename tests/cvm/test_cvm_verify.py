"""What is proven of a model before it runs: attributes and shapes, storage and cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import LOGIC, RUNTIME, example, func, status_of
from graphs import GraphWriter, dump, params_bytes

import cvm_runtime as cvm


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
