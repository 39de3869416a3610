"""What loading a file takes of memory, and planning of time, in proportion to its size."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import large_graphs
import numpy as np
import pytest
from conftest import ROOT
from examples import ACCEPTED, LOGIC, RUNTIME, example
from graphs import GraphWriter, dump

HERE = Path(__file__).resolve().parent

MEMORY = """
import resource, sys
import cvm_runtime as cvm
sys.path.insert(0, "tests/cvm")
from memory import peak_memory
symbol, params = (open(name, "rb").read() for name in sys.argv[1:3])
more = int(sys.argv[3])
try: cvm.load(b"", b"")
except cvm.CvmError: pass
if more:
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)
before, status = peak_memory(), 0
try:
    model = cvm.load(symbol, params, cvm.cpu(threads=1))
except cvm.CvmError as e: status = e.status
print(status, peak_memory() - before)
"""


def load_measured(directory: Path, symbol: bytes, params: bytes, more: int = 0) -> list[int]:
    """Loads in a process of its own, which may get so many bytes: status, bytes that raised its peak."""
    (directory / "symbol").write_bytes(symbol)
    (directory / "params").write_bytes(params)
    files = [str(directory / name) for name in ("symbol", "params")]
    command = [sys.executable, "-c", MEMORY, *files, str(more)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(map(int, done.stdout.split()))


def huge_activations() -> tuple[bytes, bytes]:
    """The whole storage limit, 2^32 bytes, of activations in a file of some hundred bytes."""
    g = GraphWriter()
    x = g.data((2**15, 2**14), 8)
    return g.build([g.op("negative", [x], x.shape)])


def test_activations_take_no_memory_until_they_are_written(tmp_path: Path) -> None:
    status, grown = load_measured(tmp_path, *huge_activations())
    assert status == ACCEPTED
    assert grown < 16 << 20


def test_lack_of_memory_is_a_runtime_error(tmp_path: Path) -> None:
    assert load_measured(tmp_path, *huge_activations(), more=2 << 30)[0] == RUNTIME


def test_parameters_take_memory_only_for_bytes_that_are_there(tmp_path: Path) -> None:
    g = GraphWriter()
    x, w = g.data((1,), 8), g.param("w", np.zeros(1, np.int8), 8)
    y = g.op("broadcast_add", [x, w], (1,))
    symbol, params = g.build([y])
    large = symbol.replace(b"[1], [1], [1]", b"[1], [16777216], [16777216]")
    announced = params[:-17] + struct.pack("<qq", 2**24, 2**24) + params[-1:]
    assert large != symbol
    for p, expected in ((params, LOGIC), (announced, RUNTIME)):
        status, grown = load_measured(tmp_path, large, p)
        assert status == expected
        assert grown < 16 << 20


TIMES = 64  # bytes of memory for a byte of a file

DENSE_TEXT: dict[str, tuple[bytes, bytes, bytes]] = {
    "nodes": (b'{"nodes": [', b'{"op":"null","name":"","inputs":[]},', b"{}]}"),
    "strings": (b'{"nodes":[],"attrs":{"op_attrs":["list_str",[', b'"",', b'""]]}}'),
    "shapes": (b'{"nodes":[],"attrs":{"shape":["list_shape",[', b"[],", b"[]]]}}"),
    "numbers": (b'{"nodes":[],"arg_nodes":[', b"1,", b"1]}"),
    "entries": (b'{"nodes":[{"inputs":[', b"[0,0],", b"[0,0]]}]}"),
    "brackets": (b'{"heads":', b"[", b""),
}


@pytest.mark.parametrize("name", [*DENSE_TEXT, "params"])
def test_parsing_takes_memory_in_proportion_to_the_file(tmp_path: Path, name: str) -> None:
    size = 2_000_000
    if name == "params":  # nameless tensors
        header = struct.pack("<QQQ", 0xF7E58D4F05049CB7, 0, size // 8)
        status, grown = load_measured(tmp_path, dump(example()[1]), header + bytes(size))
    else:
        head, piece, tail = DENSE_TEXT[name]
        status, grown = load_measured(tmp_path, head + piece * (size // len(piece)) + tail, b"x")
    assert status in (LOGIC, RUNTIME)
    assert grown < TIMES * size


def test_a_node_of_many_inputs_takes_memory_in_proportion(tmp_path: Path) -> None:
    """The densest model there is: six extents for every few bytes of text."""
    count = 100_000
    g = GraphWriter()
    x = g.data((1,) * 6, 8)
    symbol, params = g.build([g.op("concatenate", [x], (count, 1, 1, 1, 1, 1), axis=0)])
    inputs = b'"inputs": [' + b",".join([b"[0,0]"] * count) + b"]"
    symbol = symbol.replace(b'"inputs": [[0, 0, 0]]', inputs)
    status, grown = load_measured(tmp_path, symbol, params)
    assert status == ACCEPTED
    assert grown < TIMES * len(symbol)


NODES = 10_000


@pytest.mark.parametrize("name", large_graphs.BUILDERS)
def test_planning_takes_time_and_memory_in_proportion(name: str) -> None:
    """CPU time, which other processes do not count in; a planner of quadratic time needs tens of seconds."""
    command = [sys.executable, str(HERE / "large_graphs.py"), name, str(NODES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    size, formal, cpu, grown = map(float, done.stdout.split())
    assert cpu < 10 * formal + 1
    assert grown < TIMES * size
