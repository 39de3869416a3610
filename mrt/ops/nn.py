"""Layers: convolution, dense, pooling, batch normalization."""
import numpy as np

from mrt import arithmetic
from mrt.errors import MRTError
from mrt.graph import Node
from mrt.ops.base import Operator, register

# the runtime bounds the products summed per output so that 8-bit operands stay inside 32 bits
MAX_PRODUCTS, MAX_PRODUCTS_WITH_BIAS = 65535, 32767


class _Weighted(Operator):
    """Sums of products with constant weights (output, ...), and a bias.

    Integers: y = sum(x * w) + b with one scale per output channel, s_y = s_x * s_w (Krishnamoorthi, "Quantizing deep
    convolutional networks for efficient inference", 2018, section 3.1.2).
    """

    def reject(self, node, graph, shapes):
        if not all(graph.is_param(e.node) for e in node.inputs[1:]):
            return "its weight and bias must be parameters, found computed tensors"
        weight = graph.params[node.inputs[1].node.name]
        products, bias = int(np.prod(weight.shape[1:])), len(node.inputs) > 2
        limit = MAX_PRODUCTS_WITH_BIAS if bias else MAX_PRODUCTS
        if products > limit:
            return (f"{products} products per output do not fit 32 bits (at most {limit} {'with' if bias else 'without'} bias); "
                    "make the layer narrower")
        return None

    def wanted(self, node, precision, q):
        return [q.input_precision(node)] + [None] * (len(node.inputs) - 1)

    def quantize(self, node, q):
        x = q.requantize(node, 0, q.input_precision(node))
        weight = q.param(node, 1)
        products = int(np.prod(weight.shape[1:]))
        width = arithmetic.sum_bits(x.precision + q.weight_precision, products)
        threshold = q.weight_threshold(node, 1)
        if len(node.inputs) > 2:
            # A channel of tiny weights with a real bias would otherwise get a scale under which the bias needs more bits
            # than all the products together.
            bias = np.abs(q.param(node, 2).astype(np.float64))
            reach = bias * x.scale * arithmetic.code_range(q.weight_precision) / arithmetic.code_range(width)
            threshold = np.maximum(threshold, reach if threshold.ndim else reach.max(initial=0))
        scale_w = arithmetic.scale_for(threshold, q.weight_precision)
        scale = x.scale * scale_w
        column = np.reshape(scale_w, (-1,) + (1,) * (weight.ndim - 1))
        inputs = [x.entry, q.constant(node, 1, arithmetic.quantize(weight, column, q.weight_precision), q.weight_precision)]
        if len(node.inputs) > 2:
            codes = arithmetic.quantize(q.param(node, 2), scale, arithmetic.MAX_BITS)
            precision = arithmetic.bits(codes)
            inputs.append(q.constant(node, 2, codes, precision))
            width = max(width, precision) + 1
        if width > arithmetic.MAX_BITS:
            raise MRTError(f"node {node.name} ({node.op}): its sums need {width} bits, the runtime has {arithmetic.MAX_BITS}")
        return q.result(node, inputs, scale, width)


@register("Convolution")
class Convolution(_Weighted):
    """Two-dimensional, NCHW."""

    def reject(self, node, graph, shapes):
        if len(node.tuple("kernel")) != 2 or node.str("layout", "NCHW") not in ("NCHW", "None"):
            return (f"kernel={node.str('kernel')} layout={node.str('layout', 'NCHW')}; only two-dimensional NCHW convolution "
                    "is supported")
        return super().reject(node, graph, shapes)

    def export(self, node, inputs, c):
        return c.emit(node, "conv2d", inputs, {
            "channels": node.int("num_filter"), "kernel_size": node.tuple("kernel"), "strides": node.tuple("stride") or (1, 1),
            "padding": node.tuple("pad") or (0, 0), "dilation": node.tuple("dilate") or (1, 1),
            "groups": node.int("num_group", 1), "layout": "NCHW", "kernel_layout": "OIHW", "use_bias": len(inputs) > 2})


