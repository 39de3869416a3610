"""One model, many threads; ThreadSanitizer watches these tests too."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator

import pytest
from examples import same, shared_work
from random_graphs import compare
from random_operators import RandomGraph

import cvm_runtime as cvm


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    """However few processors there are."""
    cvm.set_max_threads(4)
    yield
    cvm.set_max_threads(0)


def test_one_handle_from_several_threads() -> None:
    symbol, params, inputs = shared_work()
    reference = cvm.load(symbol, params, cvm.formal())
    expected = [reference.run(x) for x in inputs]
    model = cvm.load(symbol, params, cvm.cpu(threads=2))
    with ThreadPoolExecutor(6) as executor:
        for _ in range(3):
            assert all(map(same, executor.map(model.run, inputs), expected))


def test_models_that_share_threads() -> None:
    """Many callers of many models get the right results, and each one finishes, whatever the number of threads becomes."""
    symbol, params, inputs = shared_work()
    models = [cvm.load(symbol, params, ctx) for ctx in (cvm.cpu(), cvm.cpu(threads=2), cvm.cpu(threads=4), cvm.formal())]
    expected = [models[-1].run(x) for x in inputs]
    stop = threading.Event()

    def change() -> int:
        rounds = 0
        while not stop.is_set():
            cvm.set_max_threads(rounds % 5)
            cvm.set_idle_contexts(rounds % 3)
            rounds += 1
            time.sleep(0.001)
        return rounds

    def work(k: int) -> bool:
        return all(same(models[(i + k) % len(models)].run(inputs[i]), expected[i]) for i in range(len(inputs)))

    with ThreadPoolExecutor(13) as executor:
        changes = executor.submit(change)
        try:
            assert all(executor.map(work, range(24)))
        finally:
            stop.set()
        assert changes.result() > 1
    cvm.set_idle_contexts(1)


def test_everything_at_once() -> None:
    """Runs while the number of threads changes and all is queried. race.cc does it without Python's lock."""
    symbol, params, inputs = shared_work()
    model = cvm.load(symbol, params)
    expected = [model.run(x) for x in inputs]
    facts = (model.gas, model.nodes, model.outputs)
    stop = threading.Event()

    def change() -> int:
        rounds = 0
        while not stop.is_set():
            model.threads = rounds % 4 + 1
            assert model.threads in range(1, 5)
            rounds += 1
            time.sleep(0.001)
        return rounds

    def query() -> bool:
        good = True
        while not stop.is_set():
            again = cvm.load(symbol, params)
            good = good and facts == (again.gas, model.nodes, model.outputs)
        return good

    def work(k: int) -> bool:
        for i in range(len(inputs)):
            x = (i + k) % len(inputs)
            if not same(model.run(inputs[x]), expected[x]):
                return False
        return True

    with ThreadPoolExecutor(8) as executor:
        background = [executor.submit(change), executor.submit(change), executor.submit(query)]
        try:
            assert all(executor.map(work, range(3)))
        finally:
            stop.set()
        assert background[0].result() > 1
        assert background[2].result()
    model.threads = 2
    assert model.threads == 2
    assert same(model.run(inputs[0]), expected[0])


def test_loads_in_parallel() -> None:
    def work(seed: int) -> bool:
        symbol, params, x = RandomGraph(seed).build(10)
        a, b = cvm.load(symbol, params, cvm.formal()), cvm.load(symbol, params)
        return same(a.run(x), b.run(x))

    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(work, range(12)))


def test_random_graphs_in_parallel() -> None:
    with ThreadPoolExecutor(3) as executor:
        assert len(list(executor.map(lambda seed: compare(seed, 12), range(40)))) == 40
