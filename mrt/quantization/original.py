"""The preset `original`: how the original MRT quantizes, for comparison.

A rule book of its own beside the one in `mrt.ops`: the same prepared graph, the same thresholds, the same runtime operators,
and the original's numbers.

Reproduced
- One scale per weight tensor, 8 bits, no correction of biases, no equalization, symmetric codes.
- Inputs of layers, sums, tables and softmax at 8 bits, of products, additions and concatenations at 16.
- An input comes to its precision by a shift when it is more than Shift_bits too wide, and by multiplier and shift only where
  the scale must be exact; so most of the rescaling of layers is by powers of two, and up to one of the 8 bits is lost.
- Every result is clipped to the precision of its threshold, as a step of its own.
- Tables of 255 entries; softmax on 8 bits, including its loss of order among logits where the threshold is below lambda.
- Thresholds by absolute maximum, or mean + lambda * std: what `calibrate` was asked for.

Not reproduced, because it would be a defect of the comparison and not of the method: only the last batch counts, lambda clips
parameters too, averages over 2^24 in float32, and models that overflow 32 bits (the precision is lowered here) or that the
original cannot quantize at all (those operators follow the rules of `mrt.ops`, at the original's precisions).
"""
import numpy as np

from mrt import arithmetic
from mrt.arithmetic import MAX_BITS, MAX_SHIFT, bits, code_range, scale_for
from mrt.errors import MRTError
from mrt.graph import Entry, Node
from mrt.ops import operator_of
from mrt.ops.table import Steep, Table, function_of, table
from mrt.quantization.quantize import Quantizer, Tensor

__all__ = ["Original", "integer_float"]

LAYER_BITS, WIDE_BITS, INDEX_BITS = 8, 16, 8
OFF = {"weight_granularity": "tensor", "full_range": False, "equalize": False, "clip_inputs": False, "bias_correction": "none"}


def integer_float(value, width):
    """(fraction, exponent) with value about fraction * 2^exponent for value >= 0, the fraction in `width` bits: the mantissa is
    doubled at most width - 2 times, and no more once it is an integer."""
    if value == 0:
        return 0, 0
    mantissa, exponent = np.frexp(value)
    mantissa, exponent = float(mantissa) * 2, int(exponent) - 1
    for _ in range(width - 2):
        if mantissa.is_integer():
            break
        mantissa, exponent = mantissa * 2, exponent - 1
    return min(int(np.rint(mantissa)), max(code_range(max(width, 1)), 1)), exponent