@register("FullyConnected")
class FullyConnected(_Weighted):
    """Core form: input of rank 2. Other ranks are flattened, or reshaped and back."""

    def rewrite(self, node, inputs, r):
        shape = r.shape(node.inputs[0])
        attrs = {**node.attrs, "flatten": "False"}
        if len(shape) == 2:
            return Node(node.op, node.name, inputs, attrs)
        if node.bool("flatten", True):
            flat = r.add("Flatten", [inputs[0]], {}, node.name)
            return Node(node.op, node.name, (flat,) + inputs[1:], attrs)
        rows = r.add("Reshape", [inputs[0]], {"shape": f"(-1, {shape[-1]})"}, node.name)
        dense = r.add(node.op, (rows,) + inputs[1:], attrs, node.name)
        return Node("Reshape", node.name, [dense], {"shape": str((-1,) + tuple(shape[1:-1]) + (node.int("num_hidden"),))})

    def export(self, node, inputs, c):
        return c.emit(node, "dense", inputs, {"units": node.int("num_hidden"), "use_bias": len(inputs) > 2})


@register("Pooling")
class Pooling(Operator):
    """Maximum over windows."""

    def reject(self, node, graph, shapes):
        if node.str("pool_type", "max") != "max":
            return f"pool_type={node.str('pool_type')}; only max pooling is supported: use a strided convolution instead"
        if len(shapes[node.inputs[0].node][node.inputs[0].index]) != 4 or node.str("layout", "NCHW") not in ("NCHW", "None"):
            return "only two-dimensional NCHW pooling is supported"
        if node.str("pooling_convention", "valid") not in ("valid", "full"):
            return f"pooling_convention={node.str('pooling_convention')}; supported are valid and full"
        if node.str("pooling_convention", "valid") == "full" and not node.bool("global_pool"):
            return _last_window_outside(node, shapes)
        return None

    def rewrite(self, node, inputs, r):
        if not node.bool("global_pool"):
            return node.with_inputs(inputs)
        return Node("Pooling", node.name, inputs, {"kernel": str(r.shape(node.inputs[0])[2:]), "pool_type": "max"})

    def export(self, node, inputs, c):
        return c.emit(node, "max_pool2d", inputs, {
            "pool_size": node.tuple("kernel"), "strides": node.tuple("stride") or (1, 1), "padding": node.tuple("pad") or (0, 0),
            "ceil_mode": node.str("pooling_convention", "valid") == "full"})


def _last_window_outside(node, shapes):
    shape = shapes[node.inputs[0].node][node.inputs[0].index][2:]
    out = shapes[node][0][2:]
    for size, count, stride, pad in zip(shape, out, node.tuple("stride") or (1, 1), node.tuple("pad") or (0, 0)):
        if (count - 1) * stride - pad >= size:
            return "its last window lies outside the input (pooling_convention=full); use pooling_convention=valid"
    return None


@register("BatchNorm")
class BatchNorm(Operator):
    """After a convolution or dense layer it is folded into that (passes.fold_batch_norm); elsewhere it becomes a 1x1
    convolution of one channel per group, which is the same thing exactly."""

    def reject(self, node, graph, shapes):
        shape = shapes[node.inputs[0].node][node.inputs[0].index]
        if node.int("axis", 1) % len(shape) != 1:
            return f"axis={node.int('axis', 1)} on an input of shape {shape}; only axis 1 is supported"
        if len(shape) not in (2, 4):
            return f"the input has shape {shape}; only rank 2 and 4 are supported"
        if not all(graph.is_param(e.node) for e in node.inputs[1:]):
            return "gamma, beta and the running statistics must be parameters"
        return None

    def rewrite(self, node, inputs, r):
        factor, offset = factor_and_offset(node, r.params)
        channels = len(factor)
        bias = r.param(offset, f"{node.name}_bias")
        weight = r.param(factor.reshape(channels, 1, 1, 1), f"{node.name}_weight")
        attrs = {"kernel": "(1, 1)", "num_filter": channels, "num_group": channels, "no_bias": "False"}
        if len(r.shape(node.inputs[0])) == 4:
            return Node("Convolution", node.name, (inputs[0], weight, bias), attrs)
        image = r.add("Reshape", [inputs[0]], {"shape": f"(-1, {channels}, 1, 1)"}, node.name)
        scaled = r.add("Convolution", (image, weight, bias), attrs, node.name)
        return Node("Flatten", node.name, [scaled])


def factor_and_offset(node, params):
    """BatchNorm as x * factor + offset: two float64 vectors, one value per channel."""
    gamma, beta, mean, var = (params[e.node.name].astype(np.float64) for e in node.inputs[1:])
    if node.bool("fix_gamma", True):
        gamma = np.ones_like(gamma)
    factor = gamma / np.sqrt(var + node.float("eps", 1e-3))
    return factor, beta - factor * mean
