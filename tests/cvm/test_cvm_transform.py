"""Operators that move or select values against numpy written from the specification."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import random_values
from operator_case import Case, rngs, shape_of

import cvm_runtime as cvm


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
