"""Operators on boxes against numpy written from the specification."""

from __future__ import annotations

import numpy as np
from graphs import int_range, random_values
from numpy_ops import nms
from operator_case import Case, rngs

import cvm_runtime as cvm


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
