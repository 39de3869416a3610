"""Operators of two tensors, or of a tensor and a constant, whose shapes broadcast."""
import numpy as np

from mrt import arithmetic
from mrt.arithmetic import MAX_BITS, WIDE_MARGIN, code_range
from mrt.graph import Node
from mrt.ops.base import FAR, FILLING, Operator, Real, Unchanged, register, with_scale

LEAST_BITS = 12  # of a tensor in whose scale a constant is rounded
# MXNet has a name for equal shapes and one for broadcasting; the latter is core
_ALIASES = {"elemwise_add": "broadcast_add", "elemwise_sub": "broadcast_sub", "elemwise_mul": "broadcast_mul",
            "elemwise_div": "broadcast_div", "_maximum": "broadcast_maximum", "_minimum": "broadcast_minimum"}


@register(*_ALIASES)
class Alias(Operator):
    """The operator for equal shapes: a case of the broadcasting one."""

    instead = "it becomes the broadcasting one of the same name (elemwise_add: broadcast_add), which can have a precision"

    def reject(self, node, graph, shapes):
        return _constant_divisor(node, graph) if _ALIASES[node.op] == "broadcast_div" else None

    def rewrite(self, node, inputs, r):
        return r.again(Node(_ALIASES[node.op], node.name, inputs))


@register("add_n")
class AddN(Operator):
    """A chain of additions."""

    def rewrite(self, node, inputs, r):
        total = inputs[0]
        for entry in inputs[1:]:
            total = r.add("broadcast_add", [total, entry], {}, node.name)
        return total


def _constant_divisor(node, graph):
    if not graph.is_param(node.inputs[1].node):
        return "it divides by a computed tensor; multiply by its reciprocal (the operator reciprocal), if it stays away from 0"
    if not graph.params[node.inputs[1].node.name].all():
        return "its divisor holds zeros; correct the parameter"
    return None


@register("broadcast_div")
class Divide(Unchanged):
    """Division by a parameter: a product with its reciprocal."""

    instead = "it becomes broadcast_mul, which can have a precision"
    differentiable = False  # no prepared network holds it

    # the runtime's division of integers is for softmax

    def reject(self, node, graph, shapes):
        return _constant_divisor(node, graph)

    def rewrite(self, node, inputs, r):
        reciprocal = r.param(1.0 / r.params[node.inputs[1].node.name].astype(np.float64), node.name)
        return Node("broadcast_mul", node.name, (inputs[0], reciprocal))


@register("broadcast_minimum")
class Minimum(Operator):
    """min(a, b) = -max(-a, -b)."""

    def rewrite(self, node, inputs, r):
        turned = [r.add("negative", [entry], {}, node.name) for entry in inputs]
        return Node("negative", node.name, [r.add("broadcast_maximum", turned, {}, node.name)])


