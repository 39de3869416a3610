"""Seeded random graphs that look like quantized networks, for the parts of the planner that fuse.

Convolutions and dense layers with the chains of element-wise operators that
requantize their results, paddings and joined channels made by concatenation,
residual additions, pooling, tables, and now and then an operator that only
has a kernel. random_graphs.py --networks runs them.
"""

from __future__ import annotations

import math
from typing import Callable

import numpy as np
from graphs import Entry, int_range
from growing_graph import LARGE
from random_operators import RandomGraph


class NetworkGraph(RandomGraph):
    """A graph of layers."""

    STEPS = 40

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        # In place of the shape and precision that the base class has drawn.
        channels = self.one_of([1, 3, 4, 8, 16, 17, 32, 63, 64, 65, self.pick(1, 80)])
        extent = 40 if self.most == LARGE else 12 if channels > 30 else 18
        shape = (self.one_of([1, 1, 2, 3]), channels, self.pick(1, extent), self.pick(1, extent))
        while math.prod(shape) > self.most:
            shape = (1, channels, max(1, shape[2] // 2), max(1, shape[3] // 2))
        self.g = type(self.g)()
        self.bits = {}
        self.x = self.g.data(shape, self.one_of([8, 8, 8, 8, 2, 7, 9, 16]))
        self.bits[self.x] = self.g.precisions[0]
        self.live = [self.x]
        self.used: set[Entry] = set()

    def add(self, name: str, inputs: list[Entry], out: tuple[int, ...], bits: int, *tags: str, **attrs: object) -> Entry:
        self.used.update(inputs)
        return super().add(name, inputs, out, bits, *tags, **attrs)

    def step(self) -> None:
        recent = self.live[-3:] if self.chance(0.7) else self.live
        x = self.one_of(recent)
        steps: list[Callable[[Entry], object]] = [self.chain]
        if len(x.shape) == 4:
            steps += [self.conv_block] * 6 + [self.pool_block] * 3 + [self.padded] * 2 + [self.residual] * 2
            steps += [self.channels] * 2 + [self.head] + [self.between]
        elif len(x.shape) == 2:
            steps += [self.dense_block] * 3 + [self.residual, self.channels, self.between]
        else:
            steps += [self.flat, self.between]
        self.one_of(steps)(x)

    def heads(self) -> list[Entry]:
        """The last tensor, often all that nothing reads, seldom others."""
        heads = [e for e in self.live if e not in self.used] if self.chance(0.5) else [self.live[-1]]
        heads += [self.one_of(self.live) for _ in range(self.one_of([0, 0, 0, 1, 2, 4]))]
        if self.chance(0.05):
            heads.append(self.x)
            self.note("head", "the input")
        return heads

    # ---- element-wise chains ----------------------------------------------------

    def constant(self, x: Entry, bits: int) -> Entry:
        """A factor or offset: one integer, or one per channel."""
        c = x.shape[1] if len(x.shape) in (2, 4) else 1
        shapes = [(1,), (1,) * len(x.shape)]
        if c > 1:
            shapes += [(1, c) + (1,) * (len(x.shape) - 2)] * 3 + [(c,) + (1,) * (len(x.shape) - 2)]
        shape = self.one_of(shapes)
        bound = int_range(bits)
        if self.chance(0.2):
            return self.param(shape, bits, np.full(shape, self.one_of([-bound, -1, 0, 1, bound])))
        if self.chance(0.4):
            return self.param(shape, bits, self.rng.integers(0, bound, shape, endpoint=True))
        return self.param(shape, bits)

    def to_bits(self, x: Entry, bits: int) -> Entry:
        """Requantizes: a shift, or limits alone."""
        have = self.bits[x]
        if have > bits and self.chance(0.8):
            shift = max(1, min(31, have - bits - self.pick(0, 6)))
            return self.add("cvm_right_shift", [x], x.shape, bits, precision=bits, shift_bit=shift)
        return self.add("cvm_clip", [x], x.shape, bits, precision=bits)

    def chain(self, x: Entry) -> Entry:
        """What MRT puts between layers, and other element-wise operators, ending narrow most of the time."""
        start = x
        for _ in range(self.one_of([0, 1, 1, 2, 3, 5])):
            x = self.link(x, start)
        if self.chance(0.25):
            return x
        if self.chance(0.15) and self.bits[x] < 32:  # an unsigned byte made signed
            low = self.to_bits(x, 9)
            low = self.add("relu", [low], x.shape, 9)
            x = self.add("broadcast_sub", [low, self.param((1,), 8, np.array([127]))], x.shape, 10)
        return self.to_bits(x, self.one_of([8, 8, 8, 8, 7, 6, 4, 2]))

    def link(self, x: Entry, start: Entry) -> Entry:
        bits = self.bits[x]
        name = self.one_of(["relu", "relu", "clip", "cvm_clip", "mul", "mul", "mul", "shift", "shift", "left", "plus", "minus",
                            "abs", "negative", "max", "join", "lut"])  # fmt: skip
        if name in ("relu", "abs", "negative"):
            return self.add(name, [x], x.shape, bits)
        if name == "clip":
            most = 2 ** self.pick(1, min(bits, 29))
            low, high = sorted(self.pick(-most, most) for _ in range(2))
            high += low == high
            out = (max(abs(low), abs(high)) + 1).bit_length() + 1
            return self.add("clip", [x], x.shape, out, a_min=low, a_max=high)
        if name == "cvm_clip":
            to = self.pick(2, min(32, bits + 1))
            return self.add("cvm_clip", [x], x.shape, to, precision=to)
        if name == "mul" and bits <= 28:
            c = self.constant(x, self.pick(2, min(16, 32 - bits)))
            return self.add("broadcast_mul", self.either(x, c), x.shape, bits + self.bits[c])
        if name == "shift":
            to = self.pick(max(2, bits - 12), max(2, bits))
            shift = self.one_of([1, max(1, bits - to), self.pick(1, 32)])
            return self.add("cvm_right_shift", [x], x.shape, to, precision=to, shift_bit=shift)
        if name == "left" and bits <= 24:
            shift, to = self.pick(1, min(8, 32 - bits)), self.pick(2, 32)
            return self.add("cvm_left_shift", [x], x.shape, to, precision=to, shift_bit=shift)
        if name in ("plus", "minus") and bits <= 30:
            c = self.constant(x, self.pick(2, 30))
            inputs = self.either(x, c) if name == "minus" and self.chance(0.3) else [x, c]
            return self.add(f"broadcast_{'add' if name == 'plus' else 'sub'}", inputs, x.shape, max(bits, self.bits[c]) + 1)
        if name == "max":
            c = self.constant(x, self.pick(2, max(2, bits)))
            return self.add("broadcast_max", self.either(x, c), x.shape, max(bits, self.bits[c]))
        if name == "join":
            return self.combine(x, start if self.chance(0.4) else self.one_of(self.mates(x)))
        if name == "lut":
            size = self.pick(1, 300)
            table = self.param((size,), self.pick(2, 16))
            return self.add("cvm_lut", [x, table], x.shape, self.bits[table], in_dim=size)
        return x

    def either(self, x: Entry, c: Entry) -> list[Entry]:
        return [c, x] if self.chance(0.2) else [x, c]

    def combine(self, x: Entry, y: Entry) -> Entry:
        """Of two tensors of one shape."""
        p, q = self.bits[x], self.bits[y]
        names = ["broadcast_max"]
        if max(p, q) <= 31:
            names += ["elemwise_add", "elemwise_add", "elemwise_sub", "broadcast_add", "broadcast_sub"]
        if p + q <= 32:
            names.append("broadcast_mul")
        name = self.one_of(names)
        bits = max(p, q) if name == "broadcast_max" else p + q if name == "broadcast_mul" else max(p, q) + 1
        return self.add(name, [x, y], x.shape, bits, "same input twice" if x is y else "")

    # ---- layers -----------------------------------------------------------------

    def conv_block(self, x: Entry) -> None:
        for _ in range(self.one_of([1, 1, 1, 2, 3])):
            self.conv_chain(self.pad(x) if self.chance(0.2) else x)

    def conv_chain(self, x: Entry) -> None:
        c = x.shape[1]
        divisors = [g for g in range(1, c + 1) if c % g == 0]
        groups = self.one_of([1, 1, 1, c, c, self.one_of(divisors)])
        per_group = self.one_of([1, 1, 2, 3]) if groups > 1 else self.one_of([1, 8, 16, self.pick(1, 80), self.pick(1, 80)])
        size = self.one_of([[1, 1], [1, 1], [3, 3], [3, 3], [5, 5], [1, self.pick(2, 7)], [self.pick(2, 7), 1],
                            [self.pick(1, 7), self.pick(1, 7)]])  # fmt: skip
        stride = self.one_of([[1, 1], [1, 1], [2, 2], [self.pick(1, 4), self.pick(1, 4)]])
        dilation = self.one_of([[1, 1], [1, 1], [1, 1], [2, 2], [self.pick(1, 3), self.pick(1, 3)]])
        same = [(k - 1) * d // 2 for k, d in zip(size, dilation)]
        padding = self.one_of([[0, 0], same, same, [self.pick(0, 3), self.pick(0, 3)]])
        y = self.convolve(x, groups, groups * per_group, size, stride, padding, dilation)
        if y is not None and self.chance(0.2):
            self.stem(y)
        elif y is not None:
            self.chain(y)

    def stem(self, x: Entry) -> None:
        """A pool close after a convolution, used in several forms."""
        for _ in range(self.pick(0, 2)):
            x = self.link(x, x)
        y = self.pool(x)
        for _ in range(self.one_of([1, 2, 2, 3]) if y is not None else 0):
            self.chain(y)

    def param(self, shape: tuple[int, ...], bits: int, values: np.ndarray | None = None) -> Entry:
        if values is None and len(shape) == 4 and self.chance(0.1):  # the largest sums there are
            values = np.full(shape, self.one_of([-1, 1]) * int_range(bits))
        e = super().param(shape, bits, values)
        if self.chance(0.1):  # the file may hold narrow integers in 32 bits
            name = self.g.nodes[e.node]["name"]
            self.g.params[name] = self.g.params[name].astype(np.int32)
        return e

    def pool_block(self, x: Entry) -> None:
        for _ in range(self.one_of([1, 1, 1, 2])):
            y = self.pool(x)
            for _ in range(self.one_of([1, 1, 1, 2]) if y is not None else 0):
                self.chain(y)

    def dense_block(self, x: Entry) -> None:
        if x.shape[1] <= 4096:
            self.chain(self.dense(x))

    def head(self, x: Entry) -> None:
        """Global sum or nothing, then a row per image."""
        if self.chance(0.6):
            terms = x.shape[2] * x.shape[3]
            x = self.narrow(x, 32 - terms.bit_length())
            keep = self.chance(0.5)
            shape = x.shape[:2] + ((1, 1) if keep else ())
            x = self.add("sum", [x], shape, self.bits[x] + terms.bit_length(), "global", axis=(2, 3), keepdims=keep)
            x = self.chain(x)
        self.flat(x)

    def flat(self, x: Entry) -> None:
        size = math.prod(x.shape)
        if size // x.shape[0] > 4096:
            return
        if len(x.shape) != 2:
            out = (x.shape[0], size // x.shape[0])
            if self.chance(0.5):
                x = self.add("flatten", [x], out, self.bits[x], "spatial" if max(x.shape[2:], default=1) > 1 else "")
            else:
                x = self.add("reshape", [x], out, self.bits[x], shape=(0, -1))
        self.dense_block(self.chain(x))

    # ---- several inputs ---------------------------------------------------------

    def mates(self, x: Entry, axis: int | None = None) -> list[Entry]:
        """Tensors of the shape of x, apart from one axis."""
        drop = slice(axis, None if axis is None else axis + 1)
        cut = [list(e.shape) for e in (x, *self.live)]
        if axis is not None:
            for shape in cut:
                del shape[drop]
        return [e for e, shape in zip(self.live, cut[1:]) if len(e.shape) == len(x.shape) and shape == cut[0]]

    def residual(self, x: Entry) -> None:
        y = self.combine(x, self.one_of(self.mates(x)))
        for _ in range(self.one_of([0, 1, 1, 2])):
            self.chain(y)

    def channels(self, x: Entry) -> None:
        mates = self.mates(x, 1)
        parts = [self.one_of(mates) for _ in range(self.pick(0, 3))]
        parts.insert(self.pick(0, len(parts)), x)
        out = (x.shape[0], sum(e.shape[1] for e in parts), *x.shape[2:])
        if math.prod(out) > self.most or out[1] > 400:
            return
        tags = ["channels", "the same twice" if len(set(parts)) < len(parts) else ""]
        tags.append("different widths" if len({self.bits[e] for e in parts}) > 1 else "")
        y = self.add("concatenate", parts, out, max(self.bits[e] for e in parts), *tags, axis=self.one_of([1, 1 - len(out)]))
        for _ in range(self.one_of([0, 1, 1, 2])):
            self.chain(y)

    def pad(self, x: Entry) -> Entry:
        """Constant rows and columns around x."""
        if self.chance(0.7):
            x = self.narrow(x, 8)
        bits = self.bits[x]
        value = self.one_of([0, 0, 0, -1, 5, int_range(bits), -int_range(bits)])
        axes = self.one_of([(2, 3), (3, 2), (2, 3), (2,), (3,), (2, 3, 2, 3)])
        for axis in axes:
            if self.chance(0.15):
                value = self.pick(-int_range(8), int_range(8))
                self.note("concatenate", "paddings of several values")
            before, after = self.one_of([(1, 1), (1, 1), (0, 1), (1, 0), (2, 1), (0, 3)])
            parts = [x]
            for k, count in ((0, before), (1, after)):
                shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
                if count:
                    other = value if self.chance(0.97) else value // 2 + 1
                    values = np.full(shape, other)
                    parts.insert(len(parts) if k else 0, self.param(shape, max(2, abs(other).bit_length() + 1, bits), values))
            out = list(x.shape)
            out[axis] += before + after
            if math.prod(out) > self.most:
                break
            x = self.add("concatenate", parts, tuple(out), max(self.bits[e] for e in parts), "padding", axis=axis)
        return x

    def padded(self, x: Entry) -> None:
        for _ in range(self.one_of([1, 1, 2])):
            y = self.pad(x)
            for _ in range(self.one_of([1, 1, 2])):
                self.one_of([self.conv_chain, self.conv_chain, self.pool_block, self.chain])(y)

    # ---- operators without a fast path ------------------------------------------

    def between(self, x: Entry) -> None:
        others = [self.move, self.slice, self.take, self.where, self.copy, self.broadcast, self.reduce, self.pointwise]
        if len(x.shape) == 4:
            others += [self.upsampling, self.transposed]
        self.one_of(others)(x)

    def transposed(self, x: Entry) -> None:
        """To channels last, and back after something happened."""
        n, c, h, w = x.shape
        y = self.add("transpose", [x], (n, h, w, c), self.bits[x], axes=(0, 2, 3, 1))
        if self.chance(0.7):
            y = self.chain(y)
        self.add("transpose", [y], x.shape, self.bits[y], axes=(0, 3, 1, 2))
