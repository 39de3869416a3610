"""Every operator against numpy written from the specification."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest
from graphs import Entry, GraphWriter, int_range, random_values

import cvm_runtime as cvm

ROUNDS = 8


def wrap(x: np.ndarray) -> np.ndarray:
    """Two's complement modulo 2^32."""
    return np.asarray(x, np.int64).astype(np.uint32).astype(np.int32)


def clamp(x: np.ndarray, precision: int) -> np.ndarray:
    return np.clip(x, -int_range(precision), int_range(precision))


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


UNARY: dict[str, tuple[Callable, int | None]] = {
    "relu": (lambda x: np.maximum(x, 0), None),
    "abs": (np.abs, None),
    "negative": (np.negative, None),
    "cvm_precision": (lambda x: np.vectorize(lambda v: max(int(abs(v)).bit_length(), 1))(x), 6),
    "flatten": (lambda x: x.reshape(x.shape[0], -1), None),
}


@pytest.mark.parametrize("name", UNARY)
def test_unary(ctx: cvm.Context, name: str) -> None:
    reference, precision = UNARY[name]
    for rng in rngs(name):
        p = int(rng.integers(1, 33))
        x = random_values(rng, shape_of(rng), p)
        Case(name, (x, p)).check(ctx, reference(x), precision or p)


@pytest.mark.parametrize("name,sign", [("elemwise_add", 1), ("elemwise_sub", -1)])
def test_elemwise_binary(ctx: cvm.Context, name: str, sign: int) -> None:
    for rng in rngs(name):
        p, q = (int(v) for v in rng.integers(1, 32, 2))
        shape = shape_of(rng)
        x, y = random_values(rng, shape, p), random_values(rng, shape, q)
        Case(name, (x, p), (y, q)).check(ctx, x + sign * y, max(p, q) + 1)


def test_clip(ctx: cvm.Context) -> None:
    for rng in rngs("clip"):
        low, high = sorted(int(v) for v in rng.integers(-(2**30), 2**30, 2))
        x = random_values(rng, shape_of(rng), 32)
        bits = (max(abs(low), abs(high)) + 1).bit_length() + 1
        Case("clip", (x, 32), a_min=low, a_max=high).check(ctx, np.clip(x, low, high), bits)


def test_clip_to_127_is_declared_9_bits(ctx: cvm.Context) -> None:
    x = np.arange(-300, 300, dtype=np.int32)
    Case("clip", (x, 16), a_min=-127, a_max=127).check(ctx, np.clip(x, -127, 127), 9)


def round_shift(x: np.ndarray, shift: int) -> np.ndarray:
    half = wrap((x.astype(np.int64) >> (shift - 1)) + 1)
    return half >> 1


@pytest.mark.parametrize("shift", [1, 2, 7, 16, 30, 31, 32])
def test_cvm_right_shift(ctx: cvm.Context, shift: int) -> None:
    for rng in rngs(f"right{shift}"):
        p = int(rng.integers(1, 33))
        x = random_values(rng, (3, 50), 32)
        x[0, :3] = [2**31 - 1, -(2**31 - 1), 3]  # 2^31 - 1 + 1 wraps at shift 1
        expected = clamp(round_shift(x, shift), p)
        for is_sign in (True, False):
            case = Case("cvm_right_shift", (x, 32), precision=p, shift_bit=shift, is_sign=is_sign)
            case.check(ctx, expected, p)


def test_right_shift_rounds_half_up(ctx: cvm.Context) -> None:
    x = np.array([3, -3, -1, 1], np.int32)  # 1.5 -1.5 -0.5 0.5
    Case("cvm_right_shift", (x, 8), precision=8, shift_bit=1).check(ctx, np.array([2, -1, 0, 1]))


def test_cvm_left_shift_and_clip(ctx: cvm.Context) -> None:
    for rng in rngs("left"):
        q, p = int(rng.integers(1, 31)), int(rng.integers(1, 33))
        shift = int(rng.integers(1, 33 - q))
        x = random_values(rng, (40,), q)
        expected = clamp(x.astype(np.int64) << shift, p)
        Case("cvm_left_shift", (x, q), precision=p, shift_bit=shift).check(ctx, expected, p)
        Case("cvm_clip", (x, q), precision=p, is_sign="0").check(ctx, clamp(x, p), p)


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.broadcast_arrays(a.astype(np.int64), b.astype(np.int64))
    q = np.abs(a) // np.maximum(np.abs(b), 1)
    return np.where(b == 0, 0, np.sign(a) * np.sign(b) * q)


