"""Thresholds: a bound for the absolute value of every tensor, from data that flows through the float network.

Statistics accumulate over batches in constant memory, whatever their number and order; parameters are measured once, by
their largest absolute value.
"""
from typing import NamedTuple

import numpy as np

from mrt.errors import MRTError
from mrt.graph import invoke
from mrt.mxnet_bridge import mx

__all__ = ["METHODS", "Channels", "Statistics", "channels", "observe", "thresholds"]

METHODS = ("absmax", "lambda")
PEAK_DEVIATIONS = 8


class Statistics:
    """Count, sum, sum of squares and largest absolute value of all elements of one tensor over all batches; and for every
    channel (axis 1; None for vectors) sum, sum of squares, largest absolute value, and how the latter varies from sample to
    sample."""

    __slots__ = ("absmax", "channel_absmax", "channel_squares", "channel_sums", "count", "peak_squares", "peak_sums", "samples",
                 "squares", "total")

    def __init__(self):
        self.count, self.total, self.squares, self.absmax = 0, 0.0, 0.0, 0.0
        self.channel_sums = self.channel_squares = self.channel_absmax = self.peak_sums = self.peak_squares = None
        self.samples = 0

    def update(self, values):
        self.count += values.size
        self.total += float(values.sum(dtype=np.float64))
        self.squares += float(np.einsum("i,i->", values.ravel(), values.ravel(), dtype=np.float64))
        self.absmax = max(self.absmax, float(np.abs(values).max(initial=0)))
        if values.ndim > 1:
            others = tuple(i for i in range(values.ndim) if i != 1)
            sums, squares = values.sum(axis=others, dtype=np.float64), np.square(values, dtype=np.float64).sum(axis=others)
            peaks = np.abs(values).reshape(values.shape[:2] + (-1,)).max(axis=2).astype(np.float64)
            self.samples += len(values)
            if self.channel_sums is None:
                self.channel_sums, self.channel_squares = np.zeros_like(sums), np.zeros_like(sums)
                self.channel_absmax, self.peak_sums, self.peak_squares = (np.zeros_like(sums) for _ in range(3))
            self.channel_sums += sums
            self.channel_squares += squares
            self.peak_sums += peaks.sum(axis=0)
            self.peak_squares += (peaks ** 2).sum(axis=0)
            self.channel_absmax = np.maximum(self.channel_absmax, peaks.max(axis=0))

    def channel_bound(self):
        """What the largest absolute value of every channel may reach in data not seen: mean + 8 standard deviations of its
        largest value per sample, if that is more than was seen. Channels that few samples excite thus keep room."""
        mean = self.peak_sums / self.samples
        deviation = np.sqrt(np.maximum(self.peak_squares / self.samples - mean ** 2, 0))
        return np.maximum(self.channel_absmax, mean + PEAK_DEVIATIONS * deviation)

    def threshold(self, method, lambd):
        """absmax: the largest absolute value. lambda: |mean| + lambd * standard deviation where that is below 0.95 of it."""
        if method == "absmax":
            return self.absmax
        mean = self.total / self.count
        alpha = abs(mean) + lambd * max(self.squares / self.count - mean * mean, 0.0) ** 0.5
        return alpha if alpha < 0.95 * self.absmax else self.absmax


def observe(graph, data, statistics, ctx):
    """Run a prepared graph on one batch (NDArray or numpy, the shape of `data`) in float32 and update `statistics`
    (name -> Statistics, filled here) for every node that is not a parameter.

    Nodes run one by one and a result is dropped after its last consumer, so memory holds the live tensors, not the network.
    """
    waiting = {node: len(users) for node, users in graph.consumers().items()}
    values = {}
    for node in graph.topological():
        if graph.is_param(node):
            continue
        if node.is_variable:
            results = [mx.nd.array(data, dtype="float32", ctx=ctx)]
        else:
            results = invoke(node, [_value(graph, values, e, ctx) for e in node.inputs])
        found = results[0].asnumpy()
        if not np.isfinite(found).all():
            raise MRTError(f"{_origin(node)} holds values that are not finite; "
                           "look for a wrong preprocessing or a diverged network")
        statistics.setdefault(node.name, Statistics()).update(found)
        values[node] = results
        for entry in node.inputs:
            waiting[entry.node] -= 1
            if waiting[entry.node] == 0:
                values.pop(entry.node, None)


def thresholds(graph, statistics, method="absmax", lambd=None):
    """name -> threshold for every node of the graph, in topological order."""
    if method not in METHODS:
        raise MRTError(f"unknown calibration method {method!r}; known are {', '.join(METHODS)}")
    if method == "lambda" and (lambd is None or not lambd > 0):
        raise MRTError(f"the calibration method lambda needs a positive lambd, found {lambd}")
    return {node.name: float(np.abs(graph.params[node.name]).max(initial=0)) if graph.is_param(node)
            else statistics[node.name].threshold(method, lambd) for node in graph.topological()}


class Channels(NamedTuple):
    """What calibration knows of every channel of a tensor: mean, mean square, largest absolute value; float64 vectors."""
    mean: np.ndarray
    square: np.ndarray
    absmax: np.ndarray


def channels(graph, statistics):
    """name -> Channels, for the tensors that feed layers with weights."""
    feeds = {node.inputs[0].node for node in graph.topological() if node.op in ("Convolution", "FullyConnected")}
    found = {}
    for node in graph.topological():
        seen = statistics.get(node.name) if node in feeds else None
        if seen is not None and seen.channel_sums is not None:
            per_channel = seen.count / len(seen.channel_sums)
            found[node.name] = Channels(seen.channel_sums / per_channel, seen.channel_squares / per_channel, seen.channel_bound())
    return found


def _value(graph, values, entry, ctx):
    if graph.is_param(entry.node):
        return mx.nd.array(graph.params[entry.node.name], dtype="float32", ctx=ctx)
    return values[entry.node][entry.index]


def _origin(node):
    return "the calibration data" if node.is_variable else f"the output of {node.name} ({node.kind}) on the calibration data"
