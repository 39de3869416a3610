"""Softmax in integers: exponentials by table, one division."""
import numpy as np

from mrt import arithmetic
from mrt.arithmetic import code_range
from mrt.graph import Node
from mrt.ops.base import Operator, Real, register

INDEX_BITS, VALUE_BITS, OUTPUT_BITS = 13, 16, 15
MAX_TERMS = 2 ** 14 - 1


@register("softmax")
class Softmax(Real):
    """exp(x - max) / sum; inputs further than `softmax_lambd` below the largest count as that far below.

    With n terms, numerator and sum stay below 2^31: 16 bits of table, 15 of output, and the sum takes count_bits(n) more.
    """

    input_bits, most_input_bits = INDEX_BITS, 15  # of the distance from the largest input
    differentiable = True

    def reject(self, node, graph, shapes):
        return _reason(node, shapes)

    def rewrite(self, node, inputs, r):
        return _plain(node, inputs, r)

    def nonnegative(self, node, inputs):
        return True

    def saturation(self, node, room, q):
        return [(q.options.softmax_lambd,) * 2]

    def wanted(self, node, limit, q):
        return [code_range(16)]

    def quantize(self, node, q):
        source, axis = q.source(node, 0), node.int("axis")
        steps = code_range(q.input_precision(node))
        scale = steps / q.options.softmax_lambd
        precision = min(arithmetic.bits(q.thresholds[source.name] * scale), 30)
        x = q.at_scale(node, 0, precision, scale)
        keep = {"axis": axis, "keepdims": True}

        def add(op, *inputs, **attrs):
            return q.add(op, inputs, attrs, node.name)

        # index = max(x - max(x) + steps, 0), at most `steps`
        index = add("relu", add("broadcast_add", add("broadcast_sub", x, add("max", x, **keep)), q.scalar(steps)))
        values = np.exp((np.arange(steps + 1) - steps) / scale)
        codes = arithmetic.quantize(values, code_range(VALUE_BITS), VALUE_BITS).reshape(-1, 1)
        powers = add("Custom", index, q.constant(codes, VALUE_BITS, f"{node.name}_table"), op_type="cvm_lut", in_dim=steps + 1)
        total = add("sum", powers, **keep)
        limit = code_range(OUTPUT_BITS)
        numerator = add("broadcast_mul", powers, q.scalar(limit))
        half = add("Custom", total, op_type="cvm_right_shift", shift_bit=1, precision=30)
        quotient = add("broadcast_div", add("broadcast_add", numerator, half), total)
        return q.result(node, [quotient], float(limit), OUTPUT_BITS, "Custom", {"op_type": "cvm_clip", "precision": OUTPUT_BITS})


def _too_long(terms):
    return f"{terms} terms do not fit 32 bits; make the axis at most {MAX_TERMS} long" if terms > MAX_TERMS else None


@register("SoftmaxActivation")
class SoftmaxActivation(Operator):
    """The old name: over axis 1 in mode `channel`, else over the last axis (whatever MXNet's documentation says)."""

    def reject(self, node, graph, shapes):
        return _too_long(shapes[node][0][1 if node.str("mode", "instance") == "channel" else -1])

    def rewrite(self, node, inputs, r):
        axis = 1 if node.str("mode", "instance") == "channel" else len(r.shape(node.inputs[0])) - 1
        return Node("softmax", node.name, inputs, {"axis": axis})


@register("softmin", "log_softmax")
class OfSoftmax(Operator):
    """softmax(-x), and x - max(x) + log(max(softmax(x))), whose logarithm is near 0 however far the inputs are apart."""

    instead = "it becomes softmax, which can have a precision"

    def reject(self, node, graph, shapes):
        return _reason(node, shapes)

    def rewrite(self, node, inputs, r):
        if node.op == "softmin":
            return _plain(node, [r.add("negative", inputs, {}, node.name)], r)
        shares = _plain(node, inputs, r)
        keep = {"axis": shares.int("axis"), "keepdims": "True"}

        def add(op, *entries, **attrs):
            return r.add(op, entries, attrs, node.name)

        x, shares = shares.inputs[0], add("softmax", *shares.inputs, **shares.attrs)
        below = add("broadcast_sub", x, add("max", x, **keep))
        return Node("broadcast_add", node.name, [below, add("log", add("max", shares, **keep))])


def _plain(node, inputs, r):
    """softmax with the attributes of `node` on `inputs`: its axis counted from the front, the temperature taken out."""
    axis = node.int("axis", -1) % len(r.shape(node.inputs[0]))
    if node.str("temperature", "None") not in ("None", "1.0", "1"):
        inputs = [r.add("_mul_scalar", inputs, {"scalar": repr(1.0 / node.float("temperature"))}, node.name)]
    return Node("softmax", node.name, inputs, {"axis": axis})


def _reason(node, shapes):
    """Why a softmax cannot be quantized, or None."""
    if node.bool("use_length"):
        return "use_length=True; pad the input with very negative values instead"
    return _too_long(shapes[node][0][node.int("axis", -1)])
