"""From a prepared float graph and its thresholds to a graph of integers.

Every tensor of the new graph is a `Tensor`: the entry that computes it, its scale (integer = real * scale) and its precision,
the width its integers are proven to fit. What an operator does with its tensors stands in `mrt.ops`; this module walks the
graph and moves tensors from one scale and precision to another.

Before the walk two facts are collected for every node: whether it can be negative, and how finely its consumers want it: the
largest integer its values should reach.
"""
from collections import namedtuple
from typing import NamedTuple

import numpy as np

from mrt import arithmetic
from mrt.arithmetic import WIDE_MARGIN, code_range
from mrt.errors import MRTError
from mrt.execute import infer_shapes
from mrt.graph import Entry, Graph, Names, Node
from mrt.ops import is_layer, operator_of
from mrt.quantization.fillers import tamed
from mrt.quantization.input_precisions import INPUT_PRECISIONS
from mrt.quantization.techniques import SETTINGS, TECHNIQUES

__all__ = ["Options", "Quantized", "Quantizer", "Tensor", "quantize_graph", "two_parts"]

DEFAULT_OUTPUT_BITS = 16
RESTORED_BITS = 20
EQUALIZE_POWERS = (0, 0.25, 0.5, 0.75, 1)  # tried; a channel's bound is the tensor's times its share to this power
WORTHWHILE = 0.5  # least reduction of the noise for which channels get bounds of their own, which unseen data may exceed
MOST_INPUT_BITS = 30  # of an input of row numbers and others
WIDE = code_range(15)  # from there on a tensor has room for arithmetic.WIDE_MARGIN
HEADROOM = 4.0  # how far beyond its expected bound a channel's value is still carried exactly
NOTHING = 1e-30  # of the threshold: the bound of channels that do not count
SUMS = ("broadcast_add", "broadcast_sub")
PRODUCT_GAS, ELEMENT_GAS, OPERATION_GAS = 3, 5, 6  # the runtime's rule, for an element: a product, storage, other operations
ELEMENT_COST = 256  # storing, reading and rescaling an element of 32 bits takes a processor as long as so many products
SHARED_SPREAD = 8.0  # sums whose bounds differ by no more share a scale
EVEN = 2.0 ** -4  # from this share on, the bits of a wide tensor are enough for a channel's range
MIN_SHARE = 2.0 ** -5  # a channel's range counts as at least this part of the tensor's, lest rare values saturate


class Tensor(NamedTuple):
    """`scale` is a float, or a float64 vector with one scale per channel along axis 1; or, between operators that move elements,
    an array that broadcasts with the tensor, because the channels are no longer along axis 1. Rows that hold a part of a channel
    each may have scales of their own along axis 0."""
    entry: Entry
    scale: object
    precision: int

    @property
    def is_uniform(self):
        return np.ndim(self.scale) == 0

    @property
    def is_moved(self):
        return np.ndim(self.scale) > 1

    @property
    def has_rows(self):
        return self.is_moved and len(self.scale) > 1


_CHOSEN = [SETTINGS["softmax_lambd"], SETTINGS["shift_bits"], *TECHNIQUES.values()]
Options = namedtuple("Options", ["input_precisions", "precisions", "restore", *(setting.name for setting in _CHOSEN)],
                     defaults=[INPUT_PRECISIONS, {}, frozenset(), *(setting.default for setting in _CHOSEN)])
Options.__doc__ = """The hyper-parameters of quantization: `input_precisions`: operator -> bits; `precisions`: name -> bits by
consumer or "out_key"; `restore`: names of the nodes to compute in float; and what `techniques` says of the others."""


class Quantized(NamedTuple):
    """`scales`, `precisions` and `tensors`: of every node of the float graph, by its name."""
    graph: Graph
    outputs: list  # of Tensor
    scales: dict
    precisions: dict
    tensors: dict


