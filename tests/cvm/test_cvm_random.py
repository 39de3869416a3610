"""Random graphs: every executor and thread count gives the bits of the reference."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from graphs import OPERATORS
from network_graphs import NetworkGraph
from numpy_ops import evaluate
from random_graphs import compare
from random_operators import RandomGraph

import cvm_runtime as cvm

SEEDS = 400


def check_against_numpy(seed: int) -> None:
    """Every tensor of a graph, not only its outputs."""
    graph = RandomGraph(seed)
    x = graph.build(20)[2]
    entries = list(graph.bits)
    symbol, params = graph.g.build(entries)
    expected = evaluate(graph.g, x)
    for entry, found in zip(entries, cvm.load(symbol, params, cvm.formal()).run(x)):
        wanted = expected[entry.node][entry.index]
        assert np.array_equal(found, wanted), (seed, graph.g.nodes[entry.node], graph.g.op_attrs[entry.node])


def test_numpy_agrees() -> None:
    for seed in range(5000, 5000 + SEEDS):
        check_against_numpy(seed)


def test_executors_agree() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        seen += compare(seed).seen
    # Every operator occurs, and what makes one hard: see the table that random_graphs.py prints.
    assert {name for name in seen if ":" not in name} - {"large graphs"} == set(OPERATORS)
    assert all(seen[tag] > 5 for tag in ("large graphs", "strided_slice: negative step", "where: rank-1 condition"))


def test_networks_agree() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        seen += compare(seed, kind=NetworkGraph).seen
    tags = ["conv2d: depthwise", "conv2d: grouped", "concatenate: padding", "concatenate: paddings of several values"]
    tags += ["concatenate: the same twice", "concatenate: different widths", "max_pool2d: ceil rounds up", "sum: global"]
    assert all(seen[tag] > 5 for tag in [*tags, "flatten: spatial", "head: the input", "cvm_lut", "large graphs"])


@pytest.mark.slow
def test_networks_agree_long() -> None:
    """Every instruction set of this machine."""
    program = str(Path(__file__).resolve().parent / "random_graphs.py")
    subprocess.run([sys.executable, program, "5000", "1000", "--networks", "--isas"], check=True)


@pytest.mark.slow
def test_executors_agree_long() -> None:
    for seed in range(1000, 21_000):
        compare(seed)


@pytest.mark.slow
def test_numpy_agrees_long() -> None:
    for seed in range(30_000, 40_000):
        check_against_numpy(seed)
