"""Random graphs: every executor and thread count gives the bits of the reference."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from graphs import OPERATORS, GraphWriter, random_values
from network_graphs import NetworkGraph
from numpy_ops import evaluate
from random_graphs import RandomGraph, compare

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


EXTREMES: dict[str, tuple[tuple[int, ...], str, tuple[int, ...], tuple[int, ...], dict[str, object]]] = {
    # input, operator, kernel, output, attributes
    "padding 4096": ((1, 2, 2, 3), "conv2d", (3, 3), (2, 3), {"padding": (4096, 4096), "strides": (4096, 4096)}),
    "dilation 4096": ((1, 2, 2, 3), "conv2d", (3, 3), (2, 3), {"padding": (4096, 4096), "dilation": (4096, 4096)}),
    "stride 4096": ((2, 3, 9, 9), "conv2d", (2, 2), (1, 1), {"strides": (4096, 4096)}),
    "4096 taps": ((1, 1, 66, 65), "conv2d", (64, 64), (3, 2), {}),
    "4160 taps": ((1, 1, 66, 65), "conv2d", (65, 64), (2, 2), {}),
    "dense of 4096 pixels": ((2, 2, 64, 64), "dense", (), (), {}),
    "dense of 4160 pixels": ((1, 2, 65, 64), "dense", (), (), {}),
    "pool of 4096 pixels": ((1, 3, 64, 64), "max_pool2d", (64, 64), (1, 1), {"strides": (1, 1)}),
    "pool of 4160 pixels": ((1, 3, 65, 65), "max_pool2d", (65, 64), (1, 2), {"strides": (4096, 1)}),
    "sum of 4096 pixels": ((1, 3, 64, 64), "sum", (), (1, 1), {"axis": (2, 3), "keepdims": True}),
    "sum of 4160 pixels": ((1, 3, 65, 64), "sum", (), (1, 1), {"axis": (2, 3), "keepdims": True}),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_windows(name: str) -> None:
    """Just inside and outside of what the planner fuses, between two chains."""
    shape, op, kernel, out, attrs = EXTREMES[name]
    rng = np.random.default_rng(7)
    g = GraphWriter()
    x = g.data(shape, 8)
    y = g.op("relu", [x], shape)
    n, c = shape[:2]
    if op == "conv2d":
        w = g.param("w", random_values(rng, (c, c, *kernel), 8), 8)
        y = g.op(op, [y, w], (n, c, *out), channels=c, kernel_size=kernel, use_bias=False, **attrs)
    elif op == "dense":
        y = g.op("flatten", [y], (n, c * shape[2] * shape[3]))
        y = g.op(op, [y, g.param("w", random_values(rng, (5, y.shape[1]), 8), 8)], (n, 5), units=5, use_bias=False)
    else:
        y = g.op(op, [y], (n, c, *out), **({"pool_size": kernel} if kernel else {}), **attrs)
    y = g.op("cvm_right_shift", [y], y.shape, precision=8, shift_bit=5)
    symbol, params = g.build([g.op("negative", [y], y.shape)])
    values = random_values(rng, shape, 8)
    expected = cvm.load(symbol, params, cvm.formal()).run(values)[0]
    for threads in (1, 3):
        assert np.array_equal(cvm.load(symbol, params, cvm.cpu(threads=threads)).run(values)[0], expected)


def network_of_a_batch(images: int) -> tuple[bytes, bytes]:
    """Large tensors and small weights, then a dense layer of which the opposite is true."""
    rng = np.random.default_rng(3)
    g = GraphWriter()
    y = g.data((images, 8, 32, 32), 8)
    for k in range(4):
        w = g.param(f"w{k}", random_values(rng, (8, 8, 3, 3), 8), 8)
        y = g.op("conv2d", [y, w], y.shape, channels=8, kernel_size=(3, 3), padding=(1, 1), use_bias=False)
        y = g.op("cvm_right_shift", [y], y.shape, precision=8, shift_bit=10)
    y = g.op("max_pool2d", [y], (images, 8, 4, 4), pool_size=(8, 8), strides=(8, 8))
    y = g.op("flatten", [y], (images, 128))
    y = g.op("dense", [y, g.param("d", random_values(rng, (500, 128), 8), 8)], (images, 500), units=500, use_bias=False)
    return g.build([g.op("cvm_right_shift", [y], y.shape, precision=8, shift_bit=8)])


def test_a_batch_runs_image_by_image() -> None:
    """It gives what its images give one by one, and of the tensors between layers there is but one image."""
    images = 6
    x = random_values(np.random.default_rng(4), (images, 8, 32, 32), 8)
    for threads in (1, 3):
        one, all_ = (cvm.load(*network_of_a_batch(n), cvm.cpu(threads=threads)) for n in (1, images))
        found = all_.run(x)[0]
        assert np.array_equal(found, np.concatenate([one.run(x[k : k + 1])[0] for k in range(images)]))
        assert np.array_equal(found, cvm.load(*network_of_a_batch(images), cvm.formal()).run(x)[0])
        ends = 4 * x[0].size + 8 * 500  # bytes of an image's input and output
        assert all_.arena_bytes - one.arena_bytes < (images - 1) * ends + 8192


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
