"""Random operators of every kind, with attributes in all the ways of writing them."""

from __future__ import annotations

import math

import numpy as np
from graphs import Entry
from growing_graph import GrowingGraph

MAX_PRODUCTS = 5_000_000  # of a convolution


class Elementwise(GrowingGraph):
    """Operators element by element, with and without broadcasting."""

    def pointwise(self, x: Entry) -> None:
        bits = self.bits[x]
        name = self.one_of(["relu", "abs", "negative", "cvm_precision", "clip"])
        if name == "clip":
            low, high = sorted(self.pick(-(2 ** self.pick(1, 20)), 2 ** self.pick(1, 20)) for _ in range(2))
            high += low == high
            out = (max(abs(low), abs(high)) + 1).bit_length() + 1
            self.add("clip", [x], x.shape, out, "one-sided" if low * high > 0 else "", a_min=low, a_max=high)
        else:
            self.add(name, [x], x.shape, 6 if name == "cvm_precision" else bits)

    def shift(self, x: Entry) -> None:
        to = self.one_of([1, 8, 32, self.pick(1, 32)])
        attrs = {"precision": to, "is_sign": self.one_of(["True", "0"])}
        if self.chance(0.6):
            if self.chance(0.3):
                x = self.param(x.shape, 32)
            bit = self.one_of([1, 31, 32, self.pick(1, 32)])
            tag = f"shift {bit}" if bit in (1, 31, 32) else ""
            wide = "32 bits" if self.bits[x] == 32 else ""
            self.add("cvm_right_shift", [x], x.shape, to, tag, wide, shift_bit=bit, **attrs)
        else:
            bit = self.one_of([1, 30, 31, self.pick(1, 31)])
            x = self.narrow(x, 32 - bit)
            self.add("cvm_left_shift", [x], x.shape, to, f"shift {bit}" if bit >= 30 else "", shift_bit=bit, **attrs)

    def binary(self, x: Entry) -> None:
        x = self.narrow(x, 30)
        others = [e for e in self.live if e.shape == x.shape and self.bits[e] <= 30]
        y = self.one_of(others) if others else x
        name = self.one_of(["elemwise_add", "elemwise_sub"])
        self.add(name, [x, y], x.shape, max(self.bits[x], self.bits[y]) + 1, "same input twice" if x is y else "")

    def broadcast(self, x: Entry) -> None:
        x = self.narrow(x, 14)
        shape = tuple(1 if self.chance(0.4) else d for d in x.shape)[self.pick(0, len(x.shape) - 1) :]
        if self.chance(0.3):  # the other side is the larger one, here or there
            shape = tuple(self.pick(2, 3) if d == 1 else e for d, e in zip(x.shape, self.ones(x.shape)))
            shape = (self.pick(1, 2),) * self.pick(0, 6 - len(shape)) + shape
        out = np.broadcast_shapes(x.shape, shape)
        if math.prod(out) > self.most:
            return
        y = self.param(shape, self.pick(1, 14))
        tags = ["both sides" if x.shape != out != shape else "", "second larger" if shape == out != x.shape else ""]
        if self.chance(0.3):
            x, y = y, x
        p, q = self.bits[x], self.bits[y]
        name, bits = self.one_of(
            [
                ("broadcast_add", max(p, q) + 1),
                ("broadcast_sub", max(p, q) + 1),
                ("broadcast_mul", p + q),
                ("broadcast_div", p),
                ("broadcast_max", max(p, q)),
                ("broadcast_greater", p),
            ]
        )
        divisor = self.g.params.get(self.g.nodes[y.node]["name"])
        if name == "broadcast_div" and divisor is not None and not divisor.all():
            tags.append("zero divisor")
        self.add(name, [x, y], out, bits, *tags)

    def ones(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(1 if self.chance(0.5) else d for d in shape)


class Moves(GrowingGraph):
    """Operators that move values."""

    def copy(self, x: Entry) -> None:
        size, rank, bits = math.prod(x.shape), len(x.shape), self.bits[x]
        name = self.one_of(["flatten", "reshape", "reshape", "expand_dims", "squeeze"])
        if name == "flatten":
            self.add(name, [x], (x.shape[0], size // x.shape[0]), bits, "rank 1" if rank == 1 else "")
        elif name == "reshape":
            items, shape, tag = self.reshape_to(x.shape)
            if len(shape) <= 6:
                self.add(name, [x], shape, bits, tag, shape=items)
        elif name == "expand_dims" and rank < 6:
            at, count = self.pick(0, rank), self.pick(1, 6 - rank)
            written = at - rank - 1 if self.chance(0.5) else at
            attrs = {"axis": written, **({"num_newaxis": count} if count > 1 or self.chance(0.5) else {})}
            tag = "negative axis" if written < 0 else ""
            self.add(name, [x], x.shape[:at] + (1,) * count + x.shape[at:], bits, tag, **attrs)
        elif name == "squeeze":
            ones = [k for k, d in enumerate(x.shape) if d == 1]
            named = [k for k in ones if self.chance(0.6)]
            drop = named or ones
            shape = tuple(d for k, d in enumerate(x.shape) if k not in drop) or (1,)
            written = tuple(k - rank if self.chance(0.5) else k for k in named)
            self.add(name, [x], shape, bits, "named" if named else "", **({"axis": written} if named else {}))

    def reshape_to(self, x: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], str]:
        size = math.prod(x)
        choices = [((-1,), (size,), "-1"), ((-2,), x, "-2"), ((size, -9), (size,), "below -4"), (x[::-1], x[::-1], "")]
        choices.append(((0, -1), (x[0], size // x[0]), "0"))
        if len(x) > 1:
            choices.append(((-3, -2), (x[0] * x[1], *x[2:]), "-3"))
        for factor in (2, 3):
            if x[0] % factor == 0:
                split = self.one_of([(factor, -1), (-1, x[0] // factor), (factor, x[0] // factor)])
                choices.append(((-4, *split, -2), (factor, x[0] // factor, *x[1:]), "-4"))
        return self.one_of(choices)

    def move(self, x: Entry) -> None:
        rank, bits = len(x.shape), self.bits[x]
        axis, written = self.axis(rank)
        tag = "negative axis" if written < 0 else ""
        name = self.one_of(["transpose", "transpose", "repeat", "tile"])
        shape = list(x.shape)
        if name == "transpose":
            axes = [int(a) for a in self.rng.permutation(rank)] if self.chance(0.8) else list(range(rank))[::-1]
            out = tuple(x.shape[a] for a in axes)
            if axes == list(range(rank))[::-1] and self.chance(0.7):
                self.add(name, [x], out, bits, "no axes")
            else:
                items = tuple(a - rank if self.chance(0.3) else a for a in axes)
                self.add(name, [x], out, bits, "negative axis" if min(items) < 0 else "", axes=items)
        elif name == "repeat":
            times = self.pick(1, 3)
            shape[axis] *= times
            if math.prod(shape) <= self.most:
                self.add(name, [x], tuple(shape), bits, tag, repeats=times, axis=written)
        else:
            reps = tuple(self.pick(1, 3) for _ in range(self.pick(1, 6)))
            longest = max(len(reps), rank)
            sides = [(1,) * (longest - len(t)) + tuple(t) for t in (reps, x.shape)]
            out = tuple(a * b for a, b in zip(*sides))
            if math.prod(out) <= self.most:
                tag = "longer than input" if len(reps) > rank else "shorter than input" if len(reps) < rank else ""
                self.add(name, [x], out, bits, tag, reps=reps)

    def slice(self, x: Entry) -> None:
        if self.chance(0.25):
            return self.slice_like(x)
        n = self.pick(1, len(x.shape))
        begin, end, stride, out = [], [], [], list(x.shape)
        for k, d in enumerate(x.shape[:n]):
            for _ in range(20):
                b, e, s = self.pick(-d - 2, d + 1), self.pick(-d - 2, d + 2), self.one_of([-3, -2, -1, 1, 1, 2, 3])
                low, high = (-1, d - 1) if s < 0 else (0, d)
                first, last = (min(max(v + d if v < 0 else v, low), high) for v in (b, e))
                if len(range(first, last, s)):
                    break
            else:
                b, e, s, first, last = 0, d, 1, 0, d
            begin.append(b), end.append(e), stride.append(s)
            out[k] = len(range(first, last, s))
        attrs = {"begin": tuple(begin), "end": tuple(end), "stride": tuple(stride)}
        tags = ["negative step" if min(stride) < 0 else "", "negative index" if min(begin + end) < 0 else ""]
        if all(s == 1 for s in stride):
            del attrs["stride"]
        return self.add("strided_slice", [x], tuple(out), self.bits[x], *tags, **attrs)

    def slice_like(self, x: Entry) -> None:
        cut = tuple(self.pick(1, d) for d in x.shape)
        axes = [k for k in range(len(cut)) if self.chance(0.5)]
        if not axes:
            like = self.param(cut, 8)
            self.add("slice_like", [x, like], cut, self.bits[x], "no axis")
            return
        like = self.param(cut[: max(axes) + 1], 8)
        written = tuple(k - len(cut) if self.chance(0.5) else k for k in axes)
        out = tuple(c if k in axes else d for k, (c, d) in enumerate(zip(cut, x.shape)))
        self.add("slice_like", [x, like], out, self.bits[x], "negative axis" if min(written) < 0 else "", axis=written)

    def upsampling(self, x: Entry) -> None:
        scale = self.pick(1, 3)
        n, c, h, w = x.shape
        if math.prod(x.shape) * scale**2 <= self.most:
            self.add("upsampling", [x], (n, c, h * scale, w * scale), self.bits[x], scale=scale)

    def join(self, x: Entry) -> None:
        axis, written = self.axis(len(x.shape))
        rest = x.shape[:axis] + x.shape[axis + 1 :]
        others = [e for e in self.live if e.shape[:axis] + e.shape[axis + 1 :] == rest and len(e.shape) == len(x.shape)]
        parts = [x] + [self.one_of(others) for _ in range(self.pick(0, 3))]
        out = x.shape[:axis] + (sum(e.shape[axis] for e in parts),) + x.shape[axis + 1 :]
        if math.prod(out) <= self.most:
            tags = ["negative axis" if written < 0 else "", "one input" if len(parts) == 1 else ""]
            attrs = {} if written == 1 and self.chance(0.5) else {"axis": written}
            self.add("concatenate", parts, out, max(self.bits[e] for e in parts), *tags, **attrs)


class Selections(GrowingGraph):
    """Operators that choose values, or the best of boxes."""

    def select(self, x: Entry) -> None:
        name = self.one_of(["take", "take", "cvm_lut", "where", "where"])
        if name == "cvm_lut":
            table = self.param((self.pick(1, 200),), self.pick(1, 20))
            self.add(name, [x, table], x.shape, self.bits[table], in_dim=table.shape[0])
        elif name == "take":
            self.take(x)
        else:
            self.where(x)

    def take(self, x: Entry) -> None:
        indices = self.param(tuple(self.pick(1, 4) for _ in range(self.pick(1, 2))), 8)
        if self.chance(0.4):
            attrs = {"axis": "None"} if self.chance(0.5) else {}
            self.add("take", [x, indices], indices.shape, self.bits[x], "no axis", **attrs)
            return
        axis, written = self.axis(len(x.shape))
        out = x.shape[:axis] + indices.shape + x.shape[axis + 1 :]
        if len(out) <= 6 and math.prod(out) <= self.most:
            self.add("take", [x, indices], out, self.bits[x], "negative axis" if written < 0 else "", axis=written)

    def where(self, x: Entry) -> None:
        a, b = x, self.param(x.shape, self.pick(1, 32))
        if self.chance(0.5):
            a, b = b, a
        rows = self.chance(0.5) and len(x.shape) > 1
        c = self.param(x.shape[:1] if rows else x.shape, self.one_of([1, 2, 8]))
        unsound = max(self.bits[a], self.bits[b]) > self.bits[c]
        self.add("where", [c, a, b], x.shape, self.bits[c], "rank-1 condition" if rows else "", "unsound" if unsound else "")

    def boxes(self, x: Entry) -> None:
        """Rows out of the elements of x, their valid ones, and the best of these."""
        size = math.prod(x.shape)
        columns = 6 if self.chance(0.8) else self.pick(2, 31)
        if size < columns:
            return
        rows = min(size // columns, 60)
        batch = self.one_of([b for b in (1, 2, 3) if rows % b == 0])
        flat = self.add("reshape", [x], (size,), self.bits[x], shape=(-1,))
        cut = self.add("strided_slice", [flat], (rows * columns,), self.bits[x], end=(rows * columns,), begin=(0,))
        cut = self.narrow(cut, self.one_of([3, 5, 31]))  # few values: ties and overlaps
        shape = (batch, rows // batch, columns)
        cut = self.add("reshape", [cut], shape, self.bits[cut], shape=shape)
        attrs = {"score_threshold": self.pick(-4, 4)} if self.chance(0.7) else {}
        counts, valid = self.g.op("get_valid_counts", [cut], (batch,), shape, **attrs)
        self.note("get_valid_counts")
        self.bits[counts] = (shape[1] * columns + 1).bit_length() + 1
        self.bits[valid] = self.bits[cut]
        self.live += [counts, valid]
        if columns == 6:
            self.nms(self.one_of([cut, valid]), counts)

    def nms(self, x: Entry, counts: Entry) -> None:
        options = {
            "max_output_size": self.one_of([-1, 0, 1, 5]),
            "iou_threshold": self.one_of([1, 20, 50, 100, 101]),
            "force_suppress": self.chance(0.5),
            "top_k": self.one_of([-1, 0, 3, 20]),
        }
        attrs = {key: value for key, value in options.items() if self.chance(0.7)}
        tags = ["ties" if self.bits[x] <= 5 else "", "force_suppress" if attrs.get("force_suppress") else ""]
        tags += ["top_k" if attrs.get("top_k", -1) >= 0 else "", "size limit" if attrs.get("max_output_size", -1) >= 0 else ""]
        self.add("non_max_suppression", [x, counts], x.shape, self.bits[x], *tags, **attrs)


class Layers(GrowingGraph):
    """Convolutions, dense layers, pooling, and reductions."""

    def conv2d(self, x: Entry) -> None:
        c = x.shape[1]
        groups = self.one_of([1, c, self.one_of([g for g in range(1, c + 1) if c % g == 0])])
        k, s, p, d = ([self.pick(*r), self.pick(*r)] for r in ((1, 4), (1, 3), (0, 3), (1, 3)))
        self.convolve(x, groups, groups * self.pick(1, 6), k, s, p, d)

    def convolve(
        self, x: Entry, groups: int, channels: int, k: list[int], s: list[int], p: list[int], d: list[int]
    ) -> Entry | None:
        """A convolution with kernel k, stride s, padding p and dilation d; None if it is too large or has no output."""
        n, c, h, w = x.shape
        out = [(e + 2 * p[i] - 1 - (k[i] - 1) * d[i]) // s[i] + 1 for i, e in enumerate((h, w))]
        shape = (n, channels, *out)
        if min(out) < 1 or math.prod(shape) > self.most or math.prod(shape) * (c // groups) * k[0] * k[1] > MAX_PRODUCTS:
            return None
        x = self.narrow(x, 8)
        weight = self.param((channels, c // groups, *k), self.pick(2, 8))
        bits = self.bits[x] + self.bits[weight] + (c // groups * k[0] * k[1]).bit_length()
        inputs = [x, weight]
        bias = self.chance(0.5)
        if bias:
            inputs.append(self.param((channels,), 16))
            bits = max(bits, 16) + 1
        tags = ["depthwise" if groups == c > 1 else "grouped" if groups > 1 else "", "bias" if bias else ""]
        tags += ["dilated" if max(d) > 1 else "", "strided" if max(s) > 1 else "", "padded" if max(p) else ""]
        attrs = {"strides": tuple(s), "padding": tuple(p), "dilation": tuple(d), "groups": groups}
        kernel = {"channels": channels, "kernel_size": tuple(k), "use_bias": bias}
        return self.add("conv2d", inputs, shape, bits, *tags, **kernel, **attrs)

    def pool(self, x: Entry) -> Entry | None:
        n, c, h, w = x.shape
        k = [self.pick(1, min(4, h)), self.pick(1, min(4, w))]
        pad = [self.pick(0, k[0] - 1), self.pick(0, k[1] - 1)]
        if self.chance(0.3):
            pad = [min(pad)] * 2
        s = [self.pick(1, 3), self.pick(1, 3)]
        ceil = self.chance(0.5)
        rooms = [e + 2 * pad[i] - k[i] for i, e in enumerate((h, w))]
        out = [(room + (s[i] - 1 if ceil else 0)) // s[i] + 1 for i, room in enumerate(rooms)]
        if ceil and any((o - 1) * s[i] - pad[i] >= e for i, (o, e) in enumerate(zip(out, (h, w)))):
            return None
        rounded = ceil and any(room % s[i] for i, room in enumerate(rooms))
        tags = ["ceil" if ceil else "", "ceil rounds up" if rounded else "", "padded" if max(pad) else ""]
        padding = (pad[0],) if pad[0] == pad[1] and self.chance(0.5) else tuple(pad)
        attrs = {"pool_size": tuple(k), "strides": tuple(s), "padding": padding, "ceil_mode": ceil}
        return self.add("max_pool2d", [x], (n, c, *out), self.bits[x], *tags, **attrs)

    def dense(self, x: Entry) -> Entry:
        x = self.narrow(x, 8)
        units = self.pick(1, 40)
        inputs = [x, self.param((units, x.shape[1]), self.pick(2, 8))]
        bits = self.bits[x] + self.bits[inputs[1]] + x.shape[1].bit_length()
        bias = self.chance(0.5)
        if bias:
            inputs.append(self.param((units,), 20))
            bits = max(bits, 20) + 1
        return self.add("dense", inputs, (x.shape[0], units), bits, "bias" if bias else "", units=units, use_bias=bias)

    def reduce(self, x: Entry) -> None:
        rank = len(x.shape)
        axes = [int(a) for a in self.rng.permutation(rank)[: self.pick(0, rank)]]
        keepdims, exclude = self.chance(0.5), self.chance(0.4)
        reduced = set(axes) if axes else set(range(rank))
        if axes and exclude:
            reduced = set(range(rank)) - reduced
        shape = tuple(1 if k in reduced else d for k, d in enumerate(x.shape) if k not in reduced or keepdims) or (1,)
        written = tuple(a - rank if self.chance(0.4) else a for a in axes)
        attrs = {"keepdims": keepdims, "exclude": exclude, **({"axis": written} if written or self.chance(0.5) else {})}
        tags = ["keepdims" if keepdims else "", "exclude" if exclude else "", "empty axis" if not axes else ""]
        tags += ["negative axis" if written and min(written) < 0 else "", "nothing reduced" if not reduced else ""]
        gap = [k for k in range(min(reduced), max(reduced)) if k not in reduced] if reduced else []
        tags.append("apart" if any(x.shape[k] > 1 for k in gap) else "around extent 1" if gap else "")
        if self.chance(0.6):
            terms = math.prod(x.shape) // math.prod(shape)
            x = self.narrow(x, 32 - terms.bit_length())
            self.add("sum", [x], shape, self.bits[x] + terms.bit_length(), *tags, **attrs)
        else:
            self.add("max", [x], shape, self.bits[x], *tags, **attrs)


class RandomGraph(Elementwise, Moves, Selections, Layers):
    """A graph of any operators."""

    def step(self) -> None:
        x = self.one_of(self.live)
        steps = [self.pointwise, self.shift, self.binary, self.broadcast, self.broadcast, self.copy, self.reduce, self.move]
        steps += [self.move, self.slice, self.select, self.join, self.boxes]
        if len(x.shape) == 4:
            steps += [self.conv2d] * 4 + [self.pool] * 2 + [self.upsampling]
        if len(x.shape) == 2:
            steps += [self.dense] * 3
        self.one_of(steps)(x)
