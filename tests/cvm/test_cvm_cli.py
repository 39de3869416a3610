"""python -m cvm_runtime"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from graphs import dump
from test_cvm_loader import EXAMPLE_PARAMS, example


@pytest.fixture()
def model(tmp_path: Path) -> Path:
    (tmp_path / "symbol").write_bytes(dump(example()[1]))
    (tmp_path / "params").write_bytes(EXAMPLE_PARAMS)
    return tmp_path


def command(*arguments: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "cvm_runtime", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT)


def result(*arguments: object) -> str:
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_info(model: Path) -> None:
    text = result("info", model)
    assert "cvm_right_shift_4" in text
    assert "gas 185, storage 100 bytes" in text
    report = json.loads(result("info", model, "--json"))
    assert report["gas"] == 185 == sum(n["gas"] for n in report["nodes"])
    assert report["nodes"][3]["outputs"] == [{"shape": [1, 3], "precision": 20}]


def test_gas(model: Path) -> None:
    assert result("gas", model) == "185\n"
    assert json.loads(result("gas", model, "--json")) == {"gas": 185}


def test_run(model: Path) -> None:
    np.save(model / "x.npy", np.array([[10, 20, 30, 40]], np.int8))
    assert result("run", model, "--input", model / "x.npy") == "[[6 0 0]]\n"
    result("run", model, "--input", model / "x.npy", "--output", model / "y.npy", "--device", "formal")
    assert np.load(model / "y.npy").tolist() == [[6, 0, 0]]
    assert sorted(p.name for p in model.iterdir()) == ["params", "symbol", "x.npy", "y.npy"]
    assert json.loads(result("run", model, "--input", model / "x.npy", "--json")) == {"outputs": [[[6, 0, 0]]]}


def test_verify(model: Path) -> None:
    assert "all executors agree" in result("verify", model)
    report = json.loads(result("verify", model, "--json", "--seed", 5))
    assert report["same"]
    assert len(report["sha256"]) >= 4


def test_bench(model: Path) -> None:
    assert "dense" in result("bench", model, "--repeat", 3)
    report = json.loads(result("bench", model, "--repeat", 3, "--threads", 2, "--json"))
    assert report["threads"] == 2
    assert set(report["operators_ms"]) == {"dense", "cvm_right_shift", "relu"}


def test_several_inputs(model: Path) -> None:
    np.save(model / "x.npy", np.array([[[10, 20, 30, 40]], [[0, 0, 0, 0]]], np.int8))
    assert result("run", model, "--input", model / "x.npy") == "[[[ 6  0  0]]\n\n [[ 2  0 16]]]\n"
    assert json.loads(result("run", model, "--input", model / "x.npy", "--json")) == {"outputs": [[[[6, 0, 0]], [[2, 0, 16]]]]}
    assert "all executors agree" in result("verify", model, "--input", model / "x.npy")
    assert "3 runs" in result("bench", model, "--input", model / "x.npy", "--repeat", 3)


def test_output_that_cannot_be_written(model: Path) -> None:
    line = f"{sys.executable} -m cvm_runtime info {model} "
    done = subprocess.run(line + "| true", shell=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""
    if Path("/dev/full").exists():
        done = subprocess.run(line + "> /dev/full", shell=True, capture_output=True, text=True, cwd=ROOT)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith("error: the output cannot be written")


def test_user_errors_are_one_line(model: Path) -> None:
    (model / "bad.npy").write_bytes(b"nothing")
    np.save(model / "small.npy", np.zeros(3, int))
    for arguments, part in (
        (("info", model / "nowhere"), "no directory"),
        (("gas", model / "nowhere"), "no directory"),
        (("gas", model.parent), "cannot be read"),
        ((), "required: command"),
        (("inf", model), "invalid choice"),
        (("run", model, "--threads", -1), "'-1', expected an integer of at least 0"),
        (("run", model, "--input", model / "bad.npy"), "cannot be read as an .npy file"),
        (("run", model, "--input", model / "small.npy"), "expected (1, 4)"),
        (("run", model, "--output", model / "no" / "y.npy"), "cannot be written"),
        (("info", model, "--device", "gpu"), "gpu"),
        (("bench", model, "--repeat", 0), "--repeat"),
    ):
        done = command(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert part in done.stderr, done.stderr
