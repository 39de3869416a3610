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
PART_ELEMENTS = 1 << 22


class Statistics:
    """What is kept of one tensor over all batches: for every channel (axis 1; a vector is one channel) the number of samples,
    and sum, sum of squares, largest absolute value, and how the latter varies from sample to sample."""

    __slots__ = ("absmax", "count", "peak_squares", "peak_sums", "samples", "squares", "sums")

    def __init__(self):
        self.samples = self.count = 0
        self.sums = self.squares = self.absmax = self.peak_sums = self.peak_squares = 0.0

    def update(self, values):
        """`values`: float32 array whose axis 0 is the batch. Sums run in float32 within one sample's channel, as BLAS forms
        them, and in float64 beyond."""
        rows = np.ascontiguousarray(values).reshape(values.shape[:2] + (-1,)) if values.ndim > 1 else values.reshape(1, 1, -1)
        ones = np.ones((rows.shape[2], 1), rows.dtype)
        sums = np.matmul(rows, ones)[:, :, 0].astype(np.float64)
        squares = np.matmul(rows[:, :, None, :], rows[:, :, :, None])[:, :, 0, 0].astype(np.float64)
        peaks = np.maximum(rows.max(axis=2), -rows.min(axis=2)).astype(np.float64)
        self.samples += len(rows)
        self.count += rows.size
        self.sums += sums.sum(axis=0)
        self.squares += squares.sum(axis=0)
        self.peak_sums += peaks.sum(axis=0)
        self.peak_squares += (peaks ** 2).sum(axis=0)
        self.absmax = np.maximum(self.absmax, peaks.max(axis=0))

    def threshold(self, method, lambd):
        """absmax: the largest absolute value. lambda: |mean| + lambd * standard deviation where that is below 0.95 of it."""
        largest = float(self.absmax.max())
        if method == "absmax":
            return largest
        mean = self.sums.sum() / self.count
        alpha = abs(mean) + lambd * max(self.squares.sum() / self.count - mean * mean, 0.0) ** 0.5
        return float(alpha) if alpha < 0.95 * largest else largest

    def channels(self):
        """The Channels of this tensor.

        The bound is the largest value seen or, if that is more, mean + 8 standard deviations of a sample's largest value:
        channels that few samples excite keep room for samples not seen.
        """
        per_channel = self.count / len(self.sums)
        mean = self.peak_sums / self.samples
        deviation = np.sqrt(np.maximum(self.peak_squares / self.samples - mean ** 2, 0))
        bound = np.maximum(self.absmax, mean + PEAK_DEVIATIONS * deviation)
        return Channels(self.sums / per_channel, self.squares / per_channel, bound)


class Channels(NamedTuple):
    """What calibration knows of every channel of a tensor: mean, mean square, bound of the absolute value; float64 vectors."""
    mean: np.ndarray
    square: np.ndarray
    bound: np.ndarray


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
        seen = statistics.setdefault(node.name, Statistics())
        for part in _parts(results[0]):
            seen.update(part)
        if not np.isfinite(seen.absmax).all():
            raise MRTError(f"{_origin(node)} holds values that are not finite; "
                           "look for a wrong preprocessing or a diverged network")
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
    return {node.name: _absmax(graph.params[node.name]) if graph.is_param(node)
            else statistics[node.name].threshold(method, lambd) for node in graph.topological()}


def channels(graph, statistics):
    """name -> Channels, for the tensors that feed layers with weights."""
    feeds = {node.inputs[0].node for node in graph.topological() if node.op in ("Convolution", "FullyConnected")}
    return {node.name: statistics[node.name].channels() for node in graph.topological()
            if node in feeds and node.name in statistics}


def _parts(tensor):
    """The tensor as numpy arrays of a few samples each, so that no second copy of a large one is made."""
    samples = max(1, PART_ELEMENTS // max(tensor.size // max(len(tensor), 1), 1))
    for i in range(0, len(tensor), samples):
        yield tensor[i:i + samples].asnumpy()


def _absmax(values):
    return max(float(values.max()), -float(values.min())) if values.size else 0.0


def _value(graph, values, entry, ctx):
    if graph.is_param(entry.node):
        value = np.ascontiguousarray(graph.params[entry.node.name], np.float32)
        return mx.nd.from_numpy(value, zero_copy=True).as_in_context(ctx)
    return values[entry.node][entry.index]


def _origin(node):
    return "the calibration data" if node.is_variable else f"the output of {node.name} ({node.kind}) on the calibration data"
