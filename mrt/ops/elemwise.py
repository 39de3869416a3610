"""Operators of one tensor that treat every element alike."""
import numpy as np

from mrt import arithmetic
from mrt.arithmetic import code_range
from mrt.graph import Node
from mrt.ops.base import Operator, Unchanged, register, with_scale
from mrt.ops.table import Table


class _Signs(Unchanged):
    """Elements stay what they are, but for their signs."""

    def carried(self, node, i, numbers, q):
        return numbers

    def quantize(self, node, q):
        return q.follow(node, q.tensor(node, 0, moved=True))


@register("relu")
class Relu(_Signs):
    """max(x, 0)."""

    differentiable = True

    def saturation(self, node, room, q):
        return [(0.0, room[1])]

    def nonnegative(self, node, inputs):
        return True


@register("Activation")
class Activation(Table):
    """relu, sigmoid, tanh and softsign have operators of their own; softrelu is a table."""

    def rewrite(self, node, inputs, r):
        kind = node.str("act_type")
        return node.with_inputs(inputs) if kind == "softrelu" else Node(kind, node.name, inputs)


@register("LeakyReLU")
class LeakyReLU(Table):
    """leaky and prelu as max(x, 0) - slope * max(-x, 0); elu, selu and gelu as tables."""

    def reject(self, node, graph, shapes):
        kind = node.str("act_type", "leaky")
        if kind not in ("leaky", "prelu", "elu", "selu", "gelu"):
            return f"act_type={kind}; use one of leaky, prelu, elu, selu, gelu"
        if kind == "prelu" and not graph.is_param(node.inputs[1].node):
            return "its slope is a computed tensor; make it a parameter"
        return None

    def rewrite(self, node, inputs, r):
        kind = node.str("act_type", "leaky")
        if kind in ("elu", "selu", "gelu"):
            return node.with_inputs(inputs)
        if kind == "leaky":
            slope = r.param([node.float("slope", 0.25)], node.name)
        else:
            values = r.params[node.inputs[1].node.name]
            shape = (1, -1) + (1,) * (len(r.shape(node.inputs[0])) - 2)
            slope = r.param(values.reshape(shape if values.size > 1 else (1,)), node.name)
        negative = r.add("relu", [r.add("negative", [inputs[0]], {}, node.name)], {}, node.name)
        below = r.add("broadcast_mul", [negative, slope], {}, node.name)
        above = r.add("relu", [inputs[0]], {}, node.name)
        return Node("broadcast_sub", node.name, [above, below])


@register("Dropout", "_copy", "BlockGrad", "make_loss", "MakeLoss", "Cast", "amp_cast")
class Identity(Operator):
    """Nothing at inference; Cast between float types only."""

    def reject(self, node, graph, shapes):
        if node.op == "Dropout" and node.str("mode", "training") == "always":
            return "mode=always makes the output random; remove the node"
        if node.op in ("Cast", "amp_cast") and not node.str("dtype").startswith("float"):
            return f"dtype={node.str('dtype')} would round or clip; cast to a float type"
        return None

    def rewrite(self, node, inputs, r):
        return inputs[0]


@register("zeros_like", "ones_like")
class Constant(Operator):
    """0 or 1 everywhere: x * 0 + c, because the batch is open."""

    def rewrite(self, node, inputs, r):
        zeros = Node("broadcast_mul", node.name, (inputs[0], r.param([0], node.name)))
        if node.op == "zeros_like":
            return zeros
        zeros = r.add("broadcast_mul", zeros.inputs, {}, node.name)
        return Node("broadcast_add", node.name, (zeros, r.param([1], node.name)))


@register("_contrib_div_sqrt_dim")
class DivideByRootOfLength(Operator):
    """x / sqrt(length of the last axis)."""

    def rewrite(self, node, inputs, r):
        return Node("_mul_scalar", node.name, inputs, {"scalar": repr(r.shape(node.inputs[0])[-1] ** -0.5)})


@register("negative", "abs")
class Sign(_Signs):
    """-x and |x|."""

    differentiable = True

    def saturation(self, node, room, q):
        return [room[::-1] if node.op == "negative" else (None, None)]

    def nonnegative(self, node, inputs):
        return node.op == "abs"


@register("_mul_scalar")
class Scale(Operator):
    """x times a number: a positive one only changes the scale; -1 is the operator negative."""

    differentiable = True

    def rewrite(self, node, inputs, r):
        factor = node.float("scalar")
        if factor == 1:
            return inputs[0]
        if factor > 0:
            return node.with_inputs(inputs)
        if factor == 0:
            return Node("broadcast_mul", node.name, (inputs[0], r.param(np.zeros(1), node.name)))
        turned = r.add("negative", inputs, {}, node.name)
        return Node("_mul_scalar", node.name, [turned], {"scalar": repr(-factor)})

    def exact(self, node, largest, q):
        return [largest if node.float("scalar") % 1 == 0 else None]

    def integral(self, node, inputs, q):
        return inputs[0] and node.float("scalar") % 1 == 0

    def saturation(self, node, room, q):
        return [tuple(None if side is None else side / node.float("scalar") for side in room)]

    def largest_output(self, node, bounds):
        return bounds[0] * node.float("scalar")

    def quantize(self, node, q):
        tensor = q.tensor(node, 0)
        return with_scale(node, tensor, tensor.scale / node.float("scalar"), q)


@register("_div_scalar", "_rdiv_scalar", "_plus_scalar", "_minus_scalar", "_rminus_scalar", "_maximum_scalar", "_minimum_scalar",
          "_rpower_scalar", "square")