class Quantizer:
    """What the `quantize` rule of an operator may ask: tensors of its inputs, requantized or not, constants, new nodes."""

    weight_precision = 8
    takes_parts = True  # whether layers may be taken in two parts unasked

    def __init__(self, graph, shapes, thresholds, channels, options, sensitivities=None, parts=None, grams=None):
        """`sensitivities`: layer name -> list of calibrate.Sensitivity. `parts`: layer -> "input" or "weight", whichever is taken
        in two parts. `grams`: layer name -> rounding.Gram, for adaptive rounding."""
        self.graph, self.shapes, self.thresholds, self.channels, self.options = graph, shapes, thresholds, channels, options
        self.sensitivities, self.parts, self.grams, self.noise = sensitivities or {}, parts or {}, grams or {}, {}
        self.tensors, self.params = {}, {}
        self._names = Names(node.name for node in graph.topological())
        self._requantized, self._shared, self._consumers, self._behind = {}, {}, graph.consumers(), {}
        self.nonnegative = self._never_negative()
        self.exact = self._exact()
        self.thresholds, self.reach = tamed(self)
        self.integral = self._integral()
        self._sum_bounds = self._shared_bounds()
        self.wanted = self._limits_wanted()

    def run(self):
        for node in self.graph.topological():
            if self.graph.is_param(node):
                continue
            if node.is_variable:
                self.tensors[node] = self._input(node)
            elif node.name in self.options.restore:
                self.tensors[node] = self._restored(node)
            else:
                self.tensors[node] = self.quantized(node)
        outputs = [self._constant_output(entry.node) if self.graph.is_param(entry.node) else self._output(entry)
                   for entry in self.graph.outputs]
        graph = Graph([tensor.entry for tensor in outputs], self.params)
        graph.check_names()
        return Quantized(graph, outputs, {node.name: t.scale for node, t in self.tensors.items()},
                         {node.name: t.precision for node, t in self.tensors.items()},
                         {node.name: t for node, t in self.tensors.items()})

    def quantized(self, node):
        """The Tensor that takes the place of `node`: by its operator's own rule."""
        return operator_of(node).quantize(node, self)

    # --- tensors: `i` numbers the inputs of `node`

    def tensor(self, node, i, moved=False):
        """Input i as it stands, with one scale or one for each channel; where `moved`, with those it has."""
        source = self.source(node, i)
        tensor = self.tensors[source]
        return self._rescaled(source, max(self.wanted[source], WIDE), WIDE_MARGIN) if tensor.is_moved and not moved else tensor

    def moved(self, node):
        """The same operator, which moves the elements of its input, on integers that each keep the scale of their channel where
        that is worthwhile."""
        tensor = self.channelwise(node)
        if tensor.is_uniform:
            return self.follow(node, tensor)
        scales, numbers = np.unique(tensor.scale, return_inverse=True)
        shape = np.shape(tensor.scale) if tensor.is_moved else self._column(self.source(node, 0))
        numbers = self._carried(node, 0, np.reshape(numbers, shape))
        if numbers is not None and self.wanted[node] >= WIDE and np.size(numbers) > np.size(tensor.scale):
            numbers = None  # who rescales them later would need a multiplier for each
        if numbers is None or not (numbers.ndim == 1 or len(numbers) == 1 or self._only_rows(node, numbers)):
            return self.follow(node, self.uniform(node, 0))
        scale = scales[numbers]
        return self.result(node, [tensor.entry], scale.item() if scale.size == 1 else scale, tensor.precision)

    def _only_rows(self, node, numbers):
        """Is a layer all that takes `node`, which keeps its rows apart, each of one of the `numbers`, until another operator
        makes channels of them again? Elsewhere rows have one scale, because their number changes with the batch."""
        for _ in range(2):
            [user, *others] = self._consumers[node]
            alone = user is not None and not others and user.name not in self.options.restore
            numbers = self._carried(user, 0, numbers) if alone else None
            if numbers is None or user.op != "FullyConnected":
                break
            node = user
        return numbers is not None and user.op == "Reshape" and (numbers.ndim == 1 or len(numbers) == 1)

    def channelwise(self, node):
        """The first input of an operator that moves elements: as narrow as its consumers want it, and with a scale for each
        channel where that is worthwhile."""
        source = self.source(node, 0)
        tensor, limit = self.tensors[source], self.wanted[node]
        if tensor.is_uniform or tensor.has_rows or tensor.precision <= arithmetic.bits(limit):
            return tensor
        bounds = self.channel_bounds(source, limit)
        if bounds is None:
            return (self._wide_channels(source) if limit >= WIDE else None) or self.uniform(node, 0)
        key = source, "channels", limit
        if key not in self._requantized:
            self._requantized[key] = self._rescale(source, tensor, limit, bounds)
        return self._requantized[key]

    def _column(self, node):
        """The shape of a vector of channels that broadcasts with the output of `node`."""
        return (1, -1) + (1,) * (len(self.shapes[node][0]) - 2)

    def _carried(self, node, i, numbers):
        """What becomes of `numbers`, integers that broadcast with input i, when an operator moves the elements of that input: an
        array that broadcasts with its output, a vector where the numbers depend on the channel alone. None where elements of
        several meet."""
        shape = self.shapes[self.source(node, i)][0]
        if min(len(shape), len(self.shapes[node][0])) < 2:
            return None
        numbers = operator_of(node).carried(node, i, np.broadcast_to(numbers, shape), self)
        return None if numbers is None else _compact(numbers)

    def _layers_behind(self, source):
        """(layer, index) of every layer that takes `source`, or what operators that move elements make of it. `index`: for every
        channel of the input of the layer, the channel of `source` that it holds, or -1."""
        if source in self._behind:
            return self._behind[source]
        count = self.shapes[source][0][1] if len(self.shapes[source][0]) > 1 else 1
        found, waiting = [], [(source, None)]
        while waiting:
            node, numbers = waiting.pop()
            for user in self._consumers[node]:
                if user is None:
                    continue
                if is_layer(user) and (numbers is None or numbers.ndim == 1):
                    found.append((user, np.arange(count) if numbers is None else self._spread(user, numbers)))
                elif numbers is not None or operator_of(user).moves:
                    before = np.arange(count) if numbers is None else numbers
                    before = before.reshape(self._column(node)) if before.ndim == 1 else before
                    for i in (i for i, entry in enumerate(user.inputs) if entry.node is node):
                        after = self._carried(user, i, before)
                        waiting += [] if after is None else [(user, after)]
        self._behind[source] = found
        return found

    def _spread(self, layer, numbers):
        """A vector of numbers of which one may stand for all channels of the input of a layer."""
        return np.broadcast_to(numbers, self.shapes[self.source(layer, 0)][0][1])

    def channel_bounds(self, source, limit, thresholds=None):
        """Bounds of the channels of `source`, where mapping each to `limit` makes so much less noise in the layers behind than
        mapping the threshold that it is worthwhile; None elsewhere. `thresholds`: of the tensors that the channels belong to,
        where they come from several.

        A layer's input can have any scale per channel, because its weights can be divided by it: equalization (Nagel et al.,
        2019, section 4.1; Xiao et al., "SmoothQuant", 2023) without the need for a layer in front that could be rescaled.
        """
        seen, threshold = self.channels.get(source.name), self.thresholds[source.name]
        if not self.options.equalize or seen is None or not threshold > 0 or not seen.bound.max() > 0:
            return None
        layers = self._layers_behind(source)
        if not layers:
            return None
        least = MIN_SHARE * (threshold if thresholds is None else np.minimum(thresholds, threshold))
        share = np.clip(np.maximum(seen.bound, least) / threshold, NOTHING, 1)
        bounds = [threshold * share ** power for power in EQUALIZE_POWERS]
        noise = sum(operator_of(layer).rounding_noise(
            layer, [np.where(index < 0, NOTHING * threshold, bound[index]) for bound in bounds],
            np.where(index < 0, 0, seen.square[index]), limit, self) for layer, index in layers)
        best = int(np.argmin(noise))
        return bounds[best] if noise[best] < WORTHWHILE * noise[0] else None

    def uniform(self, node, i):
        """Input i with one scale for all channels, as fine as its consumers want it."""
        source = self.source(node, i)
        tensor = self.tensors[source]
        return tensor if tensor.is_uniform else self._rescaled(source, self.wanted[source], WIDE_MARGIN)

    def requantize(self, node, i, precision):
        """Input i with one scale, in at most `precision` bits."""
        source = self.source(node, i)
        return self._rescaled(source, code_range(self._requested(source, node.name, precision)), WIDE_MARGIN)

    def within(self, node, i, precision):
        """Input i as it stands, but in at most `precision` bits: clipped where its values can be expected to fit, else with one
        scale in 16."""
        source, tensor = self.source(node, i), self.tensor(node, i)
        if tensor.precision <= precision:
            return tensor
        if self._bound(source, tensor, WIDE_MARGIN * self.thresholds[source.name]) > precision:
            return self.requantize(node, i, 16)
        return tensor._replace(entry=self.clip(tensor.entry, precision, source.name), precision=precision)

    def wide_scale(self, node, precision=16):
        """The scale for both inputs of a node in `precision` bits, with room for data not seen."""
        largest = self.reach.get(node) or self._sum_bounds.get(node) or self._operand_bound(node)
        return arithmetic.scale_for(WIDE_MARGIN * largest, precision)

    def _operand_bound(self, node):
        return max(self.thresholds[self.source(node, i).name] for i in (0, 1))

    def narrow(self, node, i, limit):
        """Input i as it stands where its integers are no wider than `limit`, else None."""
        tensor = self.tensor(node, i, moved=True)
        return tensor if tensor.precision <= arithmetic.bits(limit) else None

    def joined(self, node, axis, tensors):
        """The Tensor of a concatenation of `tensors`, (entry, scale, precision) of every input, along an axis; each with the
        scales it has."""
        entries, scales, precisions = zip(*tensors)
        parts = []
        for i, scale in enumerate(scales):
            source = self.source(node, i)
            scale = scale if np.ndim(scale) > 1 else np.reshape(scale, self._column(source))
            parts.append(np.broadcast_to(scale, self.shapes[source][0]))
        scale = _compact(np.concatenate(parts, axis))
        return self.result(node, entries, scale.item() if scale.size == 1 else scale, max(precisions))

    def as_wide(self, node, i, precision=16):
        """Input i as it stands where it has at most `precision` bits, else in so many, with one scale unless ranges of channels
        differ so much that it would cost the smaller ones their detail."""
        tensor = self.tensor(node, i)
        if tensor.precision <= precision:
            return tensor
        return self._wide_channels(self.source(node, i), precision) or self.requantize(node, i, precision)

    def _wide_channels(self, source, precision=16):
        """`source` in `precision` bits with a scale for each channel, if their ranges differ so much that one scale would leave
        too few to some; else None."""
        tensor, share = self.tensors[source], self._shares(source)
        if not self.options.equalize or tensor.is_uniform or tensor.is_moved or share is None or share.min() >= EVEN:
            return None
        key = source, "wide", precision
        if key not in self._requantized:
            bounds = WIDE_MARGIN * self.thresholds[source.name] * share
            self._requantized[key] = self._rescale(source, tensor, code_range(precision), bounds)
        return self._requantized[key]

    def _shares(self, source):
        """What the channels' ranges are of the threshold of `source`, at least MIN_SHARE; None where that is not known."""
        seen, threshold = self.channels.get(source.name), self.thresholds[source.name]
        known = seen is not None and threshold > 0 and seen.bound.max() > 0
        return np.clip(seen.bound / threshold, MIN_SHARE, 1) if known else None

    def operand(self, node, i):
        """(Tensor, zero): input i of a layer, in at most as many bits as the operator takes, and the integer that stands for
        the real 0. Every channel may have its own scale, which the layer takes into its weights.

        More than 8 bits, where asked for, are up to the layer to take in two parts.

        A tensor that is never negative would use only half of the codes; it is shifted down by half its range, so that all of
        them count (Jacob et al., 2018, section 2.1, with the zero point at the lower end).
        """
        source = self.source(node, i)
        precision = self._operand_precision(node, source)
        limit = self.layer_wants(node, i)
        key, half = (source, "operand", limit), code_range(precision)
        if key not in self._requantized:
            tensor = self._equalized(source, limit)
            if self.nonnegative[source] and tensor.precision > precision:
                shifted = self.add("broadcast_sub", [tensor.entry, self.scalar(half)], {}, source.name)
                tensor = tensor._replace(entry=self.clip(shifted, precision, source.name), precision=precision), -half
            else:
                tensor = tensor, 0
            self._requantized[key] = tensor
        return self._requantized[key]

    def integer_bits(self, node, i):
        """Bits of input i of a node where it holds integers without rounding, at scale 1."""
        if self.is_param(node, i):
            return arithmetic.bits(self.param(node, i))
        source = self.source(node, i)
        return arithmetic.bits(max(self.exact.get(source, 0), WIDE_MARGIN * self.thresholds[source.name], 1))

    def only_feeds_layers(self, node):
        """Do all consumers of a node take it as `operand`?"""
        return all(user is not None and is_layer(user) for user in self._consumers[node])

    def at_scale(self, node, i, precision, scale):
        """Entry of input i at exactly this scale, or these of its channels, clipped to `precision` bits."""
        source = self.source(node, i)
        tensor = self.tensors[source]
        if tensor.is_uniform and np.ndim(scale) == 0 and tensor.scale == scale and tensor.precision <= precision:
            return tensor.entry
        key = source, precision, tuple(np.ravel(scale))
        if key not in self._requantized:
            factor = scale / tensor.scale
            bound = self._bound(source, tensor, WIDE_MARGIN * self.thresholds[source.name])
            plan = self._plan(source, factor, tensor.precision, bound, precision)
            self._requantized[key] = self._emit(tensor.entry, plan, source)
        return self._requantized[key]

    def saturated(self, node, tensor):
        """The tensor of `node` with one scale, as fine as its consumers want it, clipped at the threshold of `node`."""
        return self._rescale(node, tensor, self.wanted[node])

    def input_precision(self, node):
        """Bits the operator takes its inputs at by default."""
        return self.options.input_precisions[node.kind]

    def layer_wants(self, node, i):
        """Largest integer to want of input i of a layer: twice the range where all codes are used."""
        source = self.source(node, i)
        precision = self._operand_precision(node, source)
        limit = code_range(precision)
        whole = self.options.full_range and self.nonnegative[source] and precision == self.input_precision(node)
        return 2 * limit if whole else limit

    def _operand_precision(self, node, source):
        default = self.input_precision(node)
        if self.parts.get(node) == "input":
            default = self.weight_precision + operator_of(node).split_room(node, self)
        return self._requested(source, node.name, default)

    def sensitivity(self, node):
        """The calibrate.Sensitivity of a layer, the mean of those that were measured, or None."""
        known = self.sensitivities.get(node.name)
        return type(known[0])(*(np.mean(values, axis=0) for values in zip(*known))) if known else None

    def note_noise(self, node, x, scale):
        """Keep what the rounding of a layer's input and of its weights adds to the outputs of the network, relative to their
        power. `x`: the Tensor it takes; `scale`: of its sums."""
        known = self.sensitivity(node)
        if known and not x.has_rows:
            of_input, of_weight, shares = known
            rounded = x is not self.tensors[self.source(node, 0)]
            steps = operator_of(node).weight_steps(node, x, shares, scale, self.param(node, 1))
            self.noise[node] = rounded * (of_input / x.scale ** 2).sum() / 12, (of_weight * steps ** 2).sum() / 12

    def source(self, node, i):
        """The node that computes input i."""
        entry = node.inputs[i]
        if entry.index != 0:
            raise MRTError(f"node {node.name} reads output {entry.index} of {entry.node.name}; only first outputs are quantized")
        return entry.node

    def is_param(self, node, i):
        return self.graph.is_param(node.inputs[i].node)

    # --- parameters

    def param(self, node, i):
        """The float values of input i, a parameter."""
        return self.graph.params[node.inputs[i].node.name]

    def weight_threshold(self, node, i, largest):
        """Bound of the weights made from parameter i, whose largest absolute values per output channel are `largest`: a float64
        vector, or a 0-d array for one bound. A threshold that was set below the parameter's largest value lowers all of them."""
        largest = largest.max() if self.options.weight_granularity == "tensor" else largest
        values = self.param(node, i)
        original = max(values.max(), -values.min())  # without a copy of what may be the largest tensor there is
        return np.asarray(largest * (self.thresholds[node.inputs[i].node.name] / original if original > 0 else 1.0))

    def mean(self, node, i):
        """Mean of every channel (axis 1) of input i over the calibration data, or None when it was not measured."""
        seen = self.channels.get(self.source(node, i).name) if self.options.bias_correction != "none" else None
        return None if seen is None else seen.mean

    def gram(self, node):
        """The rounding.Gram of a layer's inputs, or None where its weights are rounded to the nearest integers."""
        if self.options.rounding == "nearest":
            return None
        if node.name not in self.grams:
            raise MRTError(f"adaptive rounding needs second moments of the inputs of {node.name}, and none were gathered; choose "
                           "it (set_techniques, [QUANTIZATION] Rounding) before calibrate, and calibrate again")
        return self.grams[node.name]

    def constant(self, codes, precision, hint):
        """Entry of new integers, named after the parameter they stand for."""
        return self._constant(codes, precision, self._names.fresh("quantize", hint))

    # --- nodes

    def follow(self, node, tensor):
        """The same operator on an integer tensor, when it changes neither scale nor precision."""
        return self.result(node, [tensor.entry], tensor.scale, tensor.precision)

    def result(self, node, inputs, scale, precision, op=None, attrs=None):
        """What takes the place of `node`, under its name: the same operator and attributes unless others are given."""
        new = Node(op or node.op, node.name, inputs, node.attrs if attrs is None else attrs)
        return Tensor(Entry(new, 0), scale, precision)

    def add(self, op, inputs, attrs, hint):
        """Entry of a helper node, named after the node `hint` it stands for."""
        return Entry(Node(op, self._names.fresh("quantize", f"{hint}_{op}"), inputs, attrs), 0)

    # --- facts collected before the walk

    def _never_negative(self):
        found = {}
        for node in self.graph.topological():
            if node.is_variable:
                found[node] = False
            else:
                found[node] = operator_of(node).nonnegative(node, [found[e.node] for e in node.inputs])
        return found

    def _exact(self):
        """node -> the largest integer that its tensor must hold without rounding, because it numbers the rows of a table."""
        found = {}
        for node in reversed(self.graph.topological()):
            if not node.is_variable:
                for entry, largest in zip(node.inputs, operator_of(node).exact(node, found.get(node), self)):
                    if largest is not None:
                        found[entry.node] = max(found.get(entry.node, 0), largest)
        return found

    def _integral(self):
        """node -> are its values integers, and its tensor free of rounding?"""
        found = {}
        for node in self.graph.topological():
            if node.is_variable:
                found[node] = node in self.exact and not self.graph.is_param(node)
            else:  # float32 has no integers of its own beyond 2^24
                found[node] = (node.name not in self.options.restore and self.thresholds[node.name] < 2 ** 24
                               and operator_of(node).integral(node, [found[e.node] for e in node.inputs], self))
        return found

    def _limits_wanted(self):
        """node -> the largest integer any consumer wants it to reach, from the outputs backwards."""
        wanted = dict.fromkeys(self.graph.topological(), 0)
        for entry in self.graph.outputs:
            precision = min(self._requested(entry.node, entry.node.name, DEFAULT_OUTPUT_BITS), DEFAULT_OUTPUT_BITS)
            wanted[entry.node] = max(wanted[entry.node], code_range(precision))
        for node in reversed(self.graph.topological()):
            if not node.is_variable:
                restored = node.name in self.options.restore
                limits = [WIDE] * len(node.inputs) if restored else operator_of(node).wanted(node, wanted[node], self)
                for entry, limit in zip(node.inputs, limits):
                    wanted[entry.node] = max(wanted[entry.node], limit or 0)
        return wanted

    def _shared_bounds(self):
        """Sum -> bound of its operands. Sums that feed each other, as the shortcuts of a residual network do, have one bound
        and so one scale, unless that would cost one of them many bits: what a sum hands on then needs no rescaling."""
        leader, extremes = {}, {}

        def find(node):
            while leader[node] is not node:
                node = leader[node]
            return node

        for node in self.graph.topological():
            if node.kind not in SUMS or any(self.is_param(node, i) for i in (0, 1)):
                continue
            leader[node], extremes[node] = node, (self._operand_bound(node),) * 2
            for source in (self.source(node, i) for i in (0, 1)):
                while source.kind == "relu":
                    source = self.source(source, 0)
                if source not in leader:
                    continue
                first, last = find(source), find(node)
                least, largest = (f(pair) for f, pair in zip((min, max), zip(extremes[first], extremes[last])))
                if largest <= SHARED_SPREAD * least:
                    leader[last], extremes[first] = first, (least, largest)
        return {node: extremes[find(node)][1] for node in leader}

    def _requested(self, source, consumer, precision):
        return self.options.precisions.get(source.name, {}).get(consumer, precision)

    # --- ends

    def _input(self, node):
        precision = self.options.precisions.get(node.name, {}).get("out_key", 8)
        scale = arithmetic.scale_for(self.thresholds[node.name], precision)
        if node in self.exact:
            precision, scale = self._of_rows(node, precision)
        variable = Node(node.op, node.name, attrs={**node.attrs, "precision": precision})
        return Tensor(Entry(variable, 0), scale, precision)

    def _of_rows(self, node, precision):
        """(precision, scale) of an input of which a part, or all, are numbers of rows: a power of two as the scale keeps those
        exact, and is as fine as the real numbers beside them would have it in `precision` bits."""
        largest, real = max(self.exact[node], self.thresholds[node.name]), self._real_parts(node)
        finest = max([1.0] + [code_range(precision) / threshold for threshold in real])
        scale = 2.0 ** int(np.ceil(np.log2(finest)))
        width = arithmetic.bits(largest * scale)
        if width > MOST_INPUT_BITS:
            raise MRTError(f"the input {node.name} holds numbers of rows up to {largest:.6g} and real numbers that need steps of "
                           f"1/{scale:.0f}; together these are {width} bits, of at most {MOST_INPUT_BITS}. Feed the real numbers "
                           "multiplied by a constant, or set a lower input precision")
        return width, scale

    def _real_parts(self, node):
        """Thresholds of what real numbers are made of, behind operators that pass integers on."""
        found = []
        for user in self._consumers[node]:
            if user is None:
                continue
            places = [i for i, entry in enumerate(user.inputs) if entry.node is node]
            passed = operator_of(user).exact(user, 1, self)
            if any(passed[i] is None for i in places):
                found += [self.thresholds[node.name]] if self.thresholds[node.name] > 0 else []
            elif user.op != "Embedding":
                found += self._real_parts(user)
        return found

    def _output(self, entry):
        source = entry.node
        requested = self.options.precisions.get(source.name, {}).get(source.name)
        if requested is None:
            tensor = self.tensors[source]
            return tensor if tensor.is_uniform else self._roomy(source, tensor)
        return self._at_most(source, code_range(requested))

    def _at_most(self, source, limit):
        """An output with one scale and integers up to `limit`, but no finer than they are, or can be made: then the range goes
        beyond the threshold."""
        tensor, threshold = self.tensors[source], self.thresholds[source.name]
        coarsest = np.min(tensor.scale)
        spread = float(np.max(tensor.scale) / coarsest) if threshold > 0 else 1.0
        most = arithmetic.most_factor(tensor.precision, self._bound(source, tensor, threshold), spread)
        finest = coarsest * min(spread, most)
        if (tensor.is_uniform and tensor.precision <= arithmetic.bits(limit)) or threshold * finest >= limit:
            return self._rescaled(source, limit)
        return self._rescale(source, tensor, limit, limit / finest, expected=threshold)

    def _constant_output(self, source):
        """An output that does not depend on the input: the constant, as finely as its precision allows."""
        precision, values = self._requested(source, source.name, DEFAULT_OUTPUT_BITS), self.graph.params[source.name]
        scale = arithmetic.scale_for(np.abs(values).max(initial=0), precision)
        codes = arithmetic.quantize(values, scale, precision)
        return Tensor(self.constant(codes, precision, source.name), scale, precision)

    def _roomy(self, source, tensor):
        """An output with one scale and a bit to spare, lest the largest outputs of unseen data end at the same integer. The
        integers that come in have that room where it costs their multipliers nothing."""
        threshold, limit = self.thresholds[source.name], code_range(DEFAULT_OUTPUT_BITS)
        if not threshold * np.min(tensor.scale) >= 2:  # nothing but zeros, or hardly more
            return self._rescaled(source, limit)
        wide = arithmetic.bits(min(2 * threshold * np.max(tensor.scale), 2.0 ** 40))
        exact = wide <= arithmetic.MAX_BITS - arithmetic.MULTIPLIER_BITS
        return self._rescale(source, tensor, 2 * limit, 2 * threshold, expected=(1 + exact) * threshold)

    # --- rescaling

    def _rescaled(self, source, limit, margin=1.0):
        """The tensor of a node of the float graph with one scale and no wider than `limit`; made once per limit. `margin`: how
        far beyond its threshold it may go without saturating, where there are bits enough."""
        margin = margin if limit >= WIDE else 1.0
        key = source, limit, margin
        if key not in self._requantized:
            tensor = self.tensors[source]
            fits = tensor.is_uniform and tensor.precision <= arithmetic.bits(limit)
            self._requantized[key] = tensor if fits else self._rescale(source, tensor, limit,
                                                                       margin * self.thresholds[source.name])
        return self._requantized[key]

    def _equalized(self, source, limit):
        """Like `_rescaled`, but each channel's own range is mapped to `limit` where that is worthwhile."""
        tensor, seen, threshold = self.tensors[source], self.channels.get(source.name), self.thresholds[source.name]
        fits = tensor.has_rows or (not tensor.is_moved and tensor.precision <= arithmetic.bits(limit))
        if fits or seen is None or not threshold > 0 or not seen.bound.max() > 0:
            return tensor if fits else self._rescaled(source, limit)
        clip = {127: seen.clip127, 254: seen.clip254}.get(limit, 1.0) if self.options.clip_inputs else 1.0
        bounds = self.channel_bounds(source, limit)
        return self._rescale(source, tensor, limit, threshold * clip if bounds is None else bounds)

    def _rescale(self, node, tensor, limit, threshold=None, expected=None):
        """`tensor`, which stands for `node`, with a scale that maps the node's threshold to `limit`; with one scale per channel
        for a vector of thresholds. `expected`: what its values are expected to stay below, the threshold by default."""
        threshold = self.thresholds[node.name] if threshold is None else threshold
        precision = arithmetic.bits(limit)
        # a tensor that was zero throughout calibration has no scale of its own: it keeps the coarsest one, clipped
        target = limit / threshold if np.min(threshold) > 0 else np.min(tensor.scale)
        factor = target / tensor.scale
        bound = self._bound(node, tensor, threshold if expected is None else expected)
        plan = self._plan(node, factor, tensor.precision, bound, precision)
        entry = self._emit(tensor.entry, plan, node)
        # one factor per channel approaches the common target in each; a single factor is known exactly
        exact = np.ndim(factor) == 0 and plan.multiplier
        return Tensor(entry, tensor.scale * plan.factor if exact else target, precision)

    @staticmethod
    def _plan(node, *widths):
        try:
            return arithmetic.plan_rescale(*widths)
        except MRTError as error:
            raise MRTError(f"node {node.name} ({node.kind}): {error}") from None

    def _bound(self, node, tensor, threshold):
        """Width that holds the values of interest of the tensor that stands for `node`: up to the threshold, and where every
        channel has its own scale, up to what that channel can be expected to reach; a channel with a fine scale mostly has
        small values, and would otherwise cost all of them bits of the multiplier."""
        if not np.min(threshold) > 0:
            return tensor.precision
        seen = self.channels.get(node.name)
        if seen is not None and np.shape(seen.bound) == np.shape(tensor.scale):
            threshold = np.minimum(threshold, HEADROOM * seen.bound)
        return min(arithmetic.bits(min(np.max(threshold * tensor.scale), 2.0 ** 40)), tensor.precision)

    def _emit(self, entry, plan, source):
        name = source.name
        if plan.pre_shift:
            entry = self.shift(entry, plan.pre_shift, plan.narrow, name)
        elif plan.narrow:
            entry = self.clip(entry, plan.narrow, name)
        if np.ndim(plan.multiplier) or plan.multiplier != 1:
            entry = self.add("broadcast_mul", [entry, self._multiplier(plan.multiplier, source)], {}, name)
        if plan.shift:
            return self.shift(entry, plan.shift, plan.precision, name)
        return self.clip(entry, plan.precision, name)

    def shift(self, entry, bits, precision, hint):
        """Entry shifted right, halves up, and clipped."""
        name = self._names.fresh("quantize", f"{hint}_right_shift")
        return Entry(Node("Custom", name, [entry], {"op_type": "cvm_right_shift", "shift_bit": bits, "precision": precision}), 0)

    def clip(self, entry, precision, hint):
        """Entry clipped to a precision."""
        name = self._names.fresh("quantize", f"{hint}_clip")
        return Entry(Node("Custom", name, [entry], {"op_type": "cvm_clip", "precision": precision}), 0)

    def _multiplier(self, multiplier, source):
        if np.ndim(multiplier) == 0:
            return self.scalar(multiplier)
        return self.channel_vector(multiplier, source, "multiplier")

    def channel_vector(self, codes, node, hint, precision=None):
        """Entry of one integer per channel, shaped to broadcast along axis 1 of the output of `node`, or an array that does."""
        values = np.asarray(codes, np.int32)
        values = values if values.ndim > 1 else values.reshape(self._column(node))
        return self.constant(values, precision or arithmetic.bits(values), f"{node.name}_{hint}")

    def scalar(self, value):
        """Entry of one integer, shared by all who need it."""
        name, values = f"const_var_{value}", np.array([value], np.int32)
        if name not in self._shared:
            self._shared[name] = self._constant(values, arithmetic.bits(values), self._names.take(name))
        return self._shared[name]

    def _constant(self, codes, precision, name):
        self.params[name] = np.asarray(codes, np.int8 if precision <= 8 else np.int32)
        return Entry(Node("null", name, attrs={"precision": precision}), 0)

    # --- debugging

    def _restored(self, node):
        """The node in float between two conversions (such a graph cannot be compiled)."""
        inputs = []
        for i, entry in enumerate(node.inputs):
            if self.graph.is_param(entry.node):
                self.params[entry.node.name] = self.graph.params[entry.node.name]
                inputs.append(entry)
            else:
                inputs.append(self._as_float(node, i))
        result = Entry(Node(node.op, node.name, inputs, node.attrs), 0)
        scale = arithmetic.scale_for(WIDE_MARGIN * self.thresholds[node.name], RESTORED_BITS)
        codes = self.add("rint", [self.add("_mul_scalar", [result], {"scalar": repr(scale)}, node.name)], {}, node.name)
        return Tensor(self.clip(codes, RESTORED_BITS, node.name), scale, RESTORED_BITS)

    def _as_float(self, node, i):
        """Entry of the real values of input i, as it stands."""
        tensor = self.tensor(node, i)
        if tensor.is_uniform:
            return self.add("_mul_scalar", [tensor.entry], {"scalar": repr(1.0 / tensor.scale)}, node.name)
        name = self._names.fresh("quantize", f"{node.name}_step")
        self.params[name] = (1 / tensor.scale).reshape(self._column(self.source(node, i)))
        return self.add("broadcast_mul", [tensor.entry, Entry(Node("null", name), 0)], {}, node.name)


