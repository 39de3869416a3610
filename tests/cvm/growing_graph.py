"""A random graph that grows by one node after another, with the precision of every tensor."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from graphs import Entry, GraphWriter, random_values

SMALL, LARGE = 20_000, 200_000  # elements of a tensor


class GrowingGraph:
    """Grows from `data` by whatever `step` adds; `bits` tracks every precision, `seen` what occurred."""

    STEPS = 25  # nodes that are not parameters

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.g = GraphWriter()
        self.bits: dict[Entry, int] = {}
        self.seen: Counter[str] = Counter()
        shape = (self.pick(1, 2), self.pick(1, 8), self.pick(1, 14), self.pick(1, 14))
        if self.chance(0.3):
            shape = tuple(self.pick(1, 9) for _ in range(self.pick(1, 6)))
        self.most = LARGE if self.chance(0.02) else SMALL
        if self.most == LARGE:  # enough work to be shared among threads
            shape = (self.pick(1, 2), self.pick(4, 24), self.pick(20, 60), self.pick(20, 60))
            self.seen["large graphs"] += 1
        self.x = self.g.data(shape, self.pick(2, 9))
        self.bits[self.x] = self.g.precisions[0]
        self.live = [self.x]

    def pick(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def one_of(self, items: Any) -> Any:
        return items[self.pick(0, len(items) - 1)]

    def axis(self, rank: int) -> tuple[int, int]:
        """An axis, and one of the two ways to write it."""
        axis = self.pick(0, rank - 1)
        return axis, axis - rank if self.chance(0.5) else axis

    def param(self, shape: tuple[int, ...], bits: int, values: np.ndarray | None = None) -> Entry:
        values = random_values(self.rng, shape, bits) if values is None else values
        e = self.g.param(f"p{len(self.g.nodes)}", values, bits)
        self.bits[e] = bits
        return e

    def add(self, name: str, inputs: list[Entry], out: tuple[int, ...], bits: int, *tags: str, **attrs: object) -> Entry:
        e = self.g.op(name, inputs, out, **attrs)
        self.bits[e] = bits
        self.live.append(e)
        self.note(name, *tags)
        return e

    def note(self, name: str, *tags: str) -> None:
        self.seen[name] += 1
        self.seen.update(f"{name}: {tag}" for tag in tags if tag)

    def narrow(self, x: Entry, bits: int) -> Entry:
        if self.bits[x] <= bits:
            return x
        if self.chance(0.5):
            return self.add("cvm_clip", [x], x.shape, bits, precision=bits)
        shift = self.pick(1, 12)
        return self.add("cvm_right_shift", [x], x.shape, bits, precision=bits, shift_bit=shift)

    def step(self) -> None:
        """Adds a random operator."""
        raise NotImplementedError

    def heads(self) -> list[Entry]:
        return [self.live[i] for i in sorted({self.pick(0, len(self.live) - 1) for _ in range(4)})] + [self.live[-1]]

    def build(self, steps: int = 25) -> tuple[bytes, bytes, np.ndarray]:
        """symbol, params and an input. Some files share storage as far as they may."""
        for _ in range(steps * 10):
            if len(self.live) >= steps:
                break
            self.step()
        heads = self.heads()
        storage = self.g.plan_storage(heads, self.rng) if self.chance(0.5) else None
        symbol, params = self.g.build(heads, storage)
        return symbol, params, random_values(self.rng, self.x.shape, self.bits[self.x])
