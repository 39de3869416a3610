"""What MRT knows of an operator, one object per MXNet operator name.

A class is registered under the names of the operators it handles and says four things about them: what it rejects, how it is
rewritten to core operators, how a core operator becomes integers, and which runtime operator it is exported to; and by
attributes what else others ask: is it a layer, does it have a gradient, at how many bits does it take its inputs. The graph
passes know none of this; adding an operator touches one file of this package.
"""
import math

import numpy as np

from mrt.errors import UnsupportedError

__all__ = ["ENORMOUS", "FAR", "FILLING", "OPERATORS", "SPLIT", "Operator", "Real", "Unchanged", "is_layer", "of_channels",
           "operator_of", "register", "with_scale"]

OPERATORS = {}
ENORMOUS = 1e15  # stands for infinity: float32 holds the sum of many squares of it
FILLING = 1e4  # a constant above may be meant as infinity, whatever it meets
FAR = 64.0  # a constant so many times further out than it need be is meant as infinity; one nearer costs few bits
SPLIT = "split the network before it (Model.prepare and Model.split with keys)"


def register(*names):
    """Class decorator: handle the MXNet operators (or the `op_type` of Custom nodes) of these names."""
    def add(cls):
        for name in names:
            if name in OPERATORS:
                raise NameError(f"operator {name} is registered twice: {type(OPERATORS[name]).__name__}, {cls.__name__}")
            OPERATORS[name] = cls()
        return cls
    return add


def operator_of(node):
    """The registered object for a node; UnsupportedError when there is none."""
    try:
        return OPERATORS[node.kind]
    except KeyError:
        raise UnsupportedError(f"operator {node.kind} of node {node.name} is not known to MRT; {SPLIT} or "
                               f"replace it. Known: {', '.join(sorted(OPERATORS))}") from None


def is_layer(node):
    """Is the node a layer, a sum of products with constant weights?"""
    return node.kind in OPERATORS and OPERATORS[node.kind].is_layer


def with_scale(node, tensor, scale, q):
    """The same integers under another scale. An output gets a node of its own, because its scale is known by its name."""
    if all(entry.node is not node for entry in q.graph.outputs):
        return tensor._replace(scale=scale)
    attrs = {"op_type": "cvm_clip", "precision": tensor.precision}
    return q.result(node, [tensor.entry], scale, tensor.precision, "Custom", attrs)


class Operator:
    """The defaults describe an operator that is core, takes one data tensor, and passes scale and precision through."""

    input_bits = None  # at most so many bits its inputs are brought to, where it narrows them; `MRT.op_input_precs` sets it
    most_input_bits = 16  # that can be set
    instead = None  # what to set where its inputs cannot have a precision
    differentiable = None  # does MXNet compute its gradient, and does that say how errors pass? Every core operator decides
    is_layer = False  # sums of products with constant weights, and a bias
    moves = False  # elements, without computing anything: its input may be narrowed for the layers behind it

    @property
    def is_core(self):
        """Does it become integers by a rule of its own?"""
        return any(getattr(type(self), rule) is not getattr(Operator, rule) for rule in ("quantize", "export"))

    def reject(self, node, graph, shapes):
        """Why this node cannot be quantized, with a remedy, or None. `shapes`: node -> list of output shapes."""
        return None

    def rewrite(self, node, inputs, r):
        """The node(s) of core operators that take the place of `node`; `r` is the passes.rewrite.Rewriter."""
        return node.with_inputs(inputs)

    def carried(self, node, i, numbers, q):
        """What becomes of `numbers`, one for each element of input i, when the elements go where the operator takes them; None
        where it computes one element from several of different numbers. Other inputs' elements have the number -1."""
        return None

    def flat(self, node):
        """Absolute value of the input beyond which the output does not change."""
        return np.inf

    def nonnegative(self, node, inputs):
        """Can the output never be negative? `inputs`: the same of each input."""
        return inputs[0]

    def wanted(self, node, limit, q):
        """The largest integer wanted of each input, when consumers want `limit` of the output."""
        return [limit] * len(node.inputs)

    def exact(self, node, largest, q):
        """For each input the largest integer that its tensor must hold without rounding, or None, when the output must hold the
        integers up to `largest`, or None, so: numbers of rows must arrive at a table as they are."""
        return [largest] * len(node.inputs)

    def integral(self, node, inputs, q):
        """Is every value of the output an integer that its tensor holds without rounding? `inputs`: the same of each input."""
        return inputs[0]

    def saturation(self, node, room, q):
        """For each input (below, above): how far beyond all other values one has to be so that it makes no difference how far.
        None where it always does. `room`: the same of the output."""
        return [room] * len(node.inputs)

    def largest_output(self, node, bounds):
        """A bound for the absolute value of the output, from those of the inputs; infinity where they do not tell."""
        return max(bounds)

    def quantize(self, node, q):
        """The quantize.Tensor that takes the place of `node` in the integer graph; `q` is the Quantizer."""
        return q.follow(node, q.tensor(node, 0))

    def export(self, node, inputs, c):
        """Emit the runtime's operators on the entries `inputs`; returns the entry of the result. `c` is the Compiler."""
        raise UnsupportedError(f"node {node.name} ({node.kind}) computes in float and has no counterpart in the runtime; nodes "
                               "restored by set_restore are for debugging and cannot be compiled")


def of_channels(numbers, shape):
    """`numbers` of an input whose channels, along axis 1, are those of an output of `shape`; None where positions have
    different ones."""
    first = numbers[(slice(None), slice(None)) + (slice(0, 1),) * (numbers.ndim - 2)]
    return np.broadcast_to(first, shape) if (numbers == first).all() else None


class Real(Operator):
    """An operator that makes real numbers of whatever comes in."""

    def exact(self, node, largest, q):
        return [None] * len(node.inputs)

    def integral(self, node, inputs, q):
        return False

    def saturation(self, node, room, q):
        return [(None, None)] * len(node.inputs)

    def largest_output(self, node, bounds):
        return math.inf


class Unchanged(Operator):
    """An operator whose runtime counterpart has the same meaning and no attributes."""

    target = None  # the runtime's name, where it is another

    def export(self, node, inputs, c):
        return c.emit(node, self.target or node.kind, inputs, {})