def _compact(numbers):
    """An array with extent 1 along the axes along which nothing changes; a vector where axis 1 alone is left."""
    for axis in range(numbers.ndim):
        first = numbers.take([0], axis)
        numbers = first if (numbers == first).all() else numbers
    return numbers.ravel() if numbers.size == numbers.shape[1] else numbers


def quantize_graph(graph, thresholds, channels, options, sensitivities=None, quantizer=Quantizer, grams=None):
    """Quantize a prepared graph. `thresholds`: name -> bound of |tensor| for every node; `channels`: name ->
    calibrate.Channels, where known; `sensitivities`: layer name -> list of calibrate.Sensitivity; `quantizer`: the class that
    does it; `grams`: layer name -> rounding.Gram, for adaptive rounding. Returns a Quantized."""
    missing = [node.name for node in graph.topological() if node.name not in thresholds]
    if missing:
        raise MRTError(f"{len(missing)} nodes have no threshold, {missing[0]} first; calibrate before quantize")
    unknown = options.restore - {node.name for node in graph.topological()}
    if unknown:
        raise MRTError(f"cannot restore {', '.join(sorted(unknown))}: no such node in the prepared network")
    shapes = infer_shapes(graph)
    facts = graph, shapes, thresholds, channels, options, sensitivities
    return quantizer(*facts, two_parts(*facts, quantizer), grams).run()


