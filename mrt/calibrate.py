"""Thresholds: a bound for the absolute value of every tensor, from data that flows through the float network.

Statistics accumulate over batches in constant memory, whatever their number and order; parameters are measured once, by
their largest absolute value.
"""
import numpy as np

from mrt.errors import MRTError
from mrt.graph import invoke
from mrt.mxnet_bridge import mx

__all__ = ["METHODS", "Statistics", "channel_means", "observe", "thresholds"]

METHODS = ("absmax", "lambda")


class Statistics:
    """Count, sum, sum of squares and largest absolute value of all elements of one tensor over all batches, and the sum of
    every channel (axis 1; None for vectors)."""

    __slots__ = ("absmax", "channels", "count", "squares", "total")

    def __init__(self):
        self.count, self.total, self.squares, self.absmax, self.channels = 0, 0.0, 0.0, 0.0, None

    def update(self, values):
        self.count += values.size
        self.total += float(values.sum(dtype=np.float64))
        self.squares += float(np.einsum("i,i->", values.ravel(), values.ravel(), dtype=np.float64))
        self.absmax = max(self.absmax, float(np.abs(values).max(initial=0)))
        if values.ndim > 1:
            sums = values.sum(axis=tuple(i for i in range(values.ndim) if i != 1), dtype=np.float64)
            self.channels = sums if self.channels is None else self.channels + sums

    def channel_mean(self):
        """Mean of every channel, or None."""
        return None if self.channels is None else self.channels * len(self.channels) / self.count

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


def channel_means(graph, statistics):
    """name -> mean of every channel, for the tensors that feed layers with weights."""
    feeds = {node.inputs[0].node for node in graph.topological() if node.op in ("Convolution", "FullyConnected")}
    return {node.name: statistics[node.name].channel_mean() for node in graph.topological()
            if node in feeds and node.name in statistics and statistics[node.name].channels is not None}


def _value(graph, values, entry, ctx):
    if graph.is_param(entry.node):
        return mx.nd.array(graph.params[entry.node.name], dtype="float32", ctx=ctx)
    return values[entry.node][entry.index]


def _origin(node):
    return "the calibration data" if node.is_variable else f"the output of {node.name} ({node.kind}) on the calibration data"
