"""Arrays of MXNet as inputs of the runtime, which knows nothing of MXNet."""

from __future__ import annotations

import pytest
from examples import relu_of

import cvm_runtime as cvm
from mrt.mxnet_bridge import mx


def test_mxnet_arrays() -> None:
    x = mx.nd.array([[1, -2, 3, 500]])
    assert relu_of(8).run(x)[0].tolist() == [[1, 0, 3, 127]]
    assert relu_of(8).infer(x.clip(-127, 127).astype("int8")) == bytes([1, 0, 3, 127])
    with pytest.raises(cvm.CvmLogicError, match="float32"):
        relu_of(8).infer(x)
