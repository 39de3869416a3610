"""Where a model runs: devices and numbers of threads."""

from __future__ import annotations

import numpy as np
import pytest
from examples import EXAMPLE_PARAMS, example, relu_of
from graphs import dump

import cvm_runtime as cvm


def test_device() -> None:
    symbol, params = dump(example()[1]), EXAMPLE_PARAMS
    for code in (1, 3, -1):
        with pytest.raises(cvm.CvmRuntimeError):
            cvm.load(symbol, params, cvm.Context(code))
    with pytest.raises(cvm.CvmRuntimeError):  # the device comes first
        cvm.load(b"", b"", cvm.gpu())


def test_numbers_of_threads_that_are_none() -> None:
    model = relu_of(8)
    for bad in (-1, 2**32 + 1, 1.5, "2", None):
        with pytest.raises(cvm.CvmLogicError, match="the number of threads is"):
            model.threads = bad  # type: ignore[assignment]
    model.threads = np.int64(2)  # type: ignore[assignment]
    assert model.threads == 2
    with pytest.raises(cvm.CvmLogicError, match="the number of threads is"):
        cvm.load(dump(example()[1]), EXAMPLE_PARAMS, cvm.cpu(threads=2**32 + 1))
