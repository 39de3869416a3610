"""Functions of one variable, by table: the input at 12 bits is the index, the output has 16 bits."""
import numpy as np

from mrt import arithmetic
from mrt.arithmetic import code_range
from mrt.errors import MRTError
from mrt.ops.base import Operator, register

INDEX_BITS, VALUE_BITS = 12, 16


def _erf(x):
    # Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26; |error| <= 1.5e-7
    t = 1 / (1 + 0.3275911 * np.abs(x))
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - poly * np.exp(-x * x))


def _elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


# MXNet's operator, or its act_type -> (function of real values and the node, is it never negative?, |x| beyond which it is
# constant)
_FUNCTIONS = {
    "sigmoid": (lambda x, node: 0.5 * (1 + np.tanh(0.5 * x)), True, 12.0),
    "tanh": (lambda x, node: np.tanh(x), False, 6.0),
    "softsign": (lambda x, node: x / (1 + np.abs(x)), False, None),
    "softrelu": (lambda x, node: np.logaddexp(x, 0), True, None),
    "exp": (lambda x, node: np.exp(x), True, None),
    "hard_sigmoid": (lambda x, node: np.clip(node.float("alpha", 0.2) * x + node.float("beta", 0.5), 0, 1), True, None),
    "erf": (lambda x, node: _erf(x), False, 4.0),
    "elu": (lambda x, node: _elu(x, node.float("slope", 0.25)), False, None),
    "selu": (lambda x, node: 1.0507009873554805 * _elu(x, 1.6732632423543772), False, None),
    "gelu": (lambda x, node: 0.5 * x * (1 + _erf(x / np.sqrt(2))), False, None),
    "floor": (lambda x, node: np.floor(x), False, None),
    "ceil": (lambda x, node: np.ceil(x), False, None),
    "round": (lambda x, node: np.sign(x) * np.floor(np.abs(x) + 0.5), False, None),
    "rint": (lambda x, node: np.rint(x), False, None),
    "fix": (lambda x, node: np.fix(x), False, None),
}


@register("sigmoid", "tanh", "softsign", "exp", "hard_sigmoid", "erf", "floor", "ceil", "round", "rint", "fix")
class Table(Operator):
    """Functions of one variable, by table: 12 bits of index, 16 of value."""

    def nonnegative(self, node, inputs):
        return _FUNCTIONS[node.str("act_type", node.op)][1]

    def wanted(self, node, limit, q):
        return [code_range(INDEX_BITS)]

    def quantize(self, node, q):
        function, _, flat = _FUNCTIONS[node.str("act_type", node.op)]
        threshold = q.thresholds[q.source(node, 0).name]
        threshold = min(threshold or 1.0, flat or np.inf)
        limit = code_range(INDEX_BITS)
        scale = arithmetic.scale_for(threshold, INDEX_BITS)
        codes = q.at_scale(node, 0, INDEX_BITS, scale)
        index = q.add("broadcast_add", [codes, q.scalar(limit)], {}, node.name)
        values = function(np.arange(-limit, limit + 1) / scale, node)
        if not np.isfinite(values).all():
            raise MRTError(f"node {node.name} ({node.op}) has values that are not finite for inputs up to {threshold:.3g}")
        return table(node, q, index, values)


def table(node, q, index, values):
    """The Tensor of `values[index]` with the values at 16 bits."""
    scale = arithmetic.scale_for(np.abs(values).max(), VALUE_BITS)
    codes = arithmetic.quantize(values, scale, VALUE_BITS).reshape(-1, 1)
    constant = q.constant(codes, VALUE_BITS, f"{node.name}_table")
    return q.result(node, [index, constant], scale, VALUE_BITS, "Custom", {"op_type": "cvm_lut", "in_dim": len(codes)})