BROADCAST: dict[str, tuple[Callable, Callable]] = {
    "broadcast_add": (np.add, lambda p, q: max(p, q) + 1),
    "broadcast_sub": (np.subtract, lambda p, q: max(p, q) + 1),
    "broadcast_mul": (np.multiply, lambda p, q: p + q),
    "broadcast_div": (divide, lambda p, q: p),
    "broadcast_max": (np.maximum, lambda p, q: max(p, q)),
    "broadcast_greater": (lambda a, b: (a > b) * 1, lambda p, q: p),
}


@pytest.mark.parametrize("name", BROADCAST)
def test_broadcast(ctx: cvm.Context, name: str) -> None:
    reference, precision = BROADCAST[name]
    for rng in rngs(name):
        p, q = (int(v) for v in rng.integers(1, 17, 2))
        out = shape_of(rng)
        shapes = []
        for _ in range(2):
            s = [1 if rng.random() < 0.35 else d for d in out]
            shapes.append(tuple(s[int(rng.integers(0, len(s))) :]))
        x, y = random_values(rng, shapes[0], p), random_values(rng, shapes[1], q)
        expected = reference(x.astype(np.int64), y.astype(np.int64))
        Case(name, (x, p), (y, q)).check(ctx, expected, precision(p, q))


def test_broadcast_large(ctx: cvm.Context) -> None:
    rng = np.random.default_rng(3)
    x, y = random_values(rng, (2, 64, 28, 27), 12), random_values(rng, (64, 1, 1), 12)
    Case("broadcast_mul", (x, 12), (y, 12)).check(ctx, x * y, 24)


@pytest.mark.parametrize("name", ["sum", "max"])
def test_reduce(ctx: cvm.Context, name: str) -> None:
    for rng in rngs(name) + rngs(name + "2"):
        p = int(rng.integers(1, 12))
        x = random_values(rng, shape_of(rng), p) - (5 if name == "max" and p > 5 else 0)
        x = clamp(x, p)
        axes = [int(a) for a in rng.permutation(x.ndim)[: rng.integers(0, x.ndim + 1)]]
        written = tuple(a - x.ndim if rng.random() < 0.5 else a for a in axes)
        keepdims, exclude = rng.random() < 0.5, rng.random() < 0.5
        reduced = tuple(axes) if axes else tuple(range(x.ndim))
        if axes and exclude:
            reduced = tuple(a for a in range(x.ndim) if a not in axes)
        expected = (np.sum if name == "sum" else np.max)(x, axis=reduced, keepdims=keepdims) if reduced else x
        if name == "max" and not axes and not exclude:
            expected = np.maximum(expected, 0)  # the odd corner: starts from 0
        expected = np.asarray(expected).reshape(np.shape(expected) or (1,))
        bits = p + (x.size // expected.size).bit_length() if name == "sum" else p
        case = Case(name, (x, p), axis=written, keepdims=keepdims, exclude=exclude)
        case.check(ctx, expected, bits)


def test_max_over_empty_axis_starts_at_zero(ctx: cvm.Context) -> None:
    x = np.array([[-5, -3]], np.int32)
    Case("max", (x, 8)).check(ctx, np.array([0]))
    Case("max", (x, 8), exclude=True).check(ctx, np.array([-3]))
    Case("max", (x, 8), axis=(0, 1)).check(ctx, np.array([-3]))


def conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, s: Any, p: Any, d: Any, groups: int) -> np.ndarray:
    x = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (p[0], p[0]), (p[1], p[1])))
    n, _, h, wd = x.shape
    oc, ic, kh, kw = w.shape
    oh, ow = ((h - 1 - (kh - 1) * d[0]) // s[0] + 1), ((wd - 1 - (kw - 1) * d[1]) // s[1] + 1)
    y = np.zeros((n, oc, oh, ow), np.int64)
    for o in range(oc):
        first = o // (oc // groups) * ic
        for a in range(kh):
            for e in range(kw):
                rows = slice(a * d[0], a * d[0] + (oh - 1) * s[0] + 1, s[0])
                columns = slice(e * d[1], e * d[1] + (ow - 1) * s[1] + 1, s[1])
                part = x[:, first : first + ic, rows, columns]
                y[:, o] += np.einsum("nchw,c->nhw", part, w[o, :, a, e].astype(np.int64))
    return y if b is None else y + b[None, :, None, None]


def pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))