def two_parts(graph, shapes, thresholds, channels, options, sensitivities, quantizer=Quantizer):
    """Layer -> "input" or "weight": what to take in two parts for the least noise in the outputs, while what this adds to time,
    gas and parameter bytes stays within the budget, a share of what the network takes of each. The choices come in the order of
    noise saved per cost, of which the one that is the largest share of the network's counts, as long as a choice's share of the
    noise is more than its share of the cost."""
    if not options.two_part_budget or not sensitivities or not quantizer.takes_parts:
        return {}
    # how weights are rounded makes no difference here but in time
    quantizer = quantizer(graph, shapes, thresholds, channels, options._replace(rounding="nearest"), sensitivities)
    whole = _whole_cost(quantizer.run().graph)
    total = sum(sum(pair) for pair in quantizer.noise.values())
    choices = []
    for place, (node, (of_input, of_weight)) in enumerate(quantizer.noise.items()):
        taken = options.precisions.get(node.inputs[0].node.name, {}).get(node.name)
        room = operator_of(node).split_room(node, quantizer)
        if taken is None and room > 0:
            # where all codes are used already, the input has a bit less to gain
            more = room - (quantizer.layer_wants(node, 0) > code_range(quantizer.weight_precision))
            savings = {"input": of_input * (1 - 4.0 ** -more), "weight": of_weight * (1 - 4.0 ** -room)}
            for part, saved in savings.items():
                shares = _costs(node, quantizer)[part] / whole
                choices.append((saved / shares.max(), -place, node, part, shares))
    chosen, left = {}, np.full(3, options.two_part_budget)
    for rate, _, node, part, shares in sorted(choices, key=lambda choice: choice[:2], reverse=True):
        if node not in chosen and (shares <= left).all() and rate > total:
            chosen[node], left = part, left - shares
    return chosen