class _Pair(Operator):
    """Two tensors at one scale, or a tensor and a constant."""

    def limited(self, values, reach):
        """The constant where the other operand stays within +-`reach`: what lies beyond and makes no difference comes nearer."""
        return values

    target = None
    input_bits = 16
    differentiable = True
    operand_bits = MAX_BITS  # at most, so that the result fits

    def exact(self, node, largest, q):
        """A constant widens the range by its own: numbers of rows are moved by an offset."""
        constants = [q.param(node, i) for i in (0, 1) if q.is_param(node, i)]
        if largest is None or not all((values % 1 == 0).all() for values in constants):
            return [None] * 2
        return [largest + int(sum(np.abs(values).max(initial=0) for values in constants))] * 2

    def integral(self, node, inputs, q):
        return all((q.param(node, i) % 1 == 0).all() if q.is_param(node, i) else inputs[i] for i in (0, 1))

    def wanted(self, node, limit, q):
        return [code_range(q.input_precision(node))] * 2

    def nonnegative(self, node, inputs):
        return all(inputs)

    def quantize(self, node, q):
        constants = [i for i in (0, 1) if q.is_param(node, i)]
        return self.with_constant(node, q, constants[0]) if constants else self.of_tensors(node, q)

    def of_tensors(self, node, q):
        precision = q.input_precision(node)
        scale = q.wide_scale(node, precision)
        if all(q.integral[q.source(node, i)] for i in (0, 1)):
            precision, scale = max(q.integer_bits(node, i) for i in (0, 1)), 1.0
        entries = [q.at_scale(node, i, precision, scale) for i in (0, 1)]
        return q.result(node, entries, scale, self.precision(precision, precision))

    def with_constant(self, node, q, k):
        codes = self.integer_constant(node, q, k)
        if codes is not None:
            return self._with_codes(node, q, k, q.tensor(node, 1 - k), codes)
        values, tensor = q.param(node, k).astype(np.float64), q.within(node, 1 - k, self.operand_bits)
        values = np.clip(values, -q.reach.get(node, np.inf), q.reach.get(node, np.inf))
        codes = _codes(self.limited(values, code_range(tensor.precision) / np.min(tensor.scale)), tensor, q.shapes[node][0])
        # the integers may be few, as those of a comparison, whatever the width proven for them
        used = arithmetic.bits(min(q.thresholds[q.source(node, 1 - k).name] * np.min(tensor.scale), 2.0 ** 40))
        if tensor.precision < 16 or used < LEAST_BITS or codes is None \
                or arithmetic.bits(codes) > min(tensor.precision, MAX_BITS - 1):
            # too coarse for the constant, or too fine: 16 bits that hold both
            source = q.source(node, 1 - k)
            reach = WIDE_MARGIN * q.thresholds[source.name]
            values = self.limited(values, reach)
            scale = arithmetic.scale_for(max(reach, np.abs(values).max()), 16)
            tensor = tensor._replace(entry=q.at_scale(node, 1 - k, 16, scale), scale=scale, precision=16)
            codes = _codes(values, tensor, q.shapes[node][0])
        return self._with_codes(node, q, k, tensor, codes)

    def integer_constant(self, node, q, k):
        """The constant k in the scale of the other operand, where both are integers and nothing has to be rounded; else None."""
        tensor = q.tensor(node, 1 - k)
        return _codes(q.param(node, k).astype(np.float64), tensor, q.shapes[node][0]) if q.integral[node] else None

    def _with_codes(self, node, q, k, tensor, codes):
        precision = max(arithmetic.bits(codes), 2)  # a comparison takes its width from its left side, and 1 needs 2 bits
        entries = [tensor.entry, q.constant(codes, precision, node.inputs[k].node.name)]
        return q.result(node, entries if k else entries[::-1], tensor.scale, self.precision(tensor.precision, precision))

    def export(self, node, inputs, c):
        return c.emit(node, self.target or node.kind, inputs, {})


def _near(values, threshold):
    """Largest absolute value of a constant, leaving out what is meant as infinity beside numbers up to `threshold`."""
    sizes = np.abs(values)
    return float(sizes[sizes <= min(FAR * threshold, FILLING)].max(initial=0))


def _codes(values, tensor, shape):
    """A constant in the scale of a tensor of rank `len(shape)`; None when it would not fit 32 bits."""
    scale = tensor.scale
    if not tensor.is_uniform:
        scale = scale.reshape((-1,) + (1,) * (len(shape) - 2))
    codes = np.rint(values * scale)
    return None if np.abs(codes).max(initial=0) > code_range(MAX_BITS) else codes.astype(np.int32)


@register("broadcast_add")
class Add(_Pair):
    """a + b."""

    operand_bits = MAX_BITS - 1

    def saturation(self, node, room, q):
        """One operand may have to make up for the other, except for a constant meant as infinity itself."""
        sides = []
        for other in (1, 0):
            size = q.thresholds[node.inputs[other].node.name]
            if q.is_param(node, other):
                size = _near(q.param(node, other), q.thresholds[node.inputs[1 - other].node.name])
            sides.append(tuple(None if side is None else side + 2 * size for side in room))
        return sides

    def largest_output(self, node, bounds):
        return sum(bounds)

    @staticmethod
    def precision(a, b):
        return max(a, b) + 1

    def nonnegative(self, node, inputs):
        return all(inputs)


@register("broadcast_sub")
class Subtract(Add):
    """a - b."""

    def saturation(self, node, room, q):
        return [super().saturation(node, room, q)[0], super().saturation(node, room[::-1], q)[1]]

    def nonnegative(self, node, inputs):
        return False


@register("broadcast_maximum")
class Maximum(_Pair):
    """max(a, b)."""

    target = "broadcast_max"

    def limited(self, values, reach):
        return np.maximum(values, -reach)

    def saturation(self, node, room, q):
        return [(q.thresholds[node.inputs[1 - i].node.name], room[1]) for i in (0, 1)]

    @staticmethod
    def precision(a, b):
        return max(a, b)

    def nonnegative(self, node, inputs):
        return any(inputs)


