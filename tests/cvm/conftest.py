from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import cvm_runtime as cvm

ROOT = Path(__file__).resolve().parents[2]

cvm.set_max_threads(3)  # also where there are fewer processors
EXECUTORS = {
    "formal": cvm.formal(),
    "cpu1": cvm.cpu(threads=1),
    "cpu2": cvm.cpu(threads=2),
    "cpu3": cvm.cpu(threads=3),
}


def golden_dir() -> Path | None:
    for place in (os.environ.get("MRT_GOLDEN"), ROOT.parent / "shared" / "golden"):
        if place and (Path(place) / "index.json").is_file():
            return Path(place)
    return None


def golden_cases(kind: str) -> list[dict[str, Any]]:
    directory = golden_dir()
    return json.loads((directory / "index.json").read_text())[kind] if directory else []


@pytest.fixture(scope="session")
def golden() -> Path:
    directory = golden_dir()
    if directory is None:
        pytest.skip("no golden files: neither MRT_GOLDEN nor ../shared/golden holds an index.json")
    return directory


@pytest.fixture(params=list(EXECUTORS))
def ctx(request: pytest.FixtureRequest) -> cvm.Context:
    return EXECUTORS[request.param]
