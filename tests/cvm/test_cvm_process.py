"""What a process shares: forks with models loaded, threads and memory that are given back, and their bounds.

Each test is a program of its own, as all of this belongs to a process.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads and pages in /proc")

START = """
import os, signal, sys, threading, time
sys.path.insert(0, "tests/cvm")
import numpy as np
import cvm_runtime as cvm
from examples import same, shared_work

symbol, params, inputs = shared_work()

def threads(): return len(os.listdir("/proc/self/task"))
def settles(count):  # a thread that was joined is listed a moment longer
    for _ in range(1000):
        if threads() == count: return True
        time.sleep(0.01)
    return False
def resident(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""

CHILDREN = """
LIMIT = 2
cvm.set_max_threads(LIMIT)  # real threads, however few processors there are
models = [cvm.load(symbol, params, cvm.cpu(threads=n)) for n in (1, 2, LIMIT)]
expected = models[0].run(inputs[0])

def child(k):
    signal.alarm(60)  # a child that hangs ends by this signal
    if k % 10 == 9: sys.exit(0)  # does nothing but end
    assert threads() == 1
    for model in models: assert same(model.run(inputs[0]), expected)
    assert threads() == LIMIT, threads()
    models[0].threads = LIMIT
    assert same(models[0].run(inputs[0]), expected)
    assert same(cvm.load(symbol, params).run(inputs[0]), expected)
    if k % 2: models.clear()

def fork(count):
    for k in range(count):
        pid = os.fork()
        if pid == 0:
            child(k)
            sys.stderr.flush()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, k
"""

FORK = """
fork(50)
for model in models: model.run(inputs[0])
fork(50)
for model in models: assert same(model.run(inputs[0]), expected)
"""

PROCESSES = """
import multiprocessing
for model in models: model.run(inputs[0])
context = multiprocessing.get_context("fork")
for k in range(100):
    process = context.Process(target=child, args=(k,))
    process.start()
    process.join()
    assert process.exitcode == 0, k

def forward(x): return models[2].run(x)

with context.Pool(2) as pool:
    assert all(same(y, expected) for y in pool.map(forward, [inputs[0]] * 8))
"""

FORK_WHILE_RUNNING = """
stop = threading.Event()

def work(model):
    while not stop.is_set(): assert same(model.run(inputs[0]), expected)

def load():
    while not stop.is_set(): cvm.load(symbol, params).run(inputs[0])

callers = [threading.Thread(target=work, args=(model,)) for model in models] + [threading.Thread(target=load)]
for caller in callers: caller.start()
try: fork(20)
finally:
    stop.set()
for caller in callers: caller.join()
"""


def run(*parts: str, **environment: str) -> None:
    program = START + "".join(parts)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_hundred_children_by_fork() -> None:
    """Of a parent that has run models on threads, and of one that has not."""
    run(CHILDREN, FORK)


def test_a_hundred_children_by_multiprocessing() -> None:
    run(CHILDREN, PROCESSES)


def test_fork_while_other_threads_run() -> None:
    run(CHILDREN, FORK_WHILE_RUNNING)


def test_a_burst_leaves_no_memory_and_no_threads() -> None:
    run("""
from graphs import GraphWriter
g = GraphWriter()
x = g.data((1, 64, 128, 128), 8)  # 4 MiB
y = g.op("negative", [g.op("clip", [x], x.shape, a_min=-9, a_max=9)], x.shape)
model = cvm.load(*g.build([g.op("sum", [y], (1, 64), axis=(2, 3))]))
data = np.ones(x.shape, np.int8)
cvm.set_max_threads(2)

def burst(count):
    gate = threading.Barrier(count)
    def call():
        for _ in range(3):
            gate.wait()
            model.run(data)
    callers = [threading.Thread(target=call) for _ in range(count)]
    for caller in callers: caller.start()
    for caller in callers: caller.join()

idle = threads()
burst(2)
assert settles(idle + 1)
before = resident()
burst(32)
assert settles(idle + 1), threads()
assert resident() < 1.1 * before, (before, resident())
""")


def test_models_share_threads() -> None:
    run("""
cvm.set_max_threads(4)
before = threads()
models = [cvm.load(symbol, params) for _ in range(20)]
assert threads() == before  # none before the first run
assert all(model.threads == 4 for model in models)
for model in models: model.run(inputs[0])
assert settles(before + 3)
cvm.set_max_threads(2)
assert settles(before)
for model in models: model.run(inputs[0])
assert settles(before + 1)
models[0].threads = 8  # at most
models[0].run(inputs[0])
assert settles(before + 1)
""")


def test_bound_on_threads_of_the_environment() -> None:
    program = """
before = threads()
model = cvm.load(symbol, params)
model.run(inputs[0])
assert (cvm.max_threads(), model.threads, threads() - before) == (bound, bound, bound - 1)
"""
    for bound in (1, 3):
        run(f"bound = {bound}\n", program, CVM_MAX_THREADS=str(bound))
    for name in ("CVM_MAX_THREADS", "CVM_IDLE_CONTEXTS"):
        program = f"""
try: cvm.load(symbol, params)
except cvm.CvmRuntimeError as e: assert str(e) == "{name} is 'many', expected an integer of at least 0", e
else: assert False
"""
        run(program, **{name: "many"})


def test_without_bound_one_thread_per_processor() -> None:
    run("assert cvm.load(symbol, params).threads == cvm.max_threads() == min(len(os.sched_getaffinity(0)), 256)")


def test_lack_of_threads_is_no_error() -> None:
    """200 stacks do not fit: fewer threads do, with the same result."""
    run("""
import resource
cvm.set_max_threads(200)
models = [cvm.load(symbol, params, cvm.cpu(threads=n)) for n in (1, 200)]
expected = models[0].run(inputs[0])
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + (400 << 20),) * 2)
for _ in range(3): assert same(models[1].run(inputs[0]), expected)
assert 10 < threads() < 150, threads()
""")


def test_bound_on_idle_contexts() -> None:
    program = """
from graphs import GraphWriter
g = GraphWriter()
x = g.data((1, 1024, 1024), 8)
model = cvm.load(*g.build([g.op("sum", [g.op("negative", [x], x.shape)], (1,), axis=(1, 2))]))
arena, data = model.arena_bytes, np.zeros(x.shape, np.int32)
assert arena >= 1 << 20
before = resident()
model.run(data)
assert cvm.idle_contexts() == count
assert (resident() - before > arena // 2) == (count > 0), (resident(), before)
"""
    run("count = 1\n", program)
    run("count = 0\n", program, CVM_IDLE_CONTEXTS="0")
    run("count = 0\n", "cvm.set_idle_contexts(0)\n", program)


def test_counts_that_are_none() -> None:
    import cvm_runtime as cvm

    for setter in (cvm.set_max_threads, cvm.set_idle_contexts):
        for bad in (-1, 2**32, 1.5, "2", None):
            with pytest.raises(cvm.CvmLogicError, match="expected an integer from 0"):
                setter(bad)  # type: ignore[arg-type]
