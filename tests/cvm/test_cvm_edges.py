"""The edges of operators that the specification names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from operator_case import Case

import cvm_runtime as cvm

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