class Original(Quantizer):
    """Quantizes a prepared graph by the original's rules."""

    takes_parts = False

    def __init__(self, graph, shapes, thresholds, channels, options, *facts):
        super().__init__(graph, shapes, thresholds, {}, options._replace(**OFF))

    def quantized(self, node):
        operator = operator_of(node)
        rule = RULES.get(node.kind) or (_table if isinstance(operator, Table) and not isinstance(operator, Steep) else None)
        tensor = rule(node, self) if rule else operator.quantize(node, self)
        # the tight clip; a scale of the threshold's own makes it the range of its precision
        width = bits(min(self.thresholds[node.name] * tensor.scale, 2.0 ** 40))
        if tensor.precision <= width:
            return tensor
        inner = tensor.entry.node
        if inner.name == node.name:  # the clip is what others know by the name of the node
            inner = Node(inner.op, self._names.fresh("quantize", node.name), inner.inputs, inner.attrs)
        attrs = {"op_type": "cvm_clip", "precision": width}
        return self.result(node, [Entry(inner, 0)], tensor.scale, width, "Custom", attrs)

    def uniform(self, node, i):
        return self.tensor(node, i)

    def requantize(self, node, i, precision):
        return self._brought(self.source(node, i), node.name, precision)

    def at_scale(self, node, i, precision, scale):
        return self._brought(self.source(node, i), node.name, precision, scale).entry

    def _output(self, entry):
        source, tensor = entry.node, self.tensors[entry.node]
        requested = self.options.precisions.get(source.name, {}).get(source.name)
        if requested is None:
            return tensor
        return self._brought(source, source.name, requested, scale_for(self.thresholds[source.name], requested))

    def _brought(self, source, consumer, precision, exact=None):
        """The tensor of `source` in at most `precision` bits, at the scale `exact` where one is given."""
        tensor, threshold = self.tensors[source], self.thresholds[source.name]
        precision = self._requested(source, consumer, precision)
        key = source, "original", precision, exact
        if key in self._requantized:
            return self._requantized[key]
        entry, scale, width = tensor
        if threshold == 0 and not exact:  # the original drops such a tensor; here it stays what it is, clipped
            if width > precision:
                entry, width = self.clip(entry, precision, source.name), precision
        else:
            excess = min(bits(min(threshold * scale, 2.0 ** 40)), width) - precision
            if excess > self.options.shift_bits:
                entry = self._realize(entry, excess, width, width - excess, source.name)
                width, scale = width - excess, scale / 2 ** excess
            if exact or width > precision:
                wanted = exact or scale_for(threshold, precision)
                fraction, exponent = integer_float(wanted / scale, MAX_BITS - width)
                if fraction > 1:
                    entry = self.add("broadcast_mul", [entry, self.scalar(fraction)], {}, source.name)
                    width = width + bits(fraction)
                entry = self._realize(entry, -exponent, width, precision, source.name)
                scale, width = exact or scale * fraction * 2.0 ** exponent, precision
        self._requantized[key] = Tensor(entry, scale, width)
        return self._requantized[key]

    def _realize(self, entry, shift, width, precision, hint):
        """An entry of `width` bits shifted right by `shift`, left where that is negative, and clipped."""
        while shift > MAX_SHIFT:  # what is left by then is 0, or a rounding
            entry, shift = self.shift(entry, MAX_SHIFT - 1, width, hint), shift - MAX_SHIFT + 1
        if shift > 0:
            return self.shift(entry, shift, precision, hint)
        if shift == 0:
            return self.clip(entry, precision, hint)
        room = MAX_BITS + shift  # wider values saturate anyway
        if room < 1:
            raise MRTError(f"cannot shift {hint} left by {-shift} bits inside {MAX_BITS}; give it a larger threshold")
        if width > room:
            entry = self.clip(entry, room, hint)
        attrs = {"op_type": "cvm_left_shift", "shift_bit": -shift, "precision": precision}
        return self.add("Custom", [entry], attrs, hint)

    def parameter(self, node, i, precision, scale=None):
        """Tensor of a parameter: at the scale given, or that of its threshold."""
        threshold = self.thresholds[node.inputs[i].node.name]
        scale = scale or scale_for(threshold, precision)
        entry = self.constant(arithmetic.quantize(self.param(node, i), scale, precision), precision, node.inputs[i].node.name)
        return Tensor(entry, scale, precision)


# ---- the rules -------------------------------------------------------------------------------------------------------

def _layer(node, q):
    x, weight = q.requantize(node, 0, LAYER_BITS), q.parameter(node, 1, LAYER_BITS)
    if x.precision > LAYER_BITS:
        raise MRTError(f"the preset original takes inputs of layers at {LAYER_BITS} bits; {node.name} is set to {x.precision}")
    scale, entries = x.scale * weight.scale, [x.entry, weight.entry]
    width = arithmetic.sum_bits(x.precision + weight.precision, int(np.prod(q.param(node, 1).shape[1:])))
    if len(node.inputs) > 2:
        precision = min(bits(q.param(node, 2).astype(np.float64) * scale), MAX_BITS - 1)
        entries.append(q.parameter(node, 2, precision, scale).entry)
        width = max(width, precision) + 1
    return q.result(node, entries, scale, width)


def _product(node, q):
    a, b = (q.parameter(node, i, WIDE_BITS) if q.is_param(node, i) else q.requantize(node, i, WIDE_BITS) for i in (0, 1))
    return q.result(node, [a.entry, b.entry], a.scale * b.scale, a.precision + b.precision)


