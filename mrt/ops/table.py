"""Functions of one variable, by table: the input at 12 bits is the index, the output has 16 bits."""
from typing import Callable, NamedTuple, Optional

import numpy as np

from mrt import arithmetic
from mrt.arithmetic import WIDE_MARGIN, code_range
from mrt.errors import MRTError
from mrt.graph import Node
from mrt.ops.base import Operator, register

INDEX_BITS, POSITIVE_INDEX_BITS, VALUE_BITS = 12, 15, 16
STEPS = ("floor", "ceil", "round", "rint", "fix", "trunc")  # functions whose values are integers


def _erf(x):
    # Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26; |error| <= 1.5e-7
    t = 1 / (1 + 0.3275911 * np.abs(x))
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - poly * np.exp(-x * x))


def _elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _power(x, node):
    return np.power(x, node.float("scalar"))


class _Function(NamedTuple):
    """`value`: function of real values and the node; `flat`: |x| beyond which it is constant; `positive`: it is defined for
    positive x only."""
    value: Callable
    nonnegative: bool = False
    flat: Optional[float] = None
    positive: bool = False


# by MXNet's operator, or its act_type
_FUNCTIONS = {
    "sigmoid": _Function(lambda x, node: 0.5 * (1 + np.tanh(0.5 * x)), True, 12.0),
    "tanh": _Function(lambda x, node: np.tanh(x), flat=6.0),
    "softsign": _Function(lambda x, node: x / (1 + np.abs(x))),
    "softrelu": _Function(lambda x, node: np.logaddexp(x, 0), True),
    "exp": _Function(lambda x, node: np.exp(x), True),
    "expm1": _Function(lambda x, node: np.expm1(x)),
    "hard_sigmoid": _Function(lambda x, node: np.clip(node.float("alpha", 0.2) * x + node.float("beta", 0.5), 0, 1), True),
    "erf": _Function(lambda x, node: _erf(x), flat=4.0),
    "arctan": _Function(lambda x, node: np.arctan(x)),
    "elu": _Function(lambda x, node: _elu(x, node.float("slope", 0.25))),
    "selu": _Function(lambda x, node: 1.0507009873554805 * _elu(x, 1.6732632423543772)),
    "gelu": _Function(lambda x, node: 0.5 * x * (1 + _erf(x / np.sqrt(2)))),
    "floor": _Function(lambda x, node: np.floor(x)),
    "ceil": _Function(lambda x, node: np.ceil(x)),
    "round": _Function(lambda x, node: np.sign(x) * np.floor(np.abs(x) + 0.5)),
    "rint": _Function(lambda x, node: np.rint(x)),
    "fix": _Function(lambda x, node: np.fix(x)),
    "trunc": _Function(lambda x, node: np.fix(x)),
    "sqrt": _Function(lambda x, node: np.sqrt(x), True, positive=True),
    "rsqrt": _Function(lambda x, node: 1 / np.sqrt(x), True, positive=True),
    "log": _Function(lambda x, node: np.log(x), positive=True),
    "log2": _Function(lambda x, node: np.log2(x), positive=True),
    "log10": _Function(lambda x, node: np.log10(x), positive=True),
    "log1p": _Function(lambda x, node: np.log1p(x), positive=True),
    "cbrt": _Function(lambda x, node: np.cbrt(x)),
    "reciprocal": _Function(lambda x, node: 1 / x),
    "_power_scalar": _Function(_power),
}


# below 0, how far from where they are 0 or -1 for 16 bits
_VANISHING = dict.fromkeys(("exp", "expm1", "softrelu", "elu", "selu", "gelu"), 16.0)


def _function(node):
    """The _Function of a node."""
    function = _FUNCTIONS[node.str("act_type", node.op)]
    if node.op == "_power_scalar":
        exponent = node.float("scalar")
        return function._replace(nonnegative=exponent % 2 == 0 or exponent != int(exponent), positive=exponent != int(exponent))
    return function


