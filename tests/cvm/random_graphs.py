"""Seeded random graphs that are valid by construction, for comparing executors.

    python random_graphs.py COUNT [FIRST_SEED] [--networks] [--isas]

compares the executors on COUNT graphs and prints how often each operator and
each attribute of interest occurred.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]

from graphs import GraphWriter  # noqa: E402
from network_graphs import NetworkGraph  # noqa: E402
from random_operators import RandomGraph  # noqa: E402

import cvm_runtime as cvm  # noqa: E402


def compare(seed: int, steps: int | None = None, kind: type[RandomGraph] = RandomGraph) -> RandomGraph:
    """Runs one graph on every executor; they must agree to the bit, and with the writer's precisions."""
    graph = kind(seed)
    symbol, params, x = graph.build(steps or kind.STEPS)
    formal = cvm.load(symbol, params, cvm.formal())
    expected = formal.run(x)
    inferred = {(node.index, k): t.precision for node in formal.nodes for k, t in enumerate(node.outputs)}
    for entry, bits in graph.bits.items():
        assert inferred[entry.node, entry.index] == bits, (seed, formal.nodes[entry.node])
    model = cvm.load(symbol, params, cvm.cpu(threads=1))
    for threads in (1, 2, 3, 8, 8):  # the last run finds a used arena
        if threads != model.threads:
            cvm.set_max_threads(threads)  # however few processors there are
            model.threads = threads
        for k, (found, wanted) in enumerate(zip(model.run(x), expected)):
            assert np.array_equal(found, wanted), (kind.__name__, seed, steps, f"{threads} threads, head {k}")
    cvm.set_max_threads(0)
    assert model.gas == formal.gas
    # The storage that the file declares bounds what a run needs.
    assert formal.arena_bytes <= formal.storage_bytes + 64 * len(inferred), seed
    assert model.arena_bytes <= 2 * model.storage_bytes + 64 * len(inferred) + (1 << 20), seed
    return graph


def instruction_sets() -> list[str]:
    """The values of CVM_ISA that this machine and the library have, as the refusal of any other one lists them."""
    g = GraphWriter()
    symbol, params = g.build([g.op("relu", [g.data((1, 1), 8)], (1, 1))])
    script = "import sys, cvm_runtime as cvm; cvm.load(*map(bytes.fromhex, sys.argv[1:]), cvm.cpu())"
    command = [sys.executable, "-c", script, symbol.hex(), params.hex()]
    environment = {**os.environ, "CVM_ISA": "?", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    refusal = subprocess.run(command, capture_output=True, text=True, env=environment).stderr
    return refusal.split("this machine and build have ")[1].split("\n")[0].split(", ")


def run(kind: type[RandomGraph], count: int, first: int) -> None:
    seen: Counter[str] = Counter()
    nodes = 0
    for seed in range(first, first + count):
        graph = compare(seed, kind=kind)
        seen += graph.seen
        nodes += len(graph.g.nodes)
    for name in sorted(seen):
        print(f"{seen[name]:8,}  {name}")
    isa = os.environ.get("CVM_ISA", "the best instruction set")
    print(f"{count:,} graphs of {nodes:,} nodes alike on formal and on 1, 2, 3 and 8 threads of {isa}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the executors on random graphs.")
    parser.add_argument("count", type=int, help="graphs, for each instruction set")
    parser.add_argument("first", type=int, nargs="?", default=0, help="first seed; every instruction set has its own")
    parser.add_argument("--networks", action="store_true", help="graphs that look like quantized networks")
    parser.add_argument("--isas", action="store_true", help="with every instruction set, each in a process of its own")
    args = parser.parse_args()
    if not args.isas:
        return run(NetworkGraph if args.networks else RandomGraph, args.count, args.first)
    for k, isa in enumerate(instruction_sets()):
        command = [sys.executable, __file__, str(args.count), str(args.first + k * args.count)]
        subprocess.run(command + ["--networks"] * args.networks, check=True, env={**os.environ, "CVM_ISA": isa})


if __name__ == "__main__":
    main()