def test_conv2d(ctx: cvm.Context) -> None:
    for rng in rngs("conv2d") + rngs("more") + rngs("and more"):
        groups = int(rng.choice([1, 1, 2, 3, 5]))
        ic, opg = (int(v) for v in rng.integers(1, 6, 2))
        if rng.random() < 0.3:  # depthwise
            groups, ic, opg = int(rng.integers(2, 9)), 1, int(rng.integers(1, 3))
        kernel, stride, pad, dilation = pair(rng, 1, 4), pair(rng, 1, 3), pair(rng, 0, 3), pair(rng, 1, 2)
        h, w = (int(rng.integers(1 + (k - 1) * d, 16)) for k, d in zip(kernel, dilation))
        p = int(rng.integers(1, 9))
        x = random_values(rng, (int(rng.integers(1, 3)), groups * ic, h, w), p)
        weight = random_values(rng, (groups * opg, ic, *kernel), 8)
        bias = random_values(rng, (groups * opg,), 20)
        attrs = {
            "channels": groups * opg,
            "kernel_size": kernel,
            "strides": stride,
            "padding": pad,
            "dilation": dilation,
            "groups": groups,
        }
        bits = p + 8 + (ic * kernel[0] * kernel[1]).bit_length()
        expected = conv2d(x, weight, None, stride, pad, dilation, groups)
        Case("conv2d", (x, p), (weight, 8), use_bias=False, **attrs).check(ctx, expected, bits)
        expected = conv2d(x, weight, bias, stride, pad, dilation, groups)
        Case("conv2d", (x, p), (weight, 8), (bias, 20), **attrs).check(ctx, expected, max(bits, 20) + 1)


def test_conv2d_at_the_extremes(ctx: cvm.Context) -> None:
    """All operands at +-127 and as many products as int32 is proven for."""
    x = np.full((1, 3641, 3, 3), 127, np.int32)
    w = np.full((5, 3641, 3, 3), -127, np.int32)
    w[2] = 127
    case = Case("conv2d", (x, 8), (w, 8), channels=5, kernel_size=(3, 3), use_bias=False)
    case.check(ctx, conv2d(x, w, None, (1, 1), (0, 0), (1, 1), 1), 32)


def test_dense(ctx: cvm.Context) -> None:
    for rng in rngs("dense"):
        m, k, units = (int(v) for v in rng.integers(1, 40, 3))
        x, w = random_values(rng, (m, k), 8), random_values(rng, (units, k), 7)
        b = random_values(rng, (units,), 24)
        bits = 15 + k.bit_length()
        Case("dense", (x, 8), (w, 7), units=units, use_bias="0").check(ctx, x @ w.T, bits)
        Case("dense", (x, 8), (w, 7), (b, 24), units=units).check(ctx, x @ w.T + b, max(bits, 24) + 1)


