"""python -m cvm_runtime"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from examples import EXAMPLE_PARAMS, example
from graphs import GraphWriter, dump

from cvm_runtime.cli import main


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


# ---- files of strangers -----------------------------------------------------

# Moves the cursor, sets colours and titles, turns the reading direction; not UTF-8; C1, DEL, a letter, an emoji; long.
STRANGE = b"\x1b[31m\x1b]0;title\x07\t\x7f\xc2\x9b\xe2\x80\xae\xff\xc3\xa9\xf0\x9f\x98\x80" + b"x" * 5000


def strange(directory: Path, name: bytes = STRANGE) -> Path:
    """A model that the runtime accepts, with a name that nobody should print, and a postprocess like it."""
    g = GraphWriter()
    y = g.op("dense", [g.data((1, 4), 8), g.param("w", np.ones((3, 4), np.int8), 8)], (1, 3), units=3, use_bias=False)
    symbol, params = g.build([g.op("relu", [y], (1, 3))], postprocess="later")
    (directory / "symbol").write_bytes(symbol.replace(b"dense_2", name).replace(b"later", name))
    (directory / "params").write_bytes(params)
    return directory


def harmless(data: bytes, most: int) -> str:
    """Only characters that are printed and lines of a bounded length."""
    text = data.decode()
    assert not [c for c in text if c != "\n" and unicodedata.category(c)[0] == "C"]
    assert max(map(len, text.split("\n"))) <= most
    return text


@pytest.mark.parametrize("line", ["info", "bench --repeat 1 --layers", "bench --repeat 1", "run", "verify"])
def test_names_of_strangers_are_escaped(tmp_path: Path, line: str) -> None:
    shows_names = line == "info" or "--layers" in line
    command = [sys.executable, "-m", "cvm_runtime", *line.split(), str(strange(tmp_path))]
    done = subprocess.run(command, capture_output=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, b"")
    text = harmless(done.stdout, 200)
    if shows_names:
        assert "\\x1b[31m\\x1b]0;title\\x07\\t\\x7f\\x9b\\u202e\ufffd\u00e9\U0001f600xxx" in text
    done = subprocess.run([*command, "--json"], capture_output=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, b"")
    values = str(json.loads(harmless(done.stdout, 50_000)))
    assert (str([STRANGE.decode(errors="replace")])[2:-2] in values) == shows_names


def test_errors_of_strangers_are_escaped(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    symbol = strange(bad) / "symbol"
    symbol.write_bytes(symbol.read_bytes().replace(b'"func_name": "dense"', b'"func_name": "' + STRANGE + b'"'))
    directory = tmp_path / "\x1b[31m\u202e"
    directory.mkdir()
    np.save(tmp_path / "x.npy", np.zeros(1, [("\x1b[31m" + "x" * 5000, "<i4")]))
    for arguments in (
        ("info", bad),
        ("gas", directory),
        ("info", "\x1b[31m"),
        ("run", strange(tmp_path), "--input", tmp_path / "x.npy"),
    ):
        done = subprocess.run([sys.executable, "-m", "cvm_runtime", *map(str, arguments)], capture_output=True, cwd=ROOT)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
        assert harmless(done.stderr, 1100).startswith("error: ")


def npy(header: str) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


NOT_NPY = {
    "bad zip": b"PK\x03\x04" + bytes(50),
    "empty": b"",
    "no header": npy(""),
    "nested": npy("(" * 9000),
    "code": npy("__import__('os')"),
    "no shape": npy("{'descr': '<i4', 'fortran_order': False}"),
    "huge": npy("{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000000,)}"),
    "overflow": npy(f"{{'descr': '<i4', 'fortran_order': False, 'shape': ({10**30},)}}"),
    "negative": npy("{'descr': '<i4', 'fortran_order': False, 'shape': (-4,)}"),
    "type": npy("{'descr': ('<i4', '<i4', 3), 'fortran_order': False, 'shape': (4,)}"),
    "escapes": npy("{'descr': '\x1b[31m', 'fortran_order': False, 'shape': (4,)}"),
    "short": npy("{'descr': '<i4', 'fortran_order': False, 'shape': (1, 4)}"),
    "object": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 4)}"),
}


@pytest.mark.parametrize("name", NOT_NPY)
def test_inputs_of_strangers(model: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "x.npy").write_bytes(NOT_NPY[name])
    assert main(["run", str(model), "--input", str(model / "x.npy")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert harmless(err.encode(), 1100).startswith("error: ")


def test_inputs_that_are_no_integers(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for x in (np.full((1, 4), np.inf, np.float16), np.zeros((1, 4), complex), np.zeros((1, 4), "U1"), np.zeros((1, 4), "M8[s]")):
        np.save(model / "x.npy", x)
        assert main(["run", str(model), "--input", str(model / "x.npy")]) == 2
        assert "expected integers" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["info {} >&-", "info {} --json >&-", "run {} --output {}/y.npy >&-", "--help >&-"])
def test_output_that_is_closed(model: Path, line: str) -> None:
    line = f"{sys.executable} -m cvm_runtime " + line.replace("{}", str(model))
    done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: the output cannot be written")
    assert not (model / "y.npy").exists()


def test_errors_that_are_closed(tmp_path: Path) -> None:
    line = f"{sys.executable} -m cvm_runtime info {tmp_path} 2>&-"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_letters_that_the_terminal_lacks(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cvm_runtime", "info", str(strange(tmp_path, "n\u00e9".encode()))],
        capture_output=True, cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"n\\xe9" in done.stdout


def test_more_runs_than_memory(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(model), "--repeat", str(10**15)]) == 2
    assert capsys.readouterr().err == "error: out of memory\n"
