"""From a prepared float graph and its thresholds to a graph of integers.

Every tensor of the new graph is a `Tensor`: the entry that computes it, its scale (integer = real * scale) and its precision,
the width its integers are proven to fit. What an operator does with its tensors stands in `mrt.ops`; this module walks the
graph and moves tensors from one scale and precision to another.
"""
from typing import NamedTuple

import numpy as np

from mrt import arithmetic
from mrt.errors import MRTError
from mrt.graph import Entry, Graph, Names, Node
from mrt.ops import operator_of

__all__ = ["Options", "Quantized", "Quantizer", "Tensor", "quantize_graph"]

DEFAULT_OUTPUT_BITS = 16
RESTORED_BITS = 16

INPUT_PRECISIONS = {  # bits an operator takes its inputs at
    **dict.fromkeys(["Convolution", "FullyConnected", "sigmoid", "exp", "softmax", "sum", "batch_dot", "L2Normalization"], 8),
    **dict.fromkeys(["broadcast_add", "broadcast_sub", "broadcast_mul", "elemwise_add", "elemwise_sub", "elemwise_mul",
                     "Concat", "Embedding"], 16),
    "slice_like": 30,
}


class Tensor(NamedTuple):
    """`scale` is a float, or a float64 vector with one scale per channel along axis 1."""
    entry: Entry
    scale: object
    precision: int


class Options(NamedTuple):
    """The hyper-parameters of quantization; see the setters of `mrt.transformer.MRT`."""
    input_precisions: dict
    precisions: dict  # name -> {"out_key" | consumer name: bits}
    restore: frozenset
    weight_granularity: str = "channel"


class Quantized(NamedTuple):
    """`scales` and `precisions`: of every node of the float graph, by its name."""
    graph: Graph
    outputs: list  # of Tensor
    scales: dict
    precisions: dict