def _costs(node, q):
    """What taking the "input" or the "weight" of a layer in two parts adds to the time, gas and parameter bytes of a sample."""
    samples = q.shapes[q.graph.find("data")][0][0]
    weights, depth = q.param(node, 1).size, q.param(node, 1)[0].size
    outputs, inputs = (int(np.prod(q.shapes[n][0])) / samples for n in (node, q.source(node, 0)))
    time, gas = _layer_cost(depth, inputs, outputs)
    gas += 2 * OPERATION_GAS * outputs  # the higher part is multiplied, and the lower added
    return {"input": np.array([time, gas + 4 * OPERATION_GAS * inputs, 0]),  # shifted, multiplied, subtracted and clipped
            "weight": np.array([time, gas + ELEMENT_GAS * weights, weights])}


def _layer_cost(depth, inputs, outputs):
    """(time, gas) of a layer with so many products per output."""
    return outputs * depth + ELEMENT_COST * (inputs + outputs), (PRODUCT_GAS * depth + ELEMENT_GAS) * outputs


def _whole_cost(graph):
    """Time, gas and parameter bytes of an integer graph, for a sample: the time of its layers, because other operators are done
    with them on the way."""
    shapes, time = infer_shapes(graph), 0.0
    samples = shapes[graph.find("data")][0][0]
    gas = sum(ELEMENT_GAS * values.size for values in graph.params.values())
    for node in graph.topological():
        outputs = int(np.prod(shapes[node][0])) / samples
        if is_layer(node):
            depth, inputs = graph.params[node.inputs[1].node.name][0].size, int(np.prod(shapes[node.inputs[0].node][0])) / samples
            time, gas = np.add((time, gas), _layer_cost(depth, inputs, outputs))
        elif not node.is_variable:
            gas += OPERATION_GAS * outputs
    return np.array([time, gas, sum(values.nbytes for values in graph.params.values())])