@register("broadcast_greater")
class Greater(_Pair):
    """1 where a > b, else 0."""

    differentiable = False

    def limited(self, values, reach):
        return np.clip(values, -1.01 * reach, 1.01 * reach)  # beyond whatever the other operand can be

    def saturation(self, node, room, q):
        return [(q.thresholds[node.inputs[1 - i].node.name],) * 2 for i in (0, 1)]

    def largest_output(self, node, bounds):
        return 1.0

    @staticmethod
    def precision(a, b):
        return a

    def nonnegative(self, node, inputs):
        return True

    def exact(self, node, largest, q):
        return [None] * 2

    def integral(self, node, inputs, q):
        return True

    def integer_constant(self, node, q, k):
        """An integer is above a number where it is above the largest integer below."""
        source, tensor = q.source(node, 1 - k), q.tensor(node, 1 - k)
        if not q.integral[source]:
            return None
        limit = code_range(min(tensor.precision + 1, MAX_BITS - 1))
        codes = (np.floor if k else np.ceil)(q.param(node, k).astype(np.float64) * tensor.scale)
        return np.clip(codes, -limit, limit).astype(np.int32)

    def quantize(self, node, q):
        return super().quantize(node, q)._replace(scale=1.0)


@register("broadcast_mul")
class Multiply(Real, Unchanged):
    """A factor per channel, or one for all, only changes scales (and signs); other products multiply integers."""

    input_bits = 16
    differentiable = True

    def nonnegative(self, node, inputs):
        return all(inputs)

    def wanted(self, node, limit, q):
        return [code_range(q.input_precision(node))] * 2

    def quantize(self, node, q):
        for k in (0, 1):
            if q.is_param(node, k):
                factors = per_channel(q.param(node, k), q.shapes[node][0])
                source = q.source(node, 1 - k)
                if factors is not None and q.shapes[source][0] == q.shapes[node][0]:
                    return self._scaled(node, q, 1 - k, factors)
                return self._times_constant(node, q, k)
        # the runtime has 32 bits for the product
        precision = q.input_precision(node)
        a, b = q.requantize(node, 0, precision), q.requantize(node, 1, min(precision, 15))
        return q.result(node, [a.entry, b.entry], a.scale * b.scale, a.precision + b.precision)

    @staticmethod
    def _scaled(node, q, i, factors):
        signs = np.sign(factors).astype(np.int32)
        tensor = q.within(node, i, MAX_BITS - 2) if (signs <= 0).any() else q.tensor(node, i)
        sizes = np.abs(factors)
        # a channel of zeros can have any scale; the finest leaves the multipliers that follow to the others
        scale = tensor.scale / np.where(sizes > 0, sizes, sizes[sizes > 0].min() if sizes.any() else 1.0)
        if len(factors) == 1:
            scale, signs = float(np.ravel(scale)[0]) if tensor.is_uniform else np.ravel(scale), signs[:1]
        if (signs > 0).all():
            return with_scale(node, tensor, scale, q)
        vector = q.constant(signs, 2, f"{node.name}_sign") if len(signs) == 1 else q.channel_vector(signs, node, "sign", 2)
        return q.result(node, [tensor.entry, vector], scale, tensor.precision + 2)

    @staticmethod
    def _times_constant(node, q, k):
        same, precision = q.shapes[q.source(node, 1 - k)][0] == q.shapes[node][0], q.input_precision(node)
        tensor = q.as_wide(node, 1 - k, precision) if same else q.requantize(node, 1 - k, precision)
        values = q.param(node, k)
        scale = arithmetic.scale_for(np.abs(values).max(), 15)
        constant = q.constant(arithmetic.quantize(values, scale, 15), 15, node.inputs[k].node.name)
        return q.result(node, [tensor.entry, constant], tensor.scale * scale, tensor.precision + 15)


def per_channel(values, shape):
    """The constant as one factor, or one per channel of axis 1 of `shape`, in float64; None when it is neither."""
    if values.size == 1:
        return values.astype(np.float64).reshape(1)
    full = (1,) * (len(shape) - values.ndim) + values.shape
    if len(shape) > 1 and full == (1, shape[1]) + (1,) * (len(shape) - 2):
        return values.astype(np.float64).ravel()
    return None
