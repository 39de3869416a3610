"""One model, many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from random_graphs import RandomGraph

import cvm_runtime as cvm


def test_one_handle_from_several_threads() -> None:
    symbol, params, x = RandomGraph(7).build()
    rng = np.random.default_rng(0)
    inputs = [rng.permutation(x.ravel()).reshape(x.shape) for _ in range(24)]
    reference = cvm.load(symbol, params, cvm.formal())
    expected = [reference.run(v) for v in inputs]
    model = cvm.load(symbol, params, cvm.cpu(threads=2))
    with ThreadPoolExecutor(6) as executor:
        for _ in range(3):
            for found, wanted in zip(executor.map(model.run, inputs), expected):
                assert all(np.array_equal(a, b) for a, b in zip(found, wanted))


def test_threads_change_while_running() -> None:
    symbol, params, x = RandomGraph(8).build()
    model = cvm.load(symbol, params, cvm.cpu(threads=1))
    expected = model.run(x)

    def work(k: int) -> bool:
        model.threads = k % 3 + 1
        return all(np.array_equal(a, b) for a, b in zip(model.run(x), expected))

    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(work, range(30)))
    model.threads = 2
    assert model.threads == 2


def test_loads_in_parallel() -> None:
    def work(seed: int) -> bool:
        symbol, params, x = RandomGraph(seed).build(10)
        a, b = cvm.load(symbol, params, cvm.formal()), cvm.load(symbol, params)
        return all(np.array_equal(u, v) for u, v in zip(a.run(x), b.run(x)))

    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(work, range(12)))