def _times_number(node, q):
    x, factor = q.requantize(node, 0, WIDE_BITS), code_range(WIDE_BITS)
    scale = x.scale * factor / node.float("scalar")
    return q.result(node, [x.entry, q.scalar(factor)], scale, x.precision + WIDE_BITS, "broadcast_mul", {})


def _common(node, q):
    """Entries of all inputs at the scale of the largest threshold, that scale, and its precision."""
    largest = max(q.thresholds[q.source(node, i).name] for i in range(len(node.inputs)))
    scale = scale_for(largest, WIDE_BITS)
    entries = [q.parameter(node, i, WIDE_BITS, scale).entry if q.is_param(node, i) else q.at_scale(node, i, WIDE_BITS, scale)
               for i in range(len(node.inputs))]
    return entries, scale


def _sum_of_two(node, q):
    entries, scale = _common(node, q)
    return q.result(node, entries, scale, WIDE_BITS + 1)


def _concat(node, q):
    entries, scale = _common(node, q)
    return q.result(node, entries, scale, WIDE_BITS)


def _sum(node, q):
    x = q.requantize(node, 0, LAYER_BITS)
    terms = int(np.prod(q.shapes[q.source(node, 0)][0])) // int(np.prod(q.shapes[node][0]))
    return q.result(node, [x.entry], x.scale, arithmetic.sum_bits(x.precision, terms))


def _clip(node, q):
    x = q.tensor(node, 0)
    low, high = (int(np.clip(node.float(key) * x.scale, -2.0 ** 30, 2.0 ** 30)) for key in ("a_min", "a_max"))
    high = max(high, low + 1)
    # the runtime's width of a constant bound is one more where it is 2^k - 1
    precision = max(abs(low) + 1, abs(high) + 1).bit_length() + 1
    return q.result(node, [x.entry], x.scale, precision, attrs={"a_min": low, "a_max": high})


def _table(node, q):
    scale, limit = scale_for(q.thresholds[q.source(node, 0).name], INDEX_BITS), code_range(INDEX_BITS)
    index = q.add("broadcast_add", [q.at_scale(node, 0, INDEX_BITS, scale), q.scalar(limit)], {}, node.name)
    return table(node, q, index, function_of(node, np.arange(-limit, limit + 1) / scale))


def _softmax(node, q):
    scale = scale_for(q.thresholds[q.source(node, 0).name], LAYER_BITS)
    x, keep = q.at_scale(node, 0, LAYER_BITS, scale), {"axis": node.int("axis"), "keepdims": True}
    lambd = q.options.softmax_lambd
    alpha, width = int(lambd * scale), bits(np.exp(lambd))
    precision = min(15, MAX_BITS - 1 - width)
    if precision <= 8:
        raise MRTError(f"node {node.name} (softmax): lambda {lambd} is too large for the preset original; at most 15")

    def add(op, *inputs, **attrs):
        return q.add(op, inputs, attrs, node.name)

    largest = add("broadcast_sub", add("max", x, **keep), q.scalar(alpha))
    index = q.clip(add("relu", add("broadcast_sub", x, q.clip(largest, LAYER_BITS, node.name))), LAYER_BITS, node.name)
    values = np.minimum(np.exp(np.arange(alpha + 1) / scale), code_range(width))
    entries = q.constant(np.rint(values).astype(np.int32).reshape(-1, 1), width, f"{node.name}_table")
    powers = add("Custom", index, entries, op_type="cvm_lut", in_dim=alpha + 1)
    total = add("sum", powers, **keep)
    half = add("Custom", total, op_type="cvm_right_shift", shift_bit=1, precision=MAX_BITS - 1)
    limit = code_range(precision)
    quotient = add("broadcast_div", add("broadcast_add", add("broadcast_mul", powers, q.scalar(limit)), half), total)
    return q.result(node, [quotient], float(limit), precision, "Custom", {"op_type": "cvm_clip", "precision": precision})


RULES = {"Convolution": _layer, "FullyConnected": _layer, "broadcast_mul": _product, "_mul_scalar": _times_number,
         "broadcast_add": _sum_of_two, "broadcast_sub": _sum_of_two, "Concat": _concat, "sum": _sum, "clip": _clip,
         "softmax": _softmax}
