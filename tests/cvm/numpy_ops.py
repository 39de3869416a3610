"""All operators in numpy, written from the specification: a second opinion on whole graphs."""

from __future__ import annotations

import ast
from typing import Any, Callable

import numpy as np
from graphs import GraphWriter, int_range


def wrap(x: np.ndarray) -> np.ndarray:
    """Two's complement modulo 2^32."""
    return np.asarray(x, np.int64).astype(np.uint32).astype(np.int32)


def clamp(x: np.ndarray, precision: int) -> np.ndarray:
    return np.clip(x, -int_range(precision), int_range(precision))


def round_shift(x: np.ndarray, shift: int) -> np.ndarray:
    half = wrap((x.astype(np.int64) >> (shift - 1)) + 1)
    return half >> 1


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = np.broadcast_arrays(a.astype(np.int64), b.astype(np.int64))
    q = np.abs(a) // np.maximum(np.abs(b), 1)
    return np.where(b == 0, 0, np.sign(a) * np.sign(b) * q)


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
