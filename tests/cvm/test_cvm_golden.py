"""Files produced by the original runtime, reproduced exactly on every executor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import golden_cases

import cvm_runtime as cvm

EXPECTED = {"output": "output.npy", "formal": "output_formal.npy", "expected_math": "expected_math.npy"}


def test_golden_files_present(golden: Path) -> None:
    assert golden_cases("ops")
    assert golden_cases("nets")


@pytest.mark.parametrize("case", golden_cases("ops"), ids=lambda c: c["name"])
def test_operator(golden: Path, ctx: cvm.Context, case: dict[str, Any]) -> None:
    directory = golden / case["dir"]
    model = cvm.load(directory / "symbol", directory / "params", ctx)
    assert (model.input_type_size, model.output_type_size) == (case["in_bytes"], case["out_bytes"])
    x = np.load(directory / "data.npy").astype("<i1" if case["in_bytes"] == 1 else "<i4")
    y = np.frombuffer(model.infer(x.tobytes()), "<i1" if case["out_bytes"] == 1 else "<i4")
    expected = np.load(directory / EXPECTED[case["trust"]])
    assert y.size == expected.size
    assert np.array_equal(y, expected.ravel())


@pytest.mark.parametrize("case", golden_cases("nets"), ids=lambda c: c["name"])
def test_network(golden: Path, ctx: cvm.Context, case: dict[str, Any]) -> None:
    directory = golden / case["name"]
    model = cvm.load(directory / "symbol", directory / "params", ctx)
    for x, expected in zip(np.load(directory / "data.npy"), np.load(directory / "output.npy")):
        assert np.array_equal(model.run(x)[0], expected)
        assert np.array_equal(np.frombuffer(model.infer(x.tobytes()), np.int8), expected.ravel())
