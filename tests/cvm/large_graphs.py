"""Graphs of very many nodes that are hard to plan; run as a program.

    python large_graphs.py NAME NODES

prints the bytes of the files, the seconds of CPU time that loading takes on formal and on cpu, and the bytes by
which the latter raised the peak memory of the process.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]

from graphs import Entry, GraphWriter  # noqa: E402
from memory import peak_memory  # noqa: E402

import cvm_runtime as cvm  # noqa: E402

Builder = Callable[[int], "tuple[bytes, bytes]"]
BUILDERS: dict[str, Builder] = {}


def builder(build: Builder) -> Builder:
    BUILDERS[build.__name__] = build
    return build


def chain(g: GraphWriter, last: Entry) -> tuple[bytes, bytes]:
    """A graph whose nodes need the two tensors before them at most, in three slots."""
    variables = sum(node["op"] == "null" for node in g.nodes)
    return g.build([last], [*range(variables), *(variables + k % 3 for k in range(len(g.nodes) - variables))])


def limits(g: GraphWriter, x: Entry, k: int) -> Entry:
    return g.op("clip", [x], x.shape, a_min=-(k % 30_000) - 1, a_max=k % 30_000 + 1)


def narrower(g: GraphWriter, x: Entry, k: int, start: int = 30_000) -> Entry:
    return g.op("clip", [x], x.shape, a_min=k - start, a_max=start - k)


def pool(g: GraphWriter, x: Entry) -> Entry:
    return g.op("max_pool2d", [x], x.shape, pool_size=(3, 3), strides=(1, 1), padding=(1, 1))


@builder
def pools_that_widen_and_narrow(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    y = g.data((1, 1, 4, 4), 8)
    for _ in range(n // 3):
        y = pool(g, g.op("cvm_left_shift", [y], y.shape, precision=28, shift_bit=20))
        y = g.op("cvm_clip", [y], y.shape, precision=8)
    return chain(g, y)


@builder
def pools_after_pools(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    y = g.data((1, 1, 4, 4), 16)
    for _ in range(n):
        y = pool(g, y)
    for _ in range(60):
        y = g.op("cvm_clip", [y], y.shape, precision=8)
    return chain(g, y)


@builder
def pools_with_many_users(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    y = pool(g, g.data((1, 2, 3, 4), 16))
    return g.build([limits(g, y, k) for k in range(n)])


@builder
def pools_of_a_whole_plane(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    y = g.data((1, 1, 64, 64), 8)
    pools = [g.op("max_pool2d", [y], (1, 1, 1, 1), pool_size=(64, 64), strides=(1, 1)) for _ in range(n)]
    return g.build(pools)


@builder
def nested_concatenations(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    x = y = g.data((1, 1, 1, 1), 8)
    for k in range(n):
        y = g.op("concatenate", [y, x], (1, k + 2, 1, 1), axis=1)
    return chain(g, y)


@builder
def nested_concatenations_and_chains(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    x = y = g.data((1, 1, 1, 1), 16)
    for k in range(n // 2):
        y = narrower(g, g.op("concatenate", [y, x], (1, k + 2, 1, 1), axis=1), k)
    return chain(g, y)


@builder
def the_same_joined_often_before_a_chain(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    x = g.data((1, 1, 1, 1), 16)
    y = g.op("concatenate", [x] * n, (1, n, 1, 1), axis=1)
    for k in range(200):
        y = narrower(g, y, k)
    return chain(g, y)


@builder
def kernels_between(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    y = g.data((1, 2, 3, 4), 8)
    for _ in range(n // 2):
        y = g.op("transpose", [g.op("negative", [y], y.shape)], y.shape, axes=(0, 1, 2, 3))
    return chain(g, y)


@builder
def one_value_for_all(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    x = g.data((1, 2, 3, 4), 16)
    return g.build([limits(g, x, k) for k in range(n)])


@builder
def sums_of_many(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    x = g.data((1, 2, 3, 4), 16)
    terms = [limits(g, x, k) for k in range(n // 3)]
    y = terms[0]
    for term in terms[1:]:
        y = g.op("cvm_clip", [g.op("elemwise_add", [y, term], x.shape)], x.shape, precision=17)
    return g.build([y])


@builder
def one_head_often(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    x = g.data((1, 2, 3, 4), 16)
    return g.build([g.op("negative", [x], x.shape)] * n)


@builder
def paddings_around_paddings(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    y = g.data((1, 1, 1, 1), 8)
    rows = [g.param(f"p{v}", np.full((1, 1, 1, 1), v), 8) for v in (1, 2)]
    for k in range(n):
        y = g.op("concatenate", [y, rows[k % 2]], (1, 1, k + 2, 1), axis=2)
    return chain(g, y)


@builder
def additions_after_nested_limits(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    x = g.data((1, 1, 1, 1), 24)
    one = g.param("one", np.ones(1), 2)
    y = g.op("broadcast_add", [x, one], x.shape)
    for k in range(n // 2):
        y = narrower(g, y, k, 2**22)
    for k in range(n // 2):
        y = g.op("broadcast_add", [y, one], x.shape)
        if k % 8 == 7:
            y = g.op("cvm_clip", [y], x.shape, precision=17)
    return chain(g, y)


@builder
def one_vector_for_all(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    y = g.data((1, 2**17), 8)
    factors = g.param("factors", np.arange(2**17) % 100 - 50, 8)
    for _ in range(n // 2):
        y = g.op("broadcast_mul", [y, factors], y.shape)
        y = g.op("cvm_right_shift", [y], y.shape, precision=8, shift_bit=6)
    return chain(g, y)


@builder
def one_weight_for_all(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    y = g.data((1, 64, 3, 3), 8)
    w = g.param("w", np.ones((64, 64, 3, 3)), 2)
    g.params["w"] = g.params["w"].astype(np.int32)
    for _ in range(n // 2):
        y = g.op("conv2d", [y, w], y.shape, channels=64, kernel_size=(3, 3), padding=(1, 1), use_bias=False)
        y = g.op("cvm_right_shift", [y], y.shape, precision=8, shift_bit=6)
    return chain(g, y)


@builder
def one_table_for_all(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    y = g.data((1, 4), 16)
    table = g.param("table", np.arange(2**18) % 200, 9)
    for _ in range(n):
        y = g.op("cvm_lut", [y, table], y.shape, in_dim=2**18)
    return chain(g, y)


@builder
def one_padding_for_all(n: int) -> tuple[bytes, bytes]:
    g = GraphWriter()
    x, rows = g.data((1, 1, 1, 4), 8), g.param("rows", np.zeros((1, 1, 2**18, 4)), 8)
    for _ in range(n):
        y = g.op("concatenate", [x, rows], (1, 1, 2**18 + 1, 4), axis=2)
    return chain(g, y)


def main(name: str, nodes: int) -> None:
    files = BUILDERS[name](nodes)
    seconds = []
    for ctx in (cvm.formal(), cvm.cpu(threads=1)):
        before = peak_memory()
        start = time.process_time()
        cvm.load(*files, ctx)
        seconds.append(time.process_time() - start)
    grown = peak_memory() - before
    print(sum(map(len, files)), *(f"{s:.3f}" for s in seconds), grown)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