class Scalar(Operator):
    """A number as the other operand: it becomes a factor or a constant."""

    def reject(self, node, graph, shapes):
        if node.op == "_rpower_scalar" and not node.float("scalar") > 0:
            return f"the base is {node.str('scalar')}; take a positive one"
        if node.op == "_div_scalar" and node.float("scalar") == 0:
            return "it divides by zero; remove the node"
        return None

    def rewrite(self, node, inputs, r):
        if node.op == "square":
            return Node("broadcast_mul", node.name, [inputs[0], inputs[0]])
        value = node.float("scalar")
        if node.op == "_div_scalar":
            return r.again(Node("_mul_scalar", node.name, inputs, {"scalar": repr(1.0 / value)}))
        if node.op == "_rdiv_scalar":
            inverse = r.add("reciprocal", inputs, {}, node.name)
            return r.again(Node("_mul_scalar", node.name, [inverse], {"scalar": repr(value)}))
        if node.op == "_rpower_scalar":  # a^x = exp(x log a)
            exponent = r.add("broadcast_mul", (inputs[0], r.param([np.log(value)], node.name)), {}, node.name)
            return Node("exp", node.name, [exponent])
        if node.op in ("_plus_scalar", "_minus_scalar"):
            if value == 0:
                return inputs[0]
            value = value if node.op == "_plus_scalar" else -value
            return Node("broadcast_add", node.name, (inputs[0], r.param([value], node.name)))
        if node.op == "_rminus_scalar":
            turned = r.add("negative", inputs, {}, node.name)
            return Node("broadcast_add", node.name, (turned, r.param([value], node.name)))
        if node.op == "_maximum_scalar":
            return Node("broadcast_maximum", node.name, (inputs[0], r.param([value], node.name)))
        turned = r.add("negative", inputs, {}, node.name)
        larger = r.add("broadcast_maximum", (turned, r.param([-value], node.name)), {}, node.name)
        return Node("negative", node.name, [larger])


@register("clip")
class Clip(Operator):
    """Bounds as integers. A lower bound of 0 is a relu, and the upper one the end of the integers the consumers want. With bounds
    that are exchanged, MXNet gives the upper one above itself, else the lower one."""

    def reject(self, node, graph, shapes):
        low, high = _clip_bounds(node)
        if low == np.inf or high == -np.inf:
            return f"a_min={low} and a_max={high} leave nothing finite; correct the bounds"
        return None

    def rewrite(self, node, inputs, r):
        low, high = _clip_bounds(node)
        if np.isinf(low) and np.isinf(high):
            return inputs[0]
        if low <= high:
            return Node("clip", node.name, inputs, {"a_min": repr(low), "a_max": repr(high)})
        above = r.add("broadcast_greater", [inputs[0], r.param([high], node.name)], {}, node.name)
        change = r.add("broadcast_mul", [above, r.param([high - low], node.name)], {}, node.name)
        return Node("broadcast_add", node.name, [change, r.param([low], node.name)])

    differentiable = True

    def nonnegative(self, node, inputs):
        return node.float("a_min") >= 0

    def exact(self, node, largest, q):
        return [largest if self._whole(node) else None]

    def integral(self, node, inputs, q):
        return inputs[0] and self._whole(node)

    def saturation(self, node, room, q):
        bounds = [abs(node.float(key)) for key in ("a_min", "a_max")]
        return [tuple(side if np.isinf(bound) else bound for bound, side in zip(bounds, room))]

    @staticmethod
    def _whole(node):
        return all(node.float(key) % 1 == 0 for key in ("a_min", "a_max"))

    def wanted(self, node, limit, q):
        return [code_range(16)]

    def quantize(self, node, q):
        low, high = node.float("a_min"), node.float("a_max")
        tensor = q.tensor(node, 0)
        if low == 0 and not q.integral[node] and not (tensor.is_uniform and tensor.precision <= arithmetic.bits(q.wanted[node])):
            if q.only_feeds_layers(node):
                return q.result(node, [tensor.entry], tensor.scale, tensor.precision, "relu", {})
            return q.saturated(node, tensor._replace(entry=q.add("relu", [tensor.entry], {}, node.name)))
        tensor = q.tensor(node, 0) if q.integral[node] else q.requantize(node, 0, 16)
        nearest = max(low, -high)  # beyond the integers of the input where nothing of it is left
        if nearest * tensor.scale > code_range(tensor.precision):
            scale = arithmetic.scale_for(nearest, 16)
            tensor = tensor._replace(entry=q.at_scale(node, 0, 16, scale), scale=scale, precision=16)
        # a bound beyond them does not act
        reach = code_range(tensor.precision)
        bounds = [int(np.rint(np.clip(v * tensor.scale, -reach, reach))) for v in (low, high)]
        if bounds[0] >= bounds[1]:
            bounds[1] = bounds[0] + 1
        # the runtime's width of a constant bound is one more where it is 2^k - 1
        precision = max(abs(b) + 1 for b in bounds).bit_length() + 1
        return q.result(node, [tensor.entry], tensor.scale, precision, "clip", {"a_min": bounds[0], "a_max": bounds[1]})

    def export(self, node, inputs, c):
        return c.emit(node, "clip", inputs, {"a_min": node.int("a_min"), "a_max": node.int("a_max")})


def _clip_bounds(node):
    """(lower, upper) bound; one that is not a number bounds nothing."""
    low, high = node.float("a_min"), node.float("a_max")
    return -np.inf if np.isnan(low) else float(low), np.inf if np.isnan(high) else float(high)