def max_pool(x: np.ndarray, pool: Any, s: Any, pad: Any, ceil: bool) -> np.ndarray:
    n, c, h, w = x.shape
    out = []
    for d, k, st, pd in zip((h, w), pool, s, pad):
        e = d + 2 * pd - k
        out.append((e + (st - 1 if ceil else 0)) // st + 1)
    y = np.empty((n, c, *out), x.dtype)
    for i in range(out[0]):
        for j in range(out[1]):
            top, left = i * s[0] - pad[0], j * s[1] - pad[1]
            window = x[:, :, max(top, 0) : top + pool[0], max(left, 0) : left + pool[1]]
            y[:, :, i, j] = window.max(axis=(2, 3))
    return y


def test_max_pool2d(ctx: cvm.Context) -> None:
    for rng in rngs("pool") + rngs("pool2"):
        pad = pair(rng, 0, 2)
        pool = tuple(int(rng.integers(p + 1, p + 4)) for p in pad)
        stride = tuple(int(rng.integers(1, k + 1)) for k in pool)
        h, w = (int(rng.integers(k, 14)) for k in pool)
        x = random_values(rng, (2, 3, h, w), 20)
        ceil = rng.random() < 0.5
        starts_inside = all((-(-(d + 2 * p - k) // s)) * s - p < d for d, p, k, s in zip((h, w), pad, pool, stride))
        if ceil and not starts_inside:
            continue
        attrs = {"pool_size": pool, "strides": stride, "padding": pad, "ceil_mode": ceil}
        Case("max_pool2d", (x, 20), **attrs).check(ctx, max_pool(x, pool, stride, pad, ceil), 20)


def test_max_pool2d_one_padding_item(ctx: cvm.Context) -> None:
    x = random_values(np.random.default_rng(1), (1, 2, 7, 6), 8)
    expected = max_pool(x, (3, 3), (2, 2), (1, 1), False)
    Case("max_pool2d", (x, 8), pool_size=(3, 3), strides=(2, 2), padding="1").check(ctx, expected)


def test_upsampling(ctx: cvm.Context) -> None:
    x = random_values(np.random.default_rng(1), (2, 3, 4, 5), 8)
    Case("upsampling", (x, 8), scale=3).check(ctx, x.repeat(3, 2).repeat(3, 3), 8)


def test_repeat_tile(ctx: cvm.Context) -> None:
    for rng in rngs("repeat"):
        x = random_values(rng, shape_of(rng, most=4), 8)
        axis, n = int(rng.integers(-x.ndim, x.ndim)), int(rng.integers(1, 4))
        Case("repeat", (x, 8), repeats=n, axis=axis).check(ctx, x.repeat(n, axis))
        reps = tuple(int(r) for r in rng.integers(1, 4, rng.integers(1, 5)))
        Case("tile", (x, 8), reps=reps).check(ctx, np.tile(x, reps))


def test_concatenate(ctx: cvm.Context) -> None:
    for rng in rngs("concat"):
        shape = list(shape_of(rng, int(rng.integers(2, 5))))
        axis = int(rng.integers(-len(shape), len(shape)))
        parts = []
        for _ in range(int(rng.integers(1, 5))):
            shape[axis] = int(rng.integers(1, 5))
            parts.append((random_values(rng, tuple(shape), 9), int(rng.integers(9, 12))))
        expected = np.concatenate([v for v, _ in parts], axis)
        Case("concatenate", *parts, axis=axis).check(ctx, expected, max(p for _, p in parts))


@pytest.mark.parametrize(
    "attrs,shape",
    [
        ({"axis": 1}, (3, 1, 4)),
        ({"axis": -1, "num_newaxis": 2}, (3, 4, 1, 1)),
        ({"axis": -3}, (1, 3, 4)),
        ({"axis": 2}, (3, 4, 1)),
    ],
)
def test_expand_dims(ctx: cvm.Context, attrs: dict, shape: tuple[int, ...]) -> None:
    x = np.arange(12, dtype=np.int32).reshape(3, 4)
    Case("expand_dims", (x, 8), **attrs).check(ctx, x.reshape(shape))


@pytest.mark.parametrize(
    "items,shape",
    [
        ((6, 4), (6, 4)),
        ((-1,), (24,)),
        ((0, -1), (2, 12)),
        ((-2,), (2, 3, 4)),
        ((-3, 4), (6, 4)),
        ((0, -3), (2, 12)),
        ((-4, 1, 2, -2), (1, 2, 3, 4)),
        ((0, 0, -4, -1, 2), (2, 3, 2, 2)),
        ((-9, -1, 4), None),  # the slot of -1 is 1, which 4 took: sizes differ
        ((24, -9), (24,)),  # items below -4 emit nothing
        ("24", (24,)),
        ("[ 2L , 12L , ]", (2, 12)),
    ],
)
def test_reshape(ctx: cvm.Context, items: Any, shape: tuple[int, ...] | None) -> None:
    x = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    case = Case("reshape", (x, 8), shape=items)
    if shape is not None:
        case.check(ctx, x.reshape(shape))
        return
    with pytest.raises(cvm.CvmLogicError):
        case.run(ctx, (6, 4))


def test_squeeze(ctx: cvm.Context) -> None:
    x = np.arange(12, dtype=np.int32).reshape(1, 3, 1, 4)
    Case("squeeze", (x, 8)).check(ctx, x.reshape(3, 4))
    Case("squeeze", (x, 8), axis=(-2, 2)).check(ctx, x.reshape(1, 3, 4))
    Case("squeeze", (x[:, :1, :, :1], 8)).check(ctx, x.ravel()[:1])


def test_transpose(ctx: cvm.Context) -> None:
    for rng in rngs("transpose"):
        x = random_values(rng, shape_of(rng), 16)
        axes = tuple(int(a) for a in rng.permutation(x.ndim))
        Case("transpose", (x, 16)).check(ctx, x.transpose())
        written = tuple(a - x.ndim if rng.random() < 0.5 else a for a in axes)
        Case("transpose", (x, 16), axes=written).check(ctx, x.transpose(axes))


def test_strided_slice(ctx: cvm.Context) -> None:
    done = 0
    for rng in rngs("slice") * 4:
        x = random_values(rng, shape_of(rng), 8)
        n = int(rng.integers(1, x.ndim + 1))
        begin, end = ([int(v) for v in rng.integers(-8, 9, n)] for _ in range(2))
        stride = [int(v) for v in rng.choice([-2, -1, 1, 2, 3], n)]
        index = []
        for b, e, s, d in zip(begin, end, stride, x.shape):
            low, high = (-1, d - 1) if s < 0 else (0, d)
            b, e = (min(max(v + d if v < 0 else v, low), high) for v in (b, e))
            index.append(np.arange(b, e, s))
        if any(len(i) == 0 for i in index):
            continue
        index += [np.arange(d) for d in x.shape[n:]]
        case = Case("strided_slice", (x, 8), begin=tuple(begin), end=tuple(end), stride=tuple(stride))
        case.check(ctx, x[np.ix_(*index)])
        done += 1
    assert done > 3


def test_strided_slice_defaults_and_huge_steps(ctx: cvm.Context) -> None:
    x = np.arange(12, dtype=np.int32).reshape(3, 4)
    Case("strided_slice", (x, 8)).check(ctx, x[:1])
    huge = Case("strided_slice", (x, 8), begin=(0,), end=(3,), stride=(2**62,))
    huge.check(ctx, x[:1])
    lowest = Case("strided_slice", (x, 8), begin=(2,), end=(-4,), stride=(-(2**63),))
    lowest.check(ctx, x[2:])


def test_slice_like(ctx: cvm.Context) -> None:
    x = np.arange(60, dtype=np.int32).reshape(3, 4, 5)
    like = np.zeros((2, 3, 4), np.int32)
    Case("slice_like", (x, 8), (like, 30)).check(ctx, x[:2, :3, :4], 8)
    Case("slice_like", (x, 8), (like, 30), axis=(-1, 0)).check(ctx, x[:2, :, :4], 8)


def test_take(ctx: cvm.Context) -> None:
    for rng in rngs("take"):
        x = random_values(rng, shape_of(rng, int(rng.integers(1, 4))), 12)
        i = rng.integers(-3, 9, shape_of(rng, int(rng.integers(1, 3)))).astype(np.int32)
        flat = x.ravel()[np.clip(i, 0, x.size - 1)]
        Case("take", (x, 12), (i, 8)).check(ctx, flat, 12)
        Case("take", (x, 12), (i, 8), axis="None").check(ctx, flat, 12)
        axis = int(rng.integers(-x.ndim, x.ndim))
        expected = np.take(x, np.clip(i, 0, x.shape[axis] - 1), axis)
        Case("take", (x, 12), (i, 8), axis=axis).check(ctx, expected, 12)


def test_cvm_lut(ctx: cvm.Context) -> None:
    rng = np.random.default_rng(0)
    x, table = random_values(rng, (4, 30), 8), random_values(rng, (100,), 16)
    expected = table[np.clip(x, 0, 99)]
    Case("cvm_lut", (x, 8), (table, 16), in_dim=100).check(ctx, expected, 16)


def test_where(ctx: cvm.Context) -> None:
    rng = np.random.default_rng(0)
    c = random_values(rng, (3, 4), 2)
    a, b = random_values(rng, (3, 4), 20), random_values(rng, (3, 4), 20)
    Case("where", (c, 2), (a, 20), (b, 20)).check(ctx, np.where(c != 0, a, b), 2)
    slabs = np.array([0, -1, 1], np.int32)
    expected = np.where(slabs[:, None] != 0, a, b)
    Case("where", (slabs, 2), (a, 20), (b, 20)).check(ctx, expected, 2)


def test_unsound_where_feeds_conv2d(ctx: cvm.Context) -> None:
    """`where` declares the bits of its condition; conv2d must not narrow what it is given."""
    rng = np.random.default_rng(0)
    g = GraphWriter()
    c = g.data((1, 2, 5, 5), 8)
    a, b = (random_values(rng, (1, 2, 5, 5), 30) for _ in range(2))
    w = random_values(rng, (3, 2, 3, 3), 8)
    wide = g.op("where", [c, g.param("a", a, 30), g.param("b", b, 30)], (1, 2, 5, 5))
    y = g.op("conv2d", [wide, g.param("w", w, 8)], (1, 3, 3, 3), channels=3, kernel_size=(3, 3), use_bias=False)
    x = random_values(rng, (1, 2, 5, 5), 2)
    expected = wrap(conv2d(np.where(x != 0, a, b), w, None, (1, 1), (0, 0), (1, 1), 1))
    assert np.array_equal(cvm.load(*g.build([y]), ctx).run(x)[0], expected)


def test_unsound_greater_shifted_into_the_sign(ctx: cvm.Context) -> None:
    g = GraphWriter()
    x = g.data((2,), 1)
    one = g.op("broadcast_greater", [x, g.param("m", np.array([-1, 1]), 2)], (2,))
    y = g.op("cvm_left_shift", [one], (2,), precision=32, shift_bit=31)
    assert cvm.load(*g.build([y]), ctx).run(np.zeros(2, int))[0].tolist() == [-(2**31 - 1), 0]


def test_get_valid_counts(ctx: cvm.Context) -> None:
    for rng in rngs("gvc"):
        b, n, k = int(rng.integers(1, 4)), int(rng.integers(1, 20)), int(rng.integers(2, 8))
        x = random_values(rng, (b, n, k), 10)
        threshold = int(rng.integers(-100, 100))
        counts, rows = np.zeros(b, int), np.full_like(x, -1)
        for i in range(b):
            kept = x[i][x[i, :, 1] > threshold]
            counts[i], rows[i, : len(kept)] = len(kept), kept
        case = Case("get_valid_counts", (x, 10), score_threshold=threshold)
        found = case.run(ctx, (b,), (b, n, k))
        assert np.array_equal(found[0], counts)
        assert np.array_equal(found[1], rows)
        assert case.precisions == [(n * k + 1).bit_length() + 1, 10]


def iou(r: np.ndarray, s: np.ndarray) -> int:
    r, s = [int(v) for v in r], [int(v) for v in s]
    total = (r[4] - r[2]) * (r[5] - r[3]) + (s[4] - s[2]) * (s[5] - s[3])
    if total <= 0:
        return 0
    both = max(0, min(r[4], s[4]) - max(r[2], s[2])) * max(0, min(r[5], s[5]) - max(r[3], s[3]))
    either = total - both
    if either <= 0:
        return 0
    if both > (2**63 - 1) // 100:
        return both // (either // 100)
    return both * 100 // either


def nms(x: np.ndarray, valid: np.ndarray, most: int, threshold: int, force: bool, top_k: int) -> np.ndarray:
    y = np.full_like(x, -1)
    for b in range(len(x)):
        t = min(max(int(valid[b]), 0), x.shape[1])
        rows = sorted(x[b, :t], key=lambda r: -int(r[1]))
        kept: list[np.ndarray] = []
        for row in rows[: t if top_k < 0 else min(t, top_k)]:
            if len(kept) >= (t if most < 0 else min(t, most)):
                break
            others = [k for k in kept if force or k[0] == row[0]]
            if row[0] >= 0 and all(iou(row, k) < threshold for k in others):
                kept.append(row)
        if kept:
            y[b, : len(kept)] = kept
    return y


def test_non_max_suppression(ctx: cvm.Context) -> None:
    for rng in rngs("nms") + rngs("nms2"):
        b, n, p = int(rng.integers(1, 4)), int(rng.integers(1, 40)), int(rng.choice([8, 16, 31]))
        side = int_range(p) // 2
        x = np.empty((b, n, 6), np.int32)
        x[..., 0] = rng.integers(-1, 3, (b, n))
        x[..., 1] = rng.integers(0, 10, (b, n))  # many ties
        x[..., 2:4] = rng.integers(-side, side // 4, (b, n, 2))
        x[..., 4:6] = x[..., 2:4] + rng.integers(-side // 10 - 1, side, (b, n, 2))
        valid = rng.integers(-2, n + 3, (b,)).astype(np.int32)
        attrs = {
            "max_output_size": int(rng.choice([-1, 0, 1, 5])),
            "iou_threshold": int(rng.choice([1, 30, 50, 100, 101])),
            "force_suppress": bool(rng.random() < 0.5),
            "top_k": int(rng.choice([-1, 0, 3, 20])),
        }
        expected = nms(x, valid, attrs["max_output_size"], attrs["iou_threshold"], attrs["force_suppress"], attrs["top_k"])
        Case("non_max_suppression", (x, p), (valid, 8), **attrs).check(ctx, expected, p)


# ---- the edges that the specification names ---------------------------------

TOP = 2**31 - 1
BOX = [0, 9, 0, 0, 10, 10]
FILLER = [-1] * 6


def int32(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


def rows(*boxes: list[int]) -> np.ndarray:
    return np.array([boxes], np.int32)


# Operator, inputs with their precisions, attributes, output, its precision.
EDGES: list[tuple[str, list[tuple[np.ndarray, int]], dict[str, Any], Any, int]] = [
    ("broadcast_div", [(int32(-7, 7, -7, 7, 0), 8), (int32(2, -2, -2, 0, 0), 8)], {}, [-3, -3, 3, 0, 0], 8),
    ("broadcast_div", [(int32(TOP, -TOP), 32), (int32(-1), 2)], {}, [-TOP, TOP], 32),
    ("broadcast_greater", [(int32(0, 0), 1), (int32(-1, 0), 2)], {}, [1, 0], 1),  # 1 is not in Int(1)
    ("broadcast_add", [(np.ones((3, 1), np.int32), 2), (np.ones((2, 1, 4), np.int32), 2)], {}, np.full((2, 3, 4), 2), 3),
    ("cvm_precision", [(int32(0, 1, 2, -3, 4, TOP, -TOP), 32)], {}, [1, 1, 2, 2, 3, 31, 31], 6),
    ("abs", [(int32(-TOP, TOP, 0), 32)], {}, [TOP, TOP, 0], 32),
    ("negative", [(int32(-TOP, TOP, 0), 32)], {}, [TOP, -TOP, 0], 32),
    ("clip", [(int32(-TOP, TOP), 32)], {"a_min": -(2**31 - 2), "a_max": 0}, [-(2**31 - 2), 0], 32),
    ("clip", [(int32(1, 0, -1), 2)], {"a_min": 5, "a_max": 126}, [5, 5, 5], 8),  # may raise the precision
    ("cvm_clip", [(int32(-TOP, 3), 32)], {"precision": 1}, [0, 0], 1),
    ("cvm_right_shift", [(int32(TOP), 32)], {"precision": 32, "shift_bit": 1}, [-(2**30)], 32),  # wraps
    ("cvm_right_shift", [(int32(TOP, -TOP, 2**30 - 1, 5), 32)], {"precision": 8, "shift_bit": 31}, [1, -1, 0, 0], 8),
    ("cvm_right_shift", [(int32(TOP, -TOP), 32)], {"precision": 32, "shift_bit": 32}, [0, 0], 32),
    ("cvm_left_shift", [(int32(0), 1)], {"precision": 32, "shift_bit": 31}, [0], 32),
    ("cvm_left_shift", [(int32(1, -1), 2)], {"precision": 32, "shift_bit": 30}, [2**30, -(2**30)], 32),
    # A kept axis of extent 1 between reduced ones, where the original's CPU kernel failed.
    ("sum", [(np.arange(30, dtype=np.int32).reshape(2, 5, 1, 3), 6)], {"axis": (1, 3)}, [[105], [330]], 10),
    ("sum", [(int32([1, 2], [3, 4]), 8)], {"axis": (0, 1), "exclude": True, "keepdims": True}, [[1, 2], [3, 4]], 9),
    ("sum", [(int32([1, 2], [3, 4]), 8)], {"exclude": True}, [10], 11),  # no axis: all, whatever exclude says
    ("max", [(int32([-5, -3]), 8)], {"keepdims": True}, [[0]], 8),
    ("max", [(int32([-5, -3]), 8)], {"axis": (-1,)}, [-3], 8),
    ("concatenate", [(int32([1], [2]), 8), (int32([3], [4]), 9)], {}, [[1, 3], [2, 4]], 9),
    ("concatenate", [(int32([1, 2]), 8)], {"axis": -1}, [[1, 2]], 8),
    ("flatten", [(int32(1, 2), 8)], {}, [[1], [2]], 8),
    ("squeeze", [(int32([[7]]), 8)], {}, [7], 8),
    ("take", [(int32(5, 6, 7), 8), (int32(-9, 0, 2, 99), 8)], {}, [5, 5, 7, 7], 8),
    ("take", [(int32([5, 6], [7, 8]), 8), (int32([-1, 9]), 8)], {"axis": -1}, [[[5, 6]], [[7, 8]]], 8),
    ("cvm_lut", [(int32(-9, 0, 2, 99), 8), (int32([5, 6, 7]), 12)], {"in_dim": 3}, [5, 5, 7, 7], 12),
    ("where", [(int32(0, -4), 4), (int32([[1, 2]], [[3, 4]]), 9), (int32([[5, 6]], [[7, 8]]), 9)], {}, [[[5, 6]], [[3, 4]]], 4),
    ("strided_slice", [(np.arange(4, dtype=np.int32), 8)], {"begin": (-1,), "end": (-5,), "stride": (-2,)}, [3, 1], 8),
    ("repeat", [(int32([1, 2]), 8)], {"repeats": 2}, [[1, 2], [1, 2]], 8),
    ("tile", [(int32(1, 2), 8)], {"reps": (2, 1, 2)}, [[[1, 2, 1, 2]], [[1, 2, 1, 2]]], 8),
    # Best first, ties in their order; no more than is valid; equal boxes only within a class.
    ("non_max_suppression", [(rows(BOX, [1, *BOX[1:]], BOX), 8), (int32(3), 8)], {}, rows(BOX, [1, *BOX[1:]], FILLER), 8),
    ("non_max_suppression", [(rows(BOX, BOX), 8), (int32(2), 8)], {"iou_threshold": 101}, rows(BOX, BOX), 8),
    ("non_max_suppression", [(rows(BOX, BOX), 8), (int32(0), 8)], {}, rows(FILLER, FILLER), 8),
    ("non_max_suppression", [(rows(BOX, BOX), 8), (int32(2), 8)], {"max_output_size": 0}, rows(FILLER, FILLER), 8),
    ("non_max_suppression", [(rows([-1, *BOX[1:]], BOX), 8), (int32(2), 8)], {"top_k": 1}, rows(FILLER, FILLER), 8),
    ("non_max_suppression", [(rows([0, 1, 9, 9, 0, 0], BOX), 8), (int32(2), 8)], {}, rows(BOX, [0, 1, 9, 9, 0, 0]), 8),
]


@pytest.mark.parametrize("edge", range(len(EDGES)), ids=lambda k: f"{EDGES[k][0]}-{k}")
def test_edge(ctx: cvm.Context, edge: int) -> None:
    name, inputs, attrs, expected, precision = EDGES[edge]
    Case(name, *inputs, **attrs).check(ctx, np.array(expected), precision)


def test_get_valid_counts_is_strict(ctx: cvm.Context) -> None:
    x = rows([5, 0], [6, 1], [7, -1], [8, 2])
    counts, kept = Case("get_valid_counts", (x, 8)).run(ctx, (1,), x.shape)
    assert counts.tolist() == [2]
    assert kept.tolist() == [[[6, 1], [8, 2], [-1, -1], [-1, -1]]]


def test_a_batch_without_boxes_does_not_end_the_next(ctx: cvm.Context) -> None:
    x = np.array([[BOX], [BOX]], np.int32)
    Case("non_max_suppression", (x, 8), (int32(0, 1), 8)).check(ctx, np.array([[FILLER], [BOX]]))
