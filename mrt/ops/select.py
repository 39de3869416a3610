"""Comparisons, and what is chosen by them."""
import numpy as np

from mrt import arithmetic
from mrt.arithmetic import WIDE_MARGIN, bits, code_range
from mrt.graph import Node
from mrt.ops.base import Operator, Unchanged, register
from mrt.ops.broadcast import Greater

CHOSEN_BITS = 16

# MXNet's operator -> (the core comparison that it is, are its operands exchanged?)
_COMPARISONS = {"greater": ("broadcast_greater", False), "lesser": ("broadcast_greater", True),
                "lesser_equal": ("broadcast_lesser_equal", False), "greater_equal": ("broadcast_lesser_equal", True)}


@register("_greater", "_greater_scalar", "broadcast_lesser", "_lesser", "_lesser_scalar", "broadcast_greater_equal",
          "_greater_equal", "_greater_equal_scalar", "_lesser_equal", "_lesser_equal_scalar")
class Compare(Operator):
    """1 where the comparison holds, else 0: a > b or a <= b, of tensors or with a number."""

    def rewrite(self, node, inputs, r):
        kind = node.op.replace("broadcast_", "").replace("_scalar", "").lstrip("_")
        if len(inputs) == 1:
            inputs = (inputs[0], r.param([node.float("scalar")], node.name))
        core, exchanged = _COMPARISONS[kind]
        return Node(core, node.name, inputs[::-1] if exchanged else inputs)


@register("broadcast_lesser_equal")
class LesserEqual(Greater):
    """1 where a <= b, else 0: 1 - (a > b)."""

    def quantize(self, node, q):
        greater = super().quantize(node, q).entry
        comparison = q.add("broadcast_greater", greater.node.inputs, {}, node.name)
        unequal = q.clip(comparison, 2, node.name)
        return q.result(node, [q.scalar(1), unequal], 1.0, 3, "broadcast_sub", {})


@register("where")
class Where(Unchanged):
    """Elements of one tensor where a condition is not 0, of another elsewhere. A condition per sample is repeated."""

    differentiable = True

    def rewrite(self, node, inputs, r):
        shape = r.shape(node.inputs[1])
        if len(r.shape(node.inputs[0])) == len(shape):
            return node.with_inputs(inputs)
        # the runtime takes one value per sample too, but the original CVM copies only a part of each sample then
        column = r.add("Reshape", [inputs[0]], {"shape": str((-1,) + (1,) * (len(shape) - 1))}, node.name)
        return node.with_inputs((r.add("tile", [column], {"reps": str((1,) + tuple(shape[1:]))}, node.name),) + inputs[1:])

    def nonnegative(self, node, inputs):
        return inputs[1] and inputs[2]

    def exact(self, node, largest, q):
        return [None, largest, largest]

    def saturation(self, node, room, q):
        return [(None, None), room, room]

    def largest_output(self, node, bounds):
        return max(bounds[1:])

    def integral(self, node, inputs, q):
        return all((q.param(node, i) % 1 == 0).all() if q.is_param(node, i) else inputs[i] for i in (1, 2))

    def wanted(self, node, limit, q):
        return [code_range(CHOSEN_BITS)] * 3

    def quantize(self, node, q):
        largest = q.reach.get(node) or max(q.thresholds[q.source(node, i).name] for i in (1, 2))
        precision, scale = CHOSEN_BITS, arithmetic.scale_for(WIDE_MARGIN * largest, CHOSEN_BITS)
        if q.integral[node]:
            precision, scale = max(q.integer_bits(node, i) for i in (1, 2)), 1.0
        branches = [self._branch(node, q, i, precision, scale) for i in (1, 2)]
        return q.result(node, [self._condition(node, q, precision), *branches], scale, precision)

    @staticmethod
    def _condition(node, q, precision):
        """Not 0 where the condition is not; as wide as the branches, because the runtime takes the result's width from it."""
        if q.is_param(node, 0):
            return q.constant(q.param(node, 0) != 0, precision, node.inputs[0].node.name)
        return q.clip(q.tensor(node, 0).entry, precision, node.name)

    @staticmethod
    def _branch(node, q, i, precision, scale):
        if not q.is_param(node, i):
            return q.at_scale(node, i, precision, scale)
        return q.constant(arithmetic.quantize(q.param(node, i), scale, precision), precision, node.inputs[i].node.name)


@register("argmax", "argmin")
class ArgMax(Operator):
    """Place of the first largest (smallest) element along an axis, as an integer. Made of other operators of the runtime."""

    differentiable = False

    # and not its postprocess `argmax`, which applies to all outputs at once and whose original compares low bytes only

    def reject(self, node, graph, shapes):
        return "it has no axis, so it runs over the batch too; give the axis" if node.str("axis", "None") == "None" else None

    def rewrite(self, node, inputs, r):
        axis = node.int("axis") % len(r.shape(node.inputs[0]))
        if node.op == "argmin":
            inputs = [r.add("negative", inputs, {}, node.name)]
        return Node("argmax", node.name, inputs, {"axis": axis, "keepdims": node.bool("keepdims")})

    def nonnegative(self, node, inputs):
        return True

    def exact(self, node, largest, q):
        return [None]

    def integral(self, node, inputs, q):
        return True

    def saturation(self, node, room, q):
        return [(0.0, None)]

    def largest_output(self, node, bounds):
        return np.inf

    def wanted(self, node, limit, q):
        return [code_range(16)]

    def quantize(self, node, q):
        x, axis, shape = q.uniform(node, 0).entry, node.int("axis"), q.shapes[q.source(node, 0)][0]
        count = shape[axis]

        def add(op, *inputs, **attrs):
            return q.add(op, inputs, attrs, node.name)

        less = q.clip(add("broadcast_greater", add("max", x, axis=axis, keepdims=True), x), 2, node.name)
        largest = add("broadcast_sub", q.scalar(1), less)  # 1 or 0
        # counted from the end, so that the first of several largest elements has the largest number
        numbers = np.arange(count, 0, -1).reshape((-1,) + (1,) * (len(shape) - 1 - axis))
        places = add("broadcast_mul", largest, q.constant(numbers, bits(count), f"{node.name}_places"))
        last = add("max", places, axis=axis, keepdims=node.bool("keepdims"))
        place = add("broadcast_sub", q.scalar(count), last)
        return q.result(node, [place], 1.0, bits(count), "Custom", {"op_type": "cvm_clip", "precision": bits(count)})