def function_of(node, x, limit=np.inf):
    """float64 values of the function of a node at equally spaced, ascending `x`, within +-`limit`. At a pole it takes the value
    a quarter of a step further up."""
    function = _function(node)
    with np.errstate(all="ignore"):
        values, beside = function.value(x, node), function.value(x + 0.25 * (x[1] - x[0]), node)
    values = np.clip(np.where(np.isfinite(values), values, beside), -limit, limit)
    if not np.isfinite(values).all():
        raise MRTError(f"node {node.name} ({node.op}) has values that are not finite for inputs from {x[0]:.3g} to {x[-1]:.3g}")
    return values


@register("sigmoid", "tanh", "softsign", "exp", "expm1", "hard_sigmoid", "erf", "arctan", "cbrt")
class Table(Operator):
    """Functions of one variable, by table: 12 bits of index, 16 of value."""

    input_bits, most_input_bits = INDEX_BITS, POSITIVE_INDEX_BITS
    differentiable = True

    def index_bits(self, node, q):
        """Bits of the index into the table."""
        return q.input_precision(node)

    def flat(self, node):
        return _function(node).flat or np.inf

    def nonnegative(self, node, inputs):
        return _function(node).nonnegative

    def exact(self, node, largest, q):
        return [None]

    def saturation(self, node, room, q):
        flat = _function(node).flat
        return [(flat or _VANISHING.get(node.str("act_type", node.op)), flat)]

    def largest_output(self, node, bounds):
        return np.inf

    def integral(self, node, inputs, q):
        return node.op in STEPS and node in q.exact

    def wanted(self, node, limit, q):
        return [code_range(self.index_bits(node, q))]

    def quantize(self, node, q):
        function = _function(node)
        threshold = q.thresholds[q.source(node, 0).name]
        threshold = min(threshold or 1.0, function.flat or np.inf)
        width = self.index_bits(node, q)
        limit, scale = code_range(width), arithmetic.scale_for(threshold, width)
        codes, lowest = q.at_scale(node, 0, width, scale), 0
        if not function.positive:  # else an index below 0 takes the first entry
            codes, lowest = q.add("broadcast_add", [codes, q.scalar(limit)], {}, node.name), -limit
        largest = self.largest(node, q)
        return table(node, q, codes, function_of(node, np.arange(lowest, limit + 1) / scale, largest))

    def largest(self, node, q):
        """Bound of the values in the table."""
        return WIDE_MARGIN * q.thresholds[node.name] or np.inf if node.op in ("exp", "expm1") else np.inf


@register("floor", "ceil", "round", "rint", "fix", "trunc")
class Steps(Table):
    """Functions that step, by table like the others."""

    differentiable = False  # a gradient of 0 does not say what an error does at a step


@register("sqrt", "rsqrt", "log", "log2", "log10", "log1p", "reciprocal")
class Steep(Table):
    """Functions with a pole, or that start steeply, by table: 15 bits of index where they take positive numbers only. Their
    values saturate at twice the largest one seen in calibration."""

    input_bits = None
    instead = "the table it is looked up in is as large as it may be"

    def index_bits(self, node, q):
        return POSITIVE_INDEX_BITS if _function(node).positive else INDEX_BITS

    def largest(self, node, q):
        return WIDE_MARGIN * q.thresholds[node.name] or np.inf


@register("_power_scalar")
class Power(Steep):
    """x to a constant power: a product for 2, else a table."""

    def rewrite(self, node, inputs, r):
        exponent = node.float("scalar")
        if exponent == 1:
            return inputs[0]
        return Node("broadcast_mul", node.name, [inputs[0], inputs[0]]) if exponent == 2 else node.with_inputs(inputs)


def table(node, q, index, values):
    """The Tensor of `values[index]` with the values at 16 bits; as they are where they must be exact integers."""
    largest = np.abs(values).max()
    scale = 1.0 if q.integral[node] and largest <= code_range(VALUE_BITS) else arithmetic.scale_for(largest, VALUE_BITS)
    codes = arithmetic.quantize(values, scale, VALUE_BITS).reshape(-1, 1)
    constant = q.constant(codes, VALUE_BITS, f"{node.name}_table")
    return q.result(node, [index, constant], scale, VALUE_BITS, "Custom", {"op_type": "cvm_lut", "in_dim": len(codes)})
