"""Seeded random graphs that are valid by construction, for comparing executors."""

from __future__ import annotations

import numpy as np
from graphs import Entry, GraphWriter, random_values

MAX_ELEMENTS = 20_000


class RandomGraph:
    """Grows a graph from `data` by random operators; `bits` tracks every precision."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.g = GraphWriter()
        self.bits: dict[Entry, int] = {}
        shape = (self.pick(1, 2), self.pick(1, 8), self.pick(1, 14), self.pick(1, 14))
        self.x = self.g.data(shape, self.pick(2, 9))
        self.bits[self.x] = self.g.precisions[0]
        self.live = [self.x]

    def pick(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def param(self, shape: tuple[int, ...], bits: int) -> Entry:
        values = random_values(self.rng, shape, bits)
        e = self.g.param(f"p{len(self.g.nodes)}", values, bits)
        self.bits[e] = bits
        return e

    def add(self, name: str, inputs: list[Entry], out: tuple[int, ...], bits: int, **attrs: object) -> Entry:
        e = self.g.op(name, inputs, out, **attrs)
        self.bits[e] = bits
        self.live.append(e)
        return e

    def narrow(self, x: Entry, bits: int) -> Entry:
        if self.bits[x] <= bits:
            return x
        if self.rng.random() < 0.5:
            return self.add("cvm_clip", [x], x.shape, bits, precision=bits)
        return self.add("cvm_right_shift", [x], x.shape, bits, precision=bits, shift_bit=self.pick(1, 12))

    def step(self) -> None:
        x = self.live[self.pick(0, len(self.live) - 1)]
        steps = [self.pointwise, self.binary, self.broadcast, self.reshape, self.reduce, self.transform]
        if len(x.shape) == 4:
            steps += [self.conv2d, self.conv2d, self.pool]
        if len(x.shape) == 2:
            steps += [self.dense, self.dense]
        steps[self.pick(0, len(steps) - 1)](x)

    def pointwise(self, x: Entry) -> None:
        bits = self.bits[x]
        name = self.rng.choice(["relu", "abs", "negative", "cvm_precision", "clip", "left"])
        if name == "clip":
            high = self.pick(1, 2**20)
            self.add("clip", [x], x.shape, (high + 1).bit_length() + 1, a_min=-self.pick(0, high), a_max=high)
        elif name == "left":
            x = self.narrow(x, 16)
            to = self.pick(1, 20)
            self.add("cvm_left_shift", [x], x.shape, to, precision=to, shift_bit=self.pick(1, 16))
        else:
            self.add(str(name), [x], x.shape, 6 if name == "cvm_precision" else bits)

    def binary(self, x: Entry) -> None:
        x = self.narrow(x, 30)
        others = [e for e in self.live if e.shape == x.shape and self.bits[e] <= 30]
        y = others[self.pick(0, len(others) - 1)] if others else x
        name = str(self.rng.choice(["elemwise_add", "elemwise_sub"]))
        self.add(name, [x, y], x.shape, max(self.bits[x], self.bits[y]) + 1)

    def broadcast(self, x: Entry) -> None:
        x = self.narrow(x, 14)
        shape = tuple(1 if self.rng.random() < 0.4 else d for d in x.shape)[self.pick(0, len(x.shape) - 1) :]
        y = self.param(shape, self.pick(2, 14))
        p, q = self.bits[x], self.bits[y]
        name, bits = [
            ("broadcast_add", max(p, q) + 1),
            ("broadcast_sub", max(p, q) + 1),
            ("broadcast_mul", p + q),
            ("broadcast_div", p),
            ("broadcast_max", max(p, q)),
            ("broadcast_greater", p),
        ][self.pick(0, 5)]
        self.add(name, [x, y], x.shape, bits)

    def reshape(self, x: Entry) -> None:
        size = int(np.prod(x.shape))
        kind = self.pick(0, 2)
        if kind == 0:
            self.add("flatten", [x], (x.shape[0], size // x.shape[0]), self.bits[x])
        elif kind == 1:
            self.add("transpose", [x], x.shape[::-1], self.bits[x])
        else:
            self.add("reshape", [x], (size,), self.bits[x], shape="(-1,)")

    def reduce(self, x: Entry) -> None:
        x = self.narrow(x, 16)
        axes = sorted(int(a) for a in self.rng.permutation(len(x.shape))[: self.pick(1, len(x.shape))])
        shape = tuple(1 if k in axes else d for k, d in enumerate(x.shape))
        terms = int(np.prod(x.shape)) // int(np.prod(shape))
        if self.rng.random() < 0.6:
            self.add("sum", [x], shape, self.bits[x] + terms.bit_length(), axis=tuple(axes), keepdims=True)
        else:
            self.add("max", [x], shape, self.bits[x], axis=tuple(axes), keepdims=1)

    def transform(self, x: Entry) -> None:
        axis = self.pick(0, len(x.shape) - 1)
        shape = list(x.shape)
        if self.rng.random() < 0.5 and np.prod(shape) < MAX_ELEMENTS // 2:
            shape[axis] *= 2
            name, inputs = ("repeat", [x]) if self.rng.random() < 0.5 else ("concatenate", [x, x])
            attrs = {"axis": axis, **({"repeats": 2} if name == "repeat" else {})}
            self.add(name, inputs, tuple(shape), self.bits[x], **attrs)
        else:
            shape[axis] = (shape[axis] + 1) // 2
            begin, end = [0] * len(shape), list(x.shape)
            stride = [2 if k == axis else 1 for k in range(len(shape))]
            attrs = {"begin": tuple(begin), "end": tuple(end), "stride": tuple(stride)}
            self.add("strided_slice", [x], tuple(shape), self.bits[x], **attrs)

    def conv2d(self, x: Entry) -> None:
        x = self.narrow(x, 8)
        n, c, h, w = x.shape
        groups = int(self.rng.choice([g for g in range(1, c + 1) if c % g == 0]))
        channels = groups * self.pick(1, 6)
        k, s, p, d = ([self.pick(*r), self.pick(*r)] for r in ((1, 3), (1, 2), (0, 2), (1, 2)))
        out = [(e + 2 * p[i] - 1 - (k[i] - 1) * d[i]) // s[i] + 1 for i, e in enumerate((h, w))]
        if min(out) < 1:
            return
        weight = self.param((channels, c // groups, *k), 8)
        bits = self.bits[x] + 8 + (c // groups * k[0] * k[1]).bit_length()
        inputs = [x, weight]
        bias = self.rng.random() < 0.5
        if bias:
            inputs.append(self.param((channels,), 16))
            bits = max(bits, 16) + 1
        attrs = {"strides": tuple(s), "padding": tuple(p), "dilation": tuple(d), "groups": groups}
        shape = (n, channels, *out)
        self.add("conv2d", inputs, shape, bits, channels=channels, kernel_size=tuple(k), use_bias=bias, **attrs)

    def pool(self, x: Entry) -> None:
        n, c, h, w = x.shape
        k = [self.pick(1, min(3, h)), self.pick(1, min(3, w))]
        pad = [self.pick(0, k[0] - 1), self.pick(0, k[1] - 1)]
        s = [self.pick(1, 2), self.pick(1, 2)]
        shape = (n, c, (h + 2 * pad[0] - k[0]) // s[0] + 1, (w + 2 * pad[1] - k[1]) // s[1] + 1)
        attrs = {"pool_size": tuple(k), "strides": tuple(s), "padding": tuple(pad)}
        self.add("max_pool2d", [x], shape, self.bits[x], **attrs)

    def dense(self, x: Entry) -> None:
        x = self.narrow(x, 8)
        units = self.pick(1, 40)
        weight = self.param((units, x.shape[1]), 8)
        bits = self.bits[x] + 8 + x.shape[1].bit_length()
        self.add("dense", [x, weight], (x.shape[0], units), bits, units=units, use_bias=False)

    def build(self, steps: int = 25) -> tuple[bytes, bytes, np.ndarray]:
        """symbol, params and an input."""
        while len(self.live) < steps:
            self.step()
        heads = [self.live[i] for i in sorted({self.pick(0, len(self.live) - 1) for _ in range(4)})]
        symbol, params = self.g.build([*heads, self.live[-1]])
        return symbol, params, random_values(self.rng, self.x.shape, self.bits[self.x])
