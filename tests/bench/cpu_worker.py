#!/usr/bin/env python3
"""One engine with one network in a process of its own, for cpu.py: runs in whichever Python has the engine.

    cpu_worker.py ours FOLDER CLOCK THREADS                  # FOLDER: symbol, params, data.npy
    cpu_worker.py ort8|ov8 MODEL.onnx CLOCK THREADS BATCH PEERS.py

CLOCK is the function of `time` that times the runs: perf_counter, or process_time, which does not count what others take.

Answers in lines of JSON. First, of itself, {"load_s", "first_ms", "peak_mb"}: the time of loading the model, of the first run,
and the process's peak resident memory after it, Python included. Then, to each line of stdin with a number of seconds, a list of
milliseconds: one untimed run, then timed ones until the seconds are over, two at least.
"""
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
IMAGE = (3, 224, 224)


def noise(count):
    """Seeded images, float32 (count, 3, 224, 224); fewer of them are the first ones."""
    return np.random.default_rng(0).standard_normal((count,) + IMAGE).astype(np.float32)


def ours(folder, threads):
    """A function that loads the model and returns one that runs it; imports and input are done with."""
    sys.path.insert(0, str(ROOT))
    import cvm_runtime as cvm

    x = np.load(os.path.join(folder, "data.npy"))
    cvm.set_max_threads(max(threads, cvm.max_threads()))

    def load():
        model = cvm.load(os.path.join(folder, "symbol"), os.path.join(folder, "params"), cvm.cpu(threads=threads))
        return lambda: model.run(x)
    return load


def peer(engine, model, threads, batch, script):
    """The same for a peer, as the script `peers.py` runs it."""
    spec = importlib.util.spec_from_file_location("peers", script)
    peers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peers)
    __import__("onnxruntime" if engine.startswith("ort") else "openvino")
    x = noise(batch)
    return lambda: peers.runner(engine, model, threads, x)


def peak_mb():
    """Peak resident memory in MB of 10^6 bytes. Not ru_maxrss, which begins with the memory of the process that started this."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024 / 1e6


def timed(function, clock=time.perf_counter):
    """(result, seconds)"""
    start = clock()
    result = function()
    return result, clock() - start


def main(engine, model, clock, threads, batch=None, script=None):
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints must not end among the answers

    def answer(value):
        print(json.dumps(value), file=answers, flush=True)

    load = ours(model, int(threads)) if engine == "ours" else peer(engine, model, int(threads), int(batch), script)
    run, load_s = timed(load)
    first_s = timed(run)[1]
    answer({"load_s": load_s, "first_ms": first_s * 1e3, "peak_mb": peak_mb()})
    clock = getattr(time, clock)
    for line in sys.stdin:
        run()
        times, end = [], time.perf_counter() + float(line)
        while len(times) < 2 or time.perf_counter() < end:
            times.append(timed(run, clock)[1] * 1e3)
        answer(times)


if __name__ == "__main__":
    main(*sys.argv[1:])
