"""Graphs of one operator, with the random shapes to try them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from graphs import Entry, GraphWriter

import cvm_runtime as cvm

ROUNDS = 8


class Case:
    """A graph of one operator: the first input is `data`, the others are parameters."""

    def __init__(self, name: str, *inputs: tuple[np.ndarray, int], **attrs: Any) -> None:
        self.name, self.inputs, self.attrs = name, inputs, attrs

    def run(self, ctx: cvm.Context, *shapes: tuple[int, ...]) -> list[np.ndarray]:
        g = GraphWriter()
        x, p = self.inputs[0]
        entries: list[Entry] = [g.data(x.shape, p)]
        entries += [g.param(f"p{k}", v, p) for k, (v, p) in enumerate(self.inputs[1:])]
        out = g.op(self.name, entries, *shapes, **self.attrs)
        heads = out if isinstance(out, list) else [out]
        model = cvm.load(*g.build(heads), ctx)
        self.precisions = [t.precision for t in model.outputs]
        return model.run(x)

    def check(self, ctx: cvm.Context, expected: np.ndarray, precision: int | None = None) -> None:
        expected = np.asarray(expected)
        (y,) = self.run(ctx, expected.shape)
        assert np.array_equal(y, expected), (self.name, self.attrs)
        if precision is not None:
            assert self.precisions == [precision]


def rngs(name: str) -> list[np.random.Generator]:
    return [np.random.default_rng([k, *name.encode()]) for k in range(ROUNDS)]


def shape_of(rng: np.random.Generator, rank: int | None = None, most: int = 6) -> tuple[int, ...]:
    rank = rank or int(rng.integers(1, 6))
    return tuple(int(d) for d in rng.integers(1, most + 1, rank))


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))
