"""Thresholds: a bound for the absolute value of every tensor, from data that flows through the float network.

Statistics accumulate over batches in constant memory; parameters are measured once, by their largest absolute value. The network
is computed for as many samples at a time as it was prepared for, and what is kept of them is exact where thresholds are read
from it. So how samples are ordered, and divided into batches, changes no threshold of a network that was prepared for one.
"""
import contextlib
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from mrt.arithmetic import code_range
from mrt.errors import ModelError, MRTError, StateError
from mrt.execute import infer_shapes, invoke, run_in_step
from mrt.mxnet_bridge import mx
from mrt.ops import is_layer, operator_of
from mrt.ops.layer_weights import per_input_channel
from mrt.quantization.techniques import SETTINGS
from mrt.rounding import Gram

__all__ = ["METHODS", "Channels", "Sensitivity", "Statistics", "channels", "checked", "merged", "observe", "sensitivities",
           "thresholds", "units"]

METHODS = SETTINGS["calibrate_method"].choices
PERCENTILE = 99.99
BINS = 4096  # of which the largest value leaves more than half in use
BIN_SAMPLES = 1 << 16  # elements of a sample that a histogram takes at most, evenly spaced
CANDIDATES = 128  # parts of the largest value that are tried as a bound
PEAK_DEVIATIONS = 8
PART_ELEMENTS = 1 << 22


# ---- batches ---------------------------------------------------------------------------------------------------------

def checked(graph, data):
    """`data`, an NDArray or numpy array of the network's input shape with any number of samples, as a float32 numpy array.
    MRTError in one sentence for anything else."""
    return _with_axis(graph, data)[0]


def units(graph, data):
    """The samples in arrays of the very shape the network was prepared for, so that what is computed for one of them does not
    depend on how many come in a batch; a last array may be smaller."""
    data, axis = _with_axis(graph, data)
    size = graph.find("data").tuple("__shape__")[axis]
    return np.split(data, list(range(size, data.shape[axis], size)), axis)


def _with_axis(graph, data):
    """(data as float32, the axis of its samples)."""
    prepared = graph.find("data").tuple("__shape__")
    if not prepared:
        raise StateError("the network does not say which shape its input has: call Model.prepare first")
    data = data.asnumpy() if isinstance(data, mx.nd.NDArray) else data
    if not isinstance(data, np.ndarray):
        count = f" of {len(data)} items" if hasattr(data, "__len__") else ""
        raise MRTError(f"the calibration data is a {type(data).__name__}{count}, expected one array (NDArray or numpy) of shape "
                       f"{prepared} with any number of samples; numpy.stack makes one of several")
    if data.dtype.kind not in "fiub":
        raise MRTError(f"the calibration data holds values of type {data.dtype}, expected numbers")
    differing = [i for i, (d, p) in enumerate(zip(data.shape, prepared)) if d != p]
    if data.ndim == len(prepared) and data.size and not differing:
        return np.asarray(data, np.float32), 0
    axis = differing[0] if len(differing) == 1 else 0
    fits = data.ndim == len(prepared) and data.size and len(differing) == 1
    # the samples lie along the first axis, or along the only one of extent 1, as in (38, 1), if the network takes more there
    if not fits or (axis and (prepared[axis] != 1 or prepared[0] == 1)) or not _computes(graph, data.shape, axis, prepared):
        raise MRTError(f"the calibration data has shape {data.shape}, expected {prepared} with any number of samples, as the "
                       f"network was prepared: {_shape_hint(data.shape, prepared)}")
    return np.asarray(data, np.float32), axis


def _computes(graph, shape, axis, prepared):
    """Can the network compute this batch? Asked where its samples are not divided into equal parts along the first axis."""
    left = shape[axis] % prepared[axis]
    if not axis and not left:
        return True
    try:
        infer_shapes(graph, data=shape if axis else (left,) + shape[1:])
        return True
    except ModelError:
        return False


