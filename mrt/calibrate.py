"""Thresholds: a bound for the absolute value of every tensor, from data that flows through the float network.

Statistics accumulate over batches in constant memory, whatever their number and order; parameters are measured once, by
their largest absolute value.
"""
import contextlib
from typing import NamedTuple

import numpy as np

from mrt.arithmetic import code_range
from mrt.errors import MRTError
from mrt.graph import invoke, run_in_step
from mrt.mxnet_bridge import mx
from mrt.ops import operator_of
from mrt.rounding import Gram

__all__ = ["METHODS", "Channels", "Sensitivity", "Statistics", "channels", "observe", "sensitivities", "thresholds"]

METHODS = ("absmax", "lambda", "percentile", "mse", "kl")
PERCENTILE = 99.99
BINS = 2048
BIN_SAMPLES = 1 << 16  # elements of a sample that a histogram takes at most, evenly spaced
PEAK_DEVIATIONS = 8
PART_ELEMENTS = 1 << 22
LAYERS = ("Convolution", "FullyConnected")
# MXNet may crash in the gradient of others
DIFFERENTIABLE = frozenset(LAYERS + (
    "Activation", "BatchNorm", "Concat", "Crop", "Embedding", "Flatten", "LeakyReLU", "Pad", "Pooling", "Reshape", "UpSampling",
    "_mul_scalar", "abs", "batch_dot", "broadcast_add", "broadcast_maximum", "broadcast_mul", "broadcast_sub", "clip", "exp",
    "expand_dims", "max", "negative", "relu", "repeat", "sigmoid", "slice", "slice_like", "softmax", "softsign", "squeeze", "sum",
    "tanh", "tile", "transpose"))


class Histogram:
    """Counts of |x| in BINS bins from 0 to `top`, which doubles when a value lies beyond: memory does not grow with the data."""

    __slots__ = ("counts", "top")

    def __init__(self):
        self.counts, self.top = np.zeros(BINS), 0.0

    def update(self, values, largest):
        """`values`: float array; `largest`: bound of their absolute values."""
        if largest > 0 and self.top == 0:
            self.top = largest
        while largest > self.top:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2)])
            self.top *= 2
        if self.top > 0:
            bins = np.minimum(np.abs(values.ravel()) * (BINS / self.top), BINS - 1).astype(np.int32)
            self.counts += np.bincount(bins, minlength=BINS)

    @property
    def centers(self):
        return (np.arange(BINS) + 0.5) * (self.top / BINS)

    def percentile(self, share):
        """The smallest bin edge with at least `share` percent of the values below."""
        total = np.cumsum(self.counts)
        return float((np.searchsorted(total, total[-1] * share / 100) + 1) * self.top / BINS)

    def mse(self, limit):
        """The bound t with the least mean square error of rounding to t / limit and clipping at t, relative to the range."""
        x, candidates = self.centers, np.arange(BINS // 16, BINS + 1, BINS // 128) * (self.top / BINS)
        clipped = np.maximum(x[None, :] - candidates[:, None], 0) ** 2 @ self.counts
        # bins below a rounding step hold the many values that round to 0 exactly: a clean 0 costs nothing
        inside = (np.minimum(x[None, :], candidates[:, None]) > 0.5 * candidates[:, None] / limit) @ self.counts
        return float(candidates[np.argmin(clipped + inside * (candidates / limit) ** 2 / 12)])

    def kl(self, levels=128):
        """The bound whose `levels`-step quantization keeps most of the distribution, by Kullback-Leibler divergence (Migacz,
        "8-bit inference with TensorRT", GTC 2017)."""
        best, best_edge = np.inf, BINS
        for edge in range(levels, BINS + 1, levels // 4):
            p = self.counts[:edge].copy()
            p[-1] += self.counts[edge:].sum()
            groups = np.arange(edge) * levels // edge
            filled = self.counts[:edge] > 0
            per_group = np.bincount(groups, self.counts[:edge], levels) / np.maximum(np.bincount(groups, filled, levels), 1)
            q = np.where(filled, per_group[groups], 0)
            p, q = p / p.sum(), q / max(q.sum(), 1e-300)
            seen = p > 0
            divergence = (p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-10))).sum()
            if divergence < best:
                best, best_edge = divergence, edge
        return float(best_edge * self.top / BINS)