class Quantizer:
    """What the `quantize` rule of an operator may ask: tensors of its inputs, requantized or not, constants, new nodes."""

    weight_precision = 8

    def __init__(self, graph, shapes, thresholds, options):
        self.graph, self.shapes, self.thresholds, self.options = graph, shapes, thresholds, options
        self.tensors, self.params = {}, {}
        self._names = Names(node.name for node in graph.topological())
        self._requantized, self._shared = {}, {}
        self._wanted = self._precisions_wanted()

    def run(self):
        for node in self.graph.topological():
            if self.graph.is_param(node):
                continue
            if node.is_variable:
                self.tensors[node] = self._input(node)
            elif node.name in self.options.restore:
                self.tensors[node] = self._restored(node)
            else:
                self.tensors[node] = operator_of(node).quantize(node, self)
        outputs = [self._output(entry) for entry in self.graph.outputs]
        graph = Graph([tensor.entry for tensor in outputs], self.params)
        graph.check_names()
        return Quantized(graph, outputs, {node.name: t.scale for node, t in self.tensors.items()},
                         {node.name: t.precision for node, t in self.tensors.items()})

    # --- tensors

    def tensor(self, node, i):
        """Input i of a node as it stands."""
        return self.tensors[self._source(node, i)]

    def uniform(self, node, i):
        """Input i with one scale for all channels, at the precision its consumers want of it."""
        source = self._source(node, i)
        tensor = self.tensors[source]
        return tensor if np.ndim(tensor.scale) == 0 else self._rescaled(source, self._wanted[source])

    def requantize(self, node, i, precision):
        """Input i with one scale, in at most `precision` bits."""
        source = self._source(node, i)
        return self._rescaled(source, self._requested(source, node.name, precision))

    def input_precision(self, node):
        """Bits the operator takes its inputs at by default."""
        return self.options.input_precisions[node.kind]

    # --- parameters

    def param(self, node, i):
        """The float values of input i, a parameter."""
        return self.graph.params[node.inputs[i].node.name]

    def weight_threshold(self, node, i):
        """Bound of the weights: a float64 vector, one per output channel (axis 0), or a scalar as a 0-d array."""
        weight, name = self.param(node, i), node.inputs[i].node.name
        largest = np.abs(weight.astype(np.float64)).reshape(len(weight), -1).max(axis=1)
        if self.options.weight_granularity == "tensor":
            return np.asarray(float(self.thresholds[name]))
        return np.minimum(largest, self.thresholds[name])

    def constant(self, node, i, codes, precision):
        """Entry of the integers that take the place of parameter input i."""
        return self._constant(codes, precision, self._names.fresh("quantize", node.inputs[i].node.name))

    # --- nodes

    def follow(self, node, tensor):
        """The same operator on an integer tensor, when it changes neither scale nor precision."""
        return self.result(node, [tensor.entry], tensor.scale, tensor.precision)

    def result(self, node, inputs, scale, precision):
        """The same operator, name and attributes on integer inputs."""
        return Tensor(Entry(Node(node.op, node.name, inputs, node.attrs), 0), scale, precision)

    # --- inside

    def _source(self, node, i):
        entry = node.inputs[i]
        if entry.index != 0:
            raise MRTError(f"node {node.name} reads output {entry.index} of {entry.node.name}; only first outputs are quantized")
        return entry.node

    def _requested(self, source, consumer, precision):
        return self.options.precisions.get(source.name, {}).get(consumer, precision)

    def _precisions_wanted(self):
        """node -> the largest precision any consumer wants of it, from the outputs backwards."""
        wanted = dict.fromkeys(self.graph.topological(), 0)
        for entry in self.graph.outputs:
            name = entry.node.name
            wanted[entry.node] = max(wanted[entry.node], self._requested(entry.node, name, DEFAULT_OUTPUT_BITS))
        for node in reversed(self.graph.topological()):
            if not node.is_variable:
                for entry, precision in zip(node.inputs, operator_of(node).wanted(node, wanted[node], self)):
                    wanted[entry.node] = max(wanted[entry.node], precision or 0)
        return wanted

    def _input(self, node):
        precision = self.options.precisions.get(node.name, {}).get("out_key", 8)
        variable = Node(node.op, node.name, attrs={**node.attrs, "precision": precision})
        return Tensor(Entry(variable, 0), arithmetic.scale_for(self.thresholds[node.name], precision), precision)

    def _output(self, entry):
        source = entry.node
        requested = self.options.precisions.get(source.name, {}).get(source.name)
        if requested is None:
            tensor = self.tensors[source]
            return tensor if np.ndim(tensor.scale) == 0 else self._rescaled(source, DEFAULT_OUTPUT_BITS)
        return self._rescaled(source, requested)

    def _rescaled(self, source, precision):
        """The tensor of a node of the float graph with one scale in at most `precision` bits; made once per precision."""
        key = source, precision
        if key not in self._requantized:
            self._requantized[key] = self._rescale(source, precision)
        return self._requantized[key]

    def _rescale(self, source, precision):
        tensor, threshold = self.tensors[source], self.thresholds[source.name]
        uniform = np.ndim(tensor.scale) == 0
        if uniform and tensor.precision <= precision:
            return tensor
        finest = np.max(tensor.scale)
        # a tensor that was zero throughout calibration has no scale of its own: it keeps the coarsest one, clipped
        target = arithmetic.scale_for(threshold, precision) if threshold > 0 else np.min(tensor.scale)
        bound = min(arithmetic.bits(threshold * finest), tensor.precision) if threshold > 0 else tensor.precision
        plan = arithmetic.plan_rescale(target / tensor.scale, tensor.precision, bound, precision)
        entry = self._emit(tensor.entry, plan, source)
        # one factor per channel approaches the common target in each; a single factor is known exactly
        return Tensor(entry, tensor.scale * plan.factor if uniform and plan.multiplier else float(target), precision)

    def _emit(self, entry, plan, source):
        def custom(op_type, entry, **attrs):
            name = self._names.fresh("quantize", f"{source.name}_{op_type[4:]}")
            return Entry(Node("Custom", name, [entry], {"op_type": op_type, **attrs}), 0)

        if plan.pre_shift:
            entry = custom("cvm_right_shift", entry, shift_bit=plan.pre_shift, precision=plan.narrow)
        elif plan.narrow:
            entry = custom("cvm_clip", entry, precision=plan.narrow)
        if np.ndim(plan.multiplier) or plan.multiplier != 1:
            factor = self._multiplier(plan.multiplier, source)
            entry = Entry(Node("broadcast_mul", self._names.fresh("quantize", f"{source.name}_scale"), [entry, factor]), 0)
        if plan.shift:
            return custom("cvm_right_shift", entry, shift_bit=plan.shift, precision=plan.precision)
        return custom("cvm_clip", entry, precision=plan.precision)

    def _multiplier(self, multiplier, source):
        if np.ndim(multiplier) == 0:
            name, values = f"const_var_{multiplier}", np.array([multiplier], np.int32)
            if name not in self._shared:
                self._shared[name] = self._constant(values, arithmetic.bits(values), self._names.take(name))
            return self._shared[name]
        rank = len(self.shapes[source][0])
        values = multiplier.reshape((1, -1) + (1,) * (rank - 2))
        return self._constant(values, arithmetic.bits(values), self._names.fresh("quantize", f"{source.name}_multiplier"))

    def _constant(self, codes, precision, name):
        self.params[name] = codes
        return Entry(Node("null", name, attrs={"precision": precision}), 0)

    def _restored(self, node):
        """The node in float between two conversions (a debugging aid: such a graph cannot be compiled)."""
        inputs = []
        for i, entry in enumerate(node.inputs):
            if self.graph.is_param(entry.node):
                self.params[entry.node.name] = self.graph.params[entry.node.name]
                inputs.append(entry)
                continue
            tensor = self.uniform(node, i)
            inputs.append(self._scalar_node("_mul_scalar", tensor.entry, 1.0 / tensor.scale, node))
        result = Entry(Node(node.op, node.name, inputs, node.attrs), 0)
        scale = arithmetic.scale_for(self.thresholds[node.name], RESTORED_BITS)
        codes = Entry(Node("rint", self._names.fresh("quantize", f"{node.name}_rint"),
                           [self._scalar_node("_mul_scalar", result, scale, node)]), 0)
        name = self._names.fresh("quantize", f"{node.name}_clip")
        clipped = Node("Custom", name, [codes], {"op_type": "cvm_clip", "precision": RESTORED_BITS})
        return Tensor(Entry(clipped, 0), scale, RESTORED_BITS)

    def _scalar_node(self, op, entry, value, node):
        return Entry(Node(op, self._names.fresh("quantize", f"{node.name}_scalar"), [entry], {"scalar": repr(value)}), 0)


def quantize_graph(graph, thresholds, options):
    """Quantize a prepared graph. `thresholds`: name -> bound of |tensor| for every node. Returns a Quantized."""
    missing = [node.name for node in graph.topological() if node.name not in thresholds]
    if missing:
        raise MRTError(f"{len(missing)} nodes have no threshold, {missing[0]} first; calibrate before quantize")
    unknown = options.restore - {node.name for node in graph.topological()}
    if unknown:
        raise MRTError(f"cannot restore {', '.join(sorted(unknown))}: no such node in the prepared network")
    return Quantizer(graph, graph.infer_shapes(), thresholds, options).run()
