"""Convolution, dense layers and pooling against numpy written from the specification."""

from __future__ import annotations

import numpy as np
from graphs import GraphWriter, random_values
from numpy_ops import conv2d, max_pool, wrap
from operator_case import Case, pair, rngs

import cvm_runtime as cvm


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