class Statistics:
    """What is kept of one tensor over all batches: for every channel (axis 1; a vector is one channel) the number of samples,
    and sum, sum of squares, largest absolute value, and how the latter varies from sample to sample."""

    __slots__ = ("absmax", "count", "histogram", "peak_squares", "peak_sums", "samples", "squares", "sums")

    def __init__(self):
        self.histogram = Histogram()
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
        if not np.isfinite(peaks).all():
            return  # `observe` names the node
        flat = rows.reshape(len(rows), -1)
        self.histogram.update(flat[:, ::(flat.shape[1] - 1) // BIN_SAMPLES + 1], float(peaks.max()))

    def threshold(self, method, lambd):
        """absmax: the largest absolute value. lambda: |mean| + lambd * standard deviation where that is below 0.95 of it.
        percentile: 99.99 % of the values lie below. mse, kl: see Histogram."""
        largest = float(self.absmax.max())
        if method == "absmax" or largest == 0:
            return largest
        if method == "percentile":
            return min(self.histogram.percentile(PERCENTILE), largest)
        if method in ("mse", "kl"):
            return min(self.histogram.mse(code_range(8)) if method == "mse" else self.histogram.kl(), largest)
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
        largest = float(self.absmax.max())
        best = [min(self.histogram.mse(limit) / largest, 1.0) if largest > 0 else 1.0 for limit in (127, 254)]
        return Channels(self.sums / per_channel, self.squares / per_channel, bound, *best)


class Channels(NamedTuple):
    """What calibration knows of every channel of a tensor: mean, mean square, bound of the absolute value (float64 vectors);
    and the share of the whole tensor's range that is best mapped to 127 and to 254 steps."""
    mean: np.ndarray
    square: np.ndarray
    bound: np.ndarray
    clip127: float = 1.0
    clip254: float = 1.0


def observe(graph, data, statistics, ctx, grams=None):
    """Run a prepared graph on one batch (NDArray or numpy, the shape of `data`) in float32 and update `statistics`
    (name -> Statistics, filled here) for every node that is not a parameter, and `grams` (name -> rounding.Gram) for every
    Convolution and FullyConnected unless it is None.

    Nodes run one by one and a result is dropped after its last consumer, so memory holds the live tensors, not the network.
    """
    for node, [inputs], [results] in run_in_step(graph, [data], ctx=ctx):
        if grams is not None and node.op in LAYERS:
            weight, gram = graph.params[node.inputs[1].node.name], grams.setdefault(node.name, Gram())
            for part in _parts(inputs[0]):
                gram.update(operator_of(node).patches(node, part, weight))
        seen = statistics.setdefault(node.name, Statistics())
        for part in _parts(results[0]):
            seen.update(part)
        if not np.isfinite(seen.absmax).all():
            raise MRTError(f"{_origin(node)} holds values that are not finite; "
                           "look for a wrong preprocessing or a diverged network")


class Sensitivity(NamedTuple):
    """How errors of a layer show in the outputs of the network: the power of the error of all outputs, relative to that of the
    outputs themselves, per variance of independent errors in every channel of its input, in the weights of every output
    channel, and in the weights of every input channel (float64 vectors)."""
    input: np.ndarray
    weight: np.ndarray
    weight_inputs: np.ndarray


def sensitivities(graph, sample, statistics, seed, ctx):
    """name -> Sensitivity of every Convolution and FullyConnected, to first order, from one sample or a few; layers that only
    operators without a gradient connect to the outputs are left out. `statistics`: as filled by `observe`.

    The gradient g of <v, outputs> with random v of variance 1 has E g^2 = sum of the squared derivatives of all outputs
    (Hutchinson's estimator), so that one backward pass tells of all layers. Weights count with the variation of their inputs
    alone, because what an error times the mean does is corrected in the bias.
    """
    reached = _differentiable(graph)
    heads = [entry for entry in graph.outputs if entry.node in reached]
    if not heads:
        return {}
    rng, marked, ends = np.random.default_rng(seed), {}, {entry.node: None for entry in heads}

    def compute(node, inputs):
        if node.op in LAYERS:
            marked[node] = _Marked(node, inputs)
            return [marked[node].result]
        with contextlib.nullcontext() if node in reached else mx.autograd.pause():
            return invoke(node, inputs)

    with mx.autograd.record(train_mode=False):
        for node, _, [results] in run_in_step(graph, [sample], ctx=ctx, compute=compute):
            if node in ends:
                ends[node] = results
    heads = [ends[entry.node][entry.index] for entry in heads]
    directions = [rng.standard_normal(head.shape) / max(float((head ** 2).sum().asscalar()) * len(heads), 1e-30) ** 0.5
                  for head in heads]
    mx.autograd.backward(heads, [mx.nd.array(v, dtype="float32", ctx=ctx) for v in directions])
    found = {}
    for node, layer in marked.items():
        seen = statistics[node.inputs[0].node.name]
        found[node.name] = layer.sensitivity(seen.sums / (seen.count / len(seen.sums)))
    return found


def _differentiable(graph):
    """The nodes that a gradient can be taken of, back to a layer at least."""
    found = set()
    for node in graph.topological():
        if node.op in LAYERS or (node.op in DIFFERENTIABLE and any(e.node in found for e in node.inputs)):
            found.add(node)
    return found


class _Marked:
    """A layer that computes `result` and keeps what its gradients are read from."""

    def __init__(self, node, inputs):
        self.node, self.before = node, _zeros(inputs[0], inputs[0].shape)
        if node.op == "Convolution":
            self.weight = inputs[1]
            self.weight.attach_grad()
        else:
            self.x = inputs[0].asnumpy()
        result = invoke(node, [inputs[0] + self.before] + inputs[1:])[0]
        self.after = _zeros(result, result.shape if node.op == "FullyConnected" else (1, result.shape[1], 1, 1))
        self.result = mx.nd.broadcast_add(result, self.after)

    def sensitivity(self, means):
        """`means`: of every channel of the input."""
        before, after = self.before.grad.asnumpy(), self.after.grad.asnumpy().astype(np.float64)
        per_input = np.square(before, dtype=np.float64).sum(axis=(0,) + tuple(range(2, before.ndim)))
        if self.node.op == "FullyConnected":  # without the gradient of all weights, which may be the largest tensor there is
            x = self.x - means
            return Sensitivity(per_input, np.einsum("no,nm,mo->o", after, x @ x.T, after, optimize=True),
                               np.einsum("ni,nm,mi->i", x, after @ after.T, x, optimize=True))
        weight = self.weight.grad.asnumpy()
        weight = weight - operator_of(self.node).of_inputs(self.node, means, weight) * after.reshape(-1, 1, 1, 1)
        power = np.square(weight, dtype=np.float64).sum(axis=(2, 3))
        grouped = power.reshape(self.node.int("num_group", 1), -1, power.shape[1])
        return Sensitivity(per_input, power.sum(axis=1), grouped.sum(axis=1).ravel())


def _zeros(like, shape):
    zeros = mx.nd.zeros(shape, ctx=like.context)
    zeros.attach_grad()
    return zeros


def thresholds(graph, statistics, method="absmax", lambd=None):
    """name -> threshold for every node of the graph, in topological order."""
    if method not in METHODS:
        raise MRTError(f"unknown calibration method {method!r}; known are {', '.join(METHODS)}")
    if method == "lambda" and (lambd is None or not lambd > 0):
        raise MRTError(f"the calibration method lambda needs a positive lambd, found {lambd}")
    return {node.name: _absmax(graph.params[node.name]) if graph.is_param(node)
            else statistics[node.name].threshold(method, lambd) for node in graph.topological()}


def channels(graph, statistics):
    """name -> Channels, for every tensor that was measured."""
    return {node.name: statistics[node.name].channels() for node in graph.topological() if node.name in statistics}


def _parts(tensor):
    """The tensor as numpy arrays of a few samples each, so that no second copy of a large one is made."""
    samples = max(1, PART_ELEMENTS // max(tensor.size // max(len(tensor), 1), 1))
    for i in range(0, len(tensor), samples):
        yield tensor[i:i + samples].asnumpy()


def _absmax(values):
    return max(float(values.max()), -float(values.min())) if values.size else 0.0


def _origin(node):
    return "the calibration data" if node.is_variable else f"the output of {node.name} ({node.kind}) on the calibration data"
