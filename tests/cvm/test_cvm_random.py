"""Random graphs: every executor and thread count gives the bits of the reference."""

from __future__ import annotations

import numpy as np
import pytest
from random_graphs import RandomGraph

import cvm_runtime as cvm


@pytest.mark.parametrize("seed", range(150))
def test_executors_agree(seed: int) -> None:
    graph = RandomGraph(seed)
    symbol, params, x = graph.build()
    formal = cvm.load(symbol, params, cvm.formal())
    expected = formal.run(x)
    # The writer's own precision rules are a second opinion on the runtime's.
    for node in formal.nodes:
        entry = next((e for e in graph.live if e.node == node.index), None)
        if entry is not None:
            assert node.outputs[0].precision == graph.bits[entry], node
    for threads in (1, 2, 3):
        model = cvm.load(symbol, params, cvm.cpu(threads=threads))
        for _ in range(2):  # the second run finds a used arena
            for found, wanted in zip(model.run(x), expected):
                assert np.array_equal(found, wanted)
        assert model.gas == formal.gas
