"""Operators element by element, with broadcasting and over axes, against numpy written from the specification."""

from __future__ import annotations

from typing import Callable

import numpy as np
import pytest
from graphs import GraphWriter, random_values
from numpy_ops import clamp, divide, round_shift
from operator_case import Case, rngs, shape_of

import cvm_runtime as cvm

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


def test_unsound_greater_shifted_into_the_sign(ctx: cvm.Context) -> None:
    g = GraphWriter()
    x = g.data((2,), 1)
    one = g.op("broadcast_greater", [x, g.param("m", np.array([-1, 1]), 2)], (2,))
    y = g.op("cvm_left_shift", [one], (2,), precision=32, shift_bit=31)
    assert cvm.load(*g.build([y]), ctx).run(np.zeros(2, int))[0].tolist() == [-(2**31 - 1), 0]
