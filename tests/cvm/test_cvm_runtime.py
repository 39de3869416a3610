"""The functions of the original binding."""

from __future__ import annotations

import pytest
from examples import EXAMPLE_PARAMS, example
from graphs import dump

import cvm_runtime as cvm
from cvm_runtime import runtime


def test_original_names() -> None:
    net = runtime.CVMAPILoadModel(dump(example()[1]).decode(), EXAMPLE_PARAMS, cvm.formal())
    sizes = [getattr(runtime, f"CVMAPIGet{n}")(net) for n in ("InputLength", "OutputLength", "StorageSize")]
    assert sizes == [4, 3, 100]
    assert runtime.CVMAPIInference(net, bytes([10, 20, 30, 40])) == [6, 0, 0]
    with pytest.raises(cvm.CvmLogicError):
        runtime.CVMAPIInference(net, b"")
    runtime.CVMAPIFreeModel(net)
