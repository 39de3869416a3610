"""All operators in numpy, written from the specification: a second opinion on whole graphs."""

from __future__ import annotations

import ast
from typing import Any, Callable

import numpy as np
from graphs import GraphWriter
from test_cvm_operators import clamp, conv2d, divide, max_pool, nms, round_shift, wrap

OPS: dict[str, Callable[..., Any]] = {
    "relu": lambda a, x: np.maximum(x, 0),
    "abs": lambda a, x: np.abs(x),
    "negative": lambda a, x: -x,
    "elemwise_add": lambda a, x, y: x + y,
    "elemwise_sub": lambda a, x, y: x - y,
    "broadcast_add": lambda a, x, y: x + y,
    "broadcast_sub": lambda a, x, y: x - y,
    "broadcast_mul": lambda a, x, y: x * y,
    "broadcast_div": lambda a, x, y: divide(x, y),
    "broadcast_max": lambda a, x, y: np.maximum(x, y),
    "broadcast_greater": lambda a, x, y: (x > y) * 1,
    "clip": lambda a, x: np.clip(x, a["a_min"], a["a_max"]),
    "cvm_clip": lambda a, x: clamp(x, a["precision"]),
    "cvm_right_shift": lambda a, x: clamp(round_shift(x, a["shift_bit"]), a["precision"]),
    "cvm_left_shift": lambda a, x: clamp(wrap(x << a["shift_bit"]), a["precision"]),
    "dense": lambda a, x, w, b=0: x @ w.T + b,
    "upsampling": lambda a, x: x.repeat(a["scale"], 2).repeat(a["scale"], 3),
    "flatten": lambda a, x: x.reshape(x.shape[0], -1),
    "repeat": lambda a, x: x.repeat(a["repeats"], a.get("axis", 0)),
    "tile": lambda a, x: np.tile(x, a["reps"]),
    "concatenate": lambda a, *x: np.concatenate(x, a.get("axis", 1)),
    "transpose": lambda a, x: x.transpose(a.get("axes") or None),
    "squeeze": lambda a, x: np.atleast_1d(x.squeeze(a.get("axis"))),
    "cvm_lut": lambda a, x, table: table.ravel()[np.clip(x, 0, table.size - 1)],
}


def op(function: Callable[..., Any]) -> Callable[..., Any]:
    OPS[function.__name__] = function
    return function


@op
def cvm_precision(a: dict, x: np.ndarray) -> np.ndarray:
    bits = [max(abs(int(v)).bit_length(), 1) for v in x.ravel()]
    return np.array(bits).reshape(x.shape)


@op
def expand_dims(a: dict, x: np.ndarray) -> np.ndarray:
    at = a["axis"] + x.ndim + 1 if a["axis"] < 0 else a["axis"]
    return x.reshape(x.shape[:at] + (1,) * a.get("num_newaxis", 1) + x.shape[at:])


@op
def reshape(a: dict, x: np.ndarray) -> np.ndarray:
    out: list[int] = []
    source = list(x.shape)
    items = list(a["shape"])
    while items:
        v = items.pop(0)
        if v == -2:
            out += source
            source = []
        elif v == -3:
            out.append(source.pop(0) * source.pop(0))
        elif v == -4:
            whole, p, q = source.pop(0), items.pop(0), items.pop(0)
            out += [whole // q if p == -1 else p, whole // p if q == -1 else q]
        elif v >= -1:
            extent = source.pop(0) if source else 0
            out.append(extent if v == 0 else v)
    return x.reshape(out)


@op
def strided_slice(a: dict, x: np.ndarray) -> np.ndarray:
    index = []
    for k, d in enumerate(x.shape):
        begin, end, step = (
            items[k] if k < len(items) else default
            for items, default in ((a.get("begin", (0,)), 0), (a.get("end", (1,)), d), (a.get("stride", ()), 1))
        )
        low, high = (-1, d - 1) if step < 0 else (0, d)
        first, last = (min(max(v + d if v < 0 else v, low), high) for v in (begin, end))
        index.append(np.arange(first, last, step))
    return x[np.ix_(*index)]


@op
def slice_like(a: dict, x: np.ndarray, like: np.ndarray) -> np.ndarray:
    axes = [k % x.ndim for k in a.get("axis", ())] or range(x.ndim)
    return x[tuple(slice(like.shape[k] if k in axes else None) for k in range(x.ndim))]


@op
def take(a: dict, x: np.ndarray, i: np.ndarray) -> np.ndarray:
    axis = a.get("axis")
    extent = x.size if axis is None else x.shape[axis]
    return np.take(x, np.clip(i, 0, extent - 1), axis)


@op
def where(a: dict, c: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if c.shape != x.shape:
        c = c.reshape(-1, *[1] * (x.ndim - 1))
    return np.where(c != 0, x, y)


def reduced(a: dict, x: np.ndarray, fold: Callable[..., np.ndarray]) -> np.ndarray:
    axes = {k % x.ndim for k in a.get("axis", ())} or set(range(x.ndim))
    if a.get("axis") and a.get("exclude"):
        axes = set(range(x.ndim)) - axes
    return np.atleast_1d(fold(x, axis=tuple(axes), keepdims=bool(a.get("keepdims")))) if axes else x


def maximum(a: dict, x: np.ndarray) -> np.ndarray:
    y = reduced(a, x, np.max)
    return y if a.get("axis") or a.get("exclude") else np.maximum(y, 0)  # the odd corner


OPS["sum"] = lambda a, x: reduced(a, x, np.sum)
OPS["max"] = maximum


@op
def max_pool2d(a: dict, x: np.ndarray) -> np.ndarray:
    padding = tuple(a.get("padding", (0, 0)))
    padding = padding * 2 if len(padding) == 1 else padding
    return max_pool(x, a["pool_size"], a.get("strides", (1, 1)), padding, a.get("ceil_mode", False))


def convolution(a: dict, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    return conv2d(x, w, b, a["strides"], a["padding"], a["dilation"], a["groups"])


OPS["conv2d"] = convolution


@op
def get_valid_counts(a: dict, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts, rows = np.zeros(len(x), np.int64), np.full_like(x, -1)
    for i, image in enumerate(x):
        kept = image[image[:, 1] > a.get("score_threshold", 0)]
        counts[i], rows[i, : len(kept)] = len(kept), kept
    return counts, rows


@op
def non_max_suppression(a: dict, x: np.ndarray, valid: np.ndarray) -> np.ndarray:
    most, top_k = a.get("max_output_size", -1), a.get("top_k", -1)
    return nms(x, valid, most, a.get("iou_threshold", 50), a.get("force_suppress", False), top_k)


def evaluate(g: GraphWriter, x: np.ndarray) -> list[list[np.ndarray]]:
    """The outputs of every node; int64 inside an operator, int32 between them."""
    values: list[list[np.ndarray]] = []
    for node, text in zip(g.nodes, g.op_attrs):
        if node["op"] == "null":
            values.append([(x if node["name"] == "data" else g.params[node["name"]]).astype(np.int64)])
            continue
        attrs = {k: v if k == "is_sign" else ast.literal_eval(v) for k, v in ast.literal_eval(text).items()}
        result = OPS[node["attrs"]["func_name"]](attrs, *[values[n][k] for n, k, _ in node["inputs"]])
        outputs = result if isinstance(result, tuple) else (result,)
        values.append([wrap(y).astype(np.int64) for y in outputs])
    return values