def _shape_hint(shape, prepared):
    if 0 in shape:
        return "it holds no samples"
    if shape == prepared[1:]:
        return "add an axis for the batch, data[None]"
    if len(shape) != len(prepared):
        return f"it has {len(shape)} axes and not {len(prepared)}"
    if sorted(shape[1:]) == sorted(prepared[1:]) and shape[1:] != prepared[1:]:
        return "its axes stand in another order, transpose it"
    if shape[1:] == prepared[1:]:
        return f"the network takes multiples of {prepared[0]}"
    if shape[1] != prepared[1]:
        return f"axis 1 has {shape[1]} entries (channels, in a picture) and not {prepared[1]}"
    return "resize the samples, or prepare the network for their size"


# ---- statistics ------------------------------------------------------------------------------------------------------

class Histogram:
    """Counts of |x| in BINS bins from 0 to the power of two above the `largest`: memory does not grow with the data, and the
    counts are the same in whatever order and parts the values come."""

    __slots__ = ("counts", "largest")

    def __init__(self):
        self.counts, self.largest = np.zeros(BINS, np.int64), 0.0

    @property
    def top(self):
        """Where the last bin ends: a power of two above every value; 0 where all of them are 0."""
        return 2.0 ** _exponent(self.largest) if self.largest > 0 else 0.0

    def update(self, values, largest):
        """`values`: float array; `largest`: the largest absolute value of the tensor they are a sample of."""
        self._widen(largest)
        places = np.abs(values.ravel().astype(np.float64)) * (BINS / self.top if self.top else 0.0)
        self.counts += np.bincount(places.astype(np.int64), minlength=BINS)

    def __add__(self, other):
        result = Histogram()
        for part in (self, other):
            result._widen(part.largest)
            result.counts += _doubled(part.counts, part.largest, result.largest)
        return result

    def _widen(self, largest):
        if largest > self.largest:
            self.counts, self.largest = _doubled(self.counts, self.largest, largest), largest

    @property
    def edges(self):
        """Upper ends of the bins in use, the last one the largest value."""
        edges = np.arange(1, BINS + 1) * (self.top / BINS)
        used = int(np.searchsorted(edges, self.largest, "right")) + 1
        return np.minimum(edges[:used], self.largest)

    def percentile(self, share):
        """The smallest bin edge with at least `share` percent of the values below."""
        edges, total = self.edges, np.cumsum(self.counts)
        return float(edges[min(np.searchsorted(total, total[-1] * share / 100), len(edges) - 1)])

    def mse(self, limit):
        """The bound t with the least mean square error of rounding to t / limit and clipping at t."""
        edges, candidates = self.edges, np.arange(CANDIDATES // 16, CANDIDATES + 1) * (self.largest / CANDIDATES)
        x, counts = edges - 0.5 * np.diff(edges, prepend=0), self.counts[:len(edges)]

        def beyond(bounds, power):
            """Sum of x^power over all values x above each of the bounds."""
            sums = np.cumsum((counts * x ** power)[::-1])[::-1]
            return np.append(sums, 0)[np.searchsorted(x, bounds, "right")]

        clipped = beyond(candidates, 2) - 2 * candidates * beyond(candidates, 1) + candidates ** 2 * beyond(candidates, 0)
        # bins below a rounding step hold the many values that round to 0 exactly: a clean 0 costs nothing
        inside = beyond(0.5 * candidates / limit, 0)
        return float(candidates[np.argmin(clipped + inside * (candidates / limit) ** 2 / 12)])

    def kl(self, levels=128):
        """The bound whose `levels`-step quantization keeps most of the distribution, by Kullback-Leibler divergence (Migacz,
        "8-bit inference with TensorRT", GTC 2017)."""
        edges = self.edges
        best, bound = np.inf, self.largest
        for edge in [*range(levels, len(edges), levels // 4), len(edges)]:
            p = self.counts[:edge].astype(np.float64)
            p[-1] += self.counts[edge:].sum()
            groups = np.arange(edge) * levels // edge
            filled = self.counts[:edge] > 0
            per_group = np.bincount(groups, self.counts[:edge], levels) / np.maximum(np.bincount(groups, filled, levels), 1)
            q = np.where(filled, per_group[groups], 0)
            p, q = p / p.sum(), q / max(q.sum(), 1e-300)
            seen = p > 0
            divergence = (p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-10))).sum()
            if divergence < best:
                best, bound = divergence, edges[edge - 1]
        return float(bound)


def _exponent(value):
    """The least e with value < 2^e."""
    return int(np.frexp(value)[1])


def _doubled(counts, before, after):
    """The counts of a histogram whose largest value was `before`, in the bins of one whose largest value is `after`."""
    doublings = _exponent(after) - _exponent(before) if before > 0 else 0  # only zeros so far: the first bin stays the first
    for _ in range(min(doublings, _exponent(BINS))):
        counts = np.concatenate([counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
    return counts


class Statistics:
    """What is kept of one tensor over all batches: for every channel (axis 1; a vector is one channel) the number of samples,
    and sum, sum of squares, largest absolute value, and how the latter varies from sample to sample; and of all channels
    together the sum and the sum of squares (`total`, `power`), as fractions, which add up exactly in every order."""

    __slots__ = ("absmax", "count", "histogram", "peak_squares", "peak_sums", "power", "samples", "squares", "sums", "total")

    def __init__(self):
        self.histogram = Histogram()
        self.samples = self.count = 0
        self.sums = self.squares = self.absmax = self.peak_sums = self.peak_squares = 0.0
        self.total = self.power = Fraction(0)

    def update(self, values):
        """`values`: float32 array whose axis 0 is the batch. Sums run in float32 within one sample's channel, as BLAS forms
        them, and in float64 beyond."""
        rows = np.ascontiguousarray(values).reshape(values.shape[:2] + (-1,)) if values.ndim > 1 else values.reshape(1, 1, -1)
        peaks = np.maximum(rows.max(axis=2), -rows.min(axis=2)).astype(np.float64)
        if not np.isfinite(peaks).all():
            self.absmax = np.inf  # `observe` names the node
            return
        sums, squares = _sums(rows)
        self.samples += len(rows)
        self.count += rows.size
        self.sums += sums.sum(axis=0)
        self.squares += squares.sum(axis=0)
        self.peak_sums += peaks.sum(axis=0)
        self.peak_squares += (peaks ** 2).sum(axis=0)
        self.absmax = np.maximum(self.absmax, peaks.max(axis=0))
        self.total += _fraction(sums)
        self.power += _fraction(squares)
        flat = rows.reshape(len(rows), -1)
        self.histogram.update(flat[:, ::(flat.shape[1] - 1) // BIN_SAMPLES + 1], float(peaks.max()))

    def __add__(self, other):
        result = Statistics()
        for name in self.__slots__:
            combine = np.maximum if name == "absmax" else lambda a, b: a + b
            setattr(result, name, combine(getattr(self, name), getattr(other, name)))
        return result

    def threshold(self, method, lambd):
        """absmax: the largest absolute value. lambda: |mean| + lambd * standard deviation where that is below 0.95 of it.
        percentile: 99.99 % of the values lie below. mse, kl: see Histogram."""
        largest = float(np.max(self.absmax))
        if method == "absmax" or largest == 0:
            return largest
        if method == "percentile":
            return min(self.histogram.percentile(PERCENTILE), largest)
        if method in ("mse", "kl"):
            return min(self.histogram.mse(code_range(8)) if method == "mse" else self.histogram.kl(), largest)
        mean = self.total / self.count
        alpha = abs(float(mean)) + lambd * float(max(self.power / self.count - mean * mean, 0)) ** 0.5
        return alpha if alpha < 0.95 * largest else largest

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


def observe(graph, batches, statistics, ctx, grams=None):
    """Run a prepared graph on arrays of the shape of `data` (as from `units`) in float32 and update `statistics`
    (name -> Statistics, filled here) for every node that is not a parameter, and `grams` (name -> rounding.Gram) for every
    layer unless it is None.

    Nodes run one by one and a result is dropped after its last consumer, so memory holds the live tensors, not the network.
    """
    for node, inputs, results in run_in_step(graph, batches, ctx=ctx):
        if grams is not None and is_layer(node):
            weight, gram = graph.params[node.inputs[1].node.name], grams.setdefault(node.name, Gram())
            for part in (part for values in inputs for part in _parts(values[0])):
                gram.update(operator_of(node).patches(node, part, weight))
        seen = statistics.setdefault(node.name, Statistics())
        for part in (part for values in results for part in _parts(values[0])):
            seen.update(part)
        if not np.isfinite(seen.absmax).all():
            raise MRTError(f"{_origin(node)} holds values that are not finite; "
                           "look for a wrong preprocessing or a diverged network")


def merged(old, new):
    """Name -> the sum of what both dictionaries hold under it, with neither changed."""
    return {**old, **{name: old[name] + more if name in old else more for name, more in new.items()}}


class Sensitivity(NamedTuple):
    """How errors of a layer show in the outputs of the network: the power of the error of all outputs, relative to that of the
    outputs themselves, per variance of independent errors in every channel of its input, in the weights of every output
    channel, and in the weights of every input channel (float64 vectors)."""
    input: np.ndarray
    weight: np.ndarray
    weight_inputs: np.ndarray


def sensitivities(graph, sample, statistics, seed, ctx):
    """name -> Sensitivity of every layer, to first order, from one sample or a few; layers that only
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
        if is_layer(node):
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
        if is_layer(node) or (not node.is_variable and operator_of(node).differentiable
                               and any(e.node in found for e in node.inputs)):
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
        weight = weight - per_input_channel(self.node, means, weight) * after.reshape(-1, 1, 1, 1)
        power = np.square(weight, dtype=np.float64).sum(axis=(2, 3))
        grouped = power.reshape(self.node.int("num_group", 1), -1, power.shape[1])
        return Sensitivity(per_input, power.sum(axis=1), grouped.sum(axis=1).ravel())


def _zeros(like, shape):
    zeros = mx.nd.zeros(shape, ctx=like.context)
    zeros.attach_grad()
    return zeros


def thresholds(graph, statistics, method="absmax", lambd=None):
    """name -> threshold for every node of the graph, in topological order, by one of METHODS."""
    if (method == "lambda") != (lambd is not None):
        raise MRTError("the calibration method lambda needs a value of lambd" if lambd is None else
                       f"lambd is set, but the calibration method {method} does not use it; leave one of the two out")
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


def _sums(rows):
    """Sums and sums of squares along the last axis of a float32 array (samples, channels, elements), as float64."""
    with np.errstate(over="ignore"):
        sums = np.matmul(rows, np.ones((rows.shape[2], 1), rows.dtype))[:, :, 0]
        squares = np.matmul(rows[:, :, None, :], rows[:, :, :, None])[:, :, 0, 0]
    if not (np.isfinite(sums).all() and np.isfinite(squares).all()):  # too large for float32
        return _sums(rows.astype(np.float64))
    return sums.astype(np.float64), squares.astype(np.float64)


def _fraction(sums):
    """The sum of finite float64 values of one part of the data, for adding it to others exactly."""
    return Fraction(float(sums.sum()))


def _absmax(values):
    return max(float(values.max()), -float(values.min())) if values.size else 0.0


def _origin(node):
    return "the calibration data" if node.is_variable else f"the output of {node.name} ({node.kind}) on the calibration data"
