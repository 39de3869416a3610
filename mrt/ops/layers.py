"""Layers: sums of products with constant weights, and a bias."""
from __future__ import annotations

import numpy as np

from mrt import arithmetic
from mrt.errors import MRTError
from mrt.graph import Entry, Node
from mrt.ops import layer_noise, layer_weights, split_precision
from mrt.ops.base import Real, register
from mrt.ops.transform import sliced

# products summed per output, so that 8-bit operands and a bias stay inside 32 bits
MAX_PRODUCTS = 32767
GRAM_POSITIONS = 1 << 10  # of a sample that its second moments take at most, evenly spaced


class Layer(Real):
    """Weights are (output, ...).

    Integers: y = sum(x * w) + b with one scale per output channel, s_y = s_x * s_w
    (Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018,
    section 3.1.2).
    """

    input_bits, most_input_bits = 8, 15
    differentiable = True
    is_layer = True
    parameters = (1, 2)

    def reject(self, node, graph, shapes):
        if not all(graph.is_param(e.node) for e in node.inputs[1:]):
            return "its weight or bias is a computed tensor; make both parameters"
        return None

    def nonnegative(self, node, inputs):
        return False

    def wanted(self, node, limit, q):
        return [q.layer_wants(node, 0)] + [None] * (len(node.inputs) - 1)

    def quantize(self, node, q):
        x, zero_point = q.operand(node, 0)
        low_bits_in = max(x.precision - q.weight_precision, 0)
        low_bits = split_precision.low_bits_of_weights(node, q)
        width = layer_weights.width_of_products(node, q, x)
        # of an input in split precision the bias has the scale of both parts; and what the zero
        # point adds to it must fit
        room = min(width + low_bits_in, arithmetic.MAX_BITS - 2)
        codes, bias, scale = layer_weights.integers(node, q, x, room, low_bits)
        q.note_noise(node, x, scale)
        if zero_point:  # the codes are that much too large for the real values
            sums = codes.reshape(len(codes), -1).sum(axis=1, dtype=np.int64)
            bias = bias - zero_point * sums
        weights = split_precision.constants(node, q, codes, low_bits)
        entry, attrs = x.entry, dict(node.attrs)
        if zero_point:
            entry, attrs = self.padded(node, entry, zero_point, q)
        constants, precision = self._with_bias(node, q, weights[-1], bias, width, x.has_rows)
        attrs["no_bias"] = len(constants) == 1
        total = max(width, precision) + 1 if precision else width
        if total > arithmetic.MAX_BITS:
            raise MRTError(f"node {node.name} ({node.op}): its sums need {total} bits, the runtime "
                           f"has {arithmetic.MAX_BITS}")
        fine = split_precision.Sums(node, entry, constants, attrs, scale, width, total)
        if low_bits_in:
            return split_precision.of_input(fine, q, low_bits_in)
        if low_bits:
            return split_precision.of_weights(fine, q, weights[0], low_bits)
        return q.result(node, [entry, *constants], scale, total, attrs=attrs)

    @staticmethod
    def _with_bias(node, q, weights, bias, width, has_rows):
        """([entry of the weights, that of the bias where there is one], its precision or 0).
        `width`: of the products, within which empirical correction moves the bias later."""
        moved = q.options.bias_correction == "empirical" and not has_rows
        if not (moved or bias.any()):
            return [weights], 0
        precision = max(arithmetic.bits(bias), width if moved else 0)
        hint = node.inputs[2].node.name if len(node.inputs) > 2 else f"{node.name}_bias"
        return [weights, q.constant(bias, precision, hint)], precision

    def split_room(self, node, q):
        """The most bits that the low part of its input or of its weights can have in split
        precision, so that no sum has to be clipped."""
        return split_precision.room(node, q)

    def has_channels_second(self, node):
        """Are its output channels along axis 1? Asked before it is rewritten."""
        return True

    def patches(self, node, x, weight):
        """What the weights of an output are multiplied with, (groups, parts, inputs, positions),
        for the float32 input `x`."""
        return x.T.reshape(1, layer_weights.gram_parts(weight), -1, len(x))

    def rounding_noise(self, node, bounds, square, limit, q):
        """For each of several vectors of input channel bounds: the variance that rounding adds to
        the outputs, all channels together, up to a common factor, when the inputs are mapped from
        the bound to `limit`. `square`: mean square of each input channel."""
        counts = self.what_counts(node, q.param(node, 1), square, q)
        return layer_noise.of_bounds(node, q, bounds, limit, counts)

    def weight_steps(self, node, x, shares, scale, weight):
        """What one unit of the weights stands for in each output channel: the root mean square
        over the input channels, which count according to `shares`. `x`: the Tensor it takes;
        `scale`: of its sums."""
        return layer_noise.weight_steps(node, x, shares, scale, weight)

    def what_counts(self, node, weight, square, q):
        """The layer_noise.Counts of errors in its inputs and weights; the outputs all alike."""
        return layer_noise.Counts(self.channel_power(node, weight), square, 1.0)

    def channel_power(self, node, weight):
        """Sum of the squared weights of each input channel."""
        return np.einsum("oi,oi->i", weight, weight)

    def padded(self, node, entry, zero_point, q):
        """(input, attributes) with padding made explicit, for integers in which the code of the
        real 0 is `zero_point`."""
        return entry, dict(node.attrs)


def within_products(layer, inputs, r):
    """`layer` on `inputs`: one node, or several on a part of the input channels each and their
    sum, so that products fit 32 bits."""
    weight = r.params[inputs[1].node.name]
    size = max(MAX_PRODUCTS // int(np.prod(weight.shape[2:])), 1)
    if weight.shape[1] <= size:
        return Node(layer.op, layer.name, inputs, layer.attrs)
    total = None
    for begin in range(0, weight.shape[1], size):
        end = min(begin + size, weight.shape[1])
        part = Entry(sliced(r.name(layer.name), inputs[0], 1, begin, end, weight.ndim), 0)
        bias = () if total else inputs[2:]
        entries = (part, r.param(weight[:, begin:end], inputs[1].node.name), *bias)
        node = Node(layer.op, r.name(layer.name), entries, {**layer.attrs, "no_bias": not bias})
        total = node if total is None else Node("broadcast_add", r.name(layer.name),
                                                [Entry(total, 0), Entry(node, 0)])
    return Node(total.op, layer.name, total.inputs, total.attrs)


@register("Convolution")
class Convolution(Layer):
    """One- or two-dimensional, NCW or NCHW; any stride, padding, dilation and groups; with or
    without bias; with very many channels, in parts."""

    def reject(self, node, graph, shapes):
        layout = {1: "NCW", 2: "NCHW"}.get(len(node.tuple("kernel")))
        if layout is None or node.str("layout", layout) not in (layout, "None"):
            return (f"kernel={node.str('kernel')} layout={node.str('layout', layout)}; use one- or "
                    "two-dimensional convolution in layout NCW or NCHW")
        reason = super().reject(node, graph, shapes)
        if reason:
            return reason
        size = graph.params[node.inputs[1].node.name].shape
        products = int(np.prod(size[1:] if node.int("num_group", 1) > 1 else size[2:]))
        if products > MAX_PRODUCTS:
            return (f"{products} products of a group do not fit 32 bits (at most {MAX_PRODUCTS}); "
                    "use more groups")
        return None

    def rewrite(self, node, inputs, r):
        if len(node.tuple("kernel")) == 2:
            return within_products(node, inputs, r) if node.int("num_group", 1) == 1 \
                else node.with_inputs(inputs)
        attrs = {key: str(node.tuple(key) + (rest,))
                 for key, rest in (("kernel", 1), ("stride", 1), ("dilate", 1), ("pad", 0))
                 if node.tuple(key)}
        column = r.add("expand_dims", [inputs[0]], {"axis": 3}, node.name)
        weight = r.param(r.params[inputs[1].node.name][..., None], inputs[1].node.name)
        layer = Node("Convolution", r.name(node.name), (), {**node.attrs, **attrs, "layout": "NCHW"})
        pooled = Entry(within_products(layer, (column, weight, *inputs[2:]), r), 0)
        return Node("squeeze", node.name, [pooled], {"axis": 3})

    def patches(self, node, x, weight):
        (top, left), (down, right) = node.tuple("pad") or (0, 0), node.tuple("stride") or (1, 1)
        dilate, kernel = node.tuple("dilate") or (1, 1), weight.shape[2:]
        x = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
        extents = [d * (k - 1) + 1 for d, k in zip(dilate, kernel)]
        windows = np.lib.stride_tricks.sliding_window_view(x, extents, axis=(2, 3))
        windows = windows[:, :, ::down, ::right, ::dilate[0], ::dilate[1]]
        every = 1
        while -(-windows.shape[2] // every) * -(-windows.shape[3] // every) > GRAM_POSITIONS:
            every += 1
        windows = windows[:, :, ::every, ::every].transpose(1, 4, 5, 0, 2, 3)
        groups, parts = node.int("num_group", 1), layer_weights.gram_parts(weight)
        return windows.reshape(groups, parts, -1, int(np.prod(windows.shape[3:])))

    def padded(self, node, entry, zero_point, q):
        pad = node.tuple("pad") or (0, 0)
        if any(pad):
            widths = (0, 0, 0, 0, pad[0], pad[0], pad[1], pad[1])
            attrs = {"mode": "constant", "pad_width": str(widths), "constant_value": zero_point}
            entry = q.add("Pad", [entry], attrs, node.name)
        return entry, {**node.attrs, "pad": "(0, 0)"}

    def what_counts(self, node, weight, square, q):
        """Groups hand on ranges that differ, and a layer after them may make up for that: they
        count as their errors show in the outputs of the network where that is known, else in
        relation to what they put out."""
        known, seen = q.sensitivity(node), q.channels.get(node.name)
        groups = node.int("num_group", 1)
        if groups == 1 or (known is None and seen is None):
            return super().what_counts(node, weight, square, q)
        if known is None:
            powers = np.where(seen.square > 0, seen.square, seen.square.max() or 1.0)
            weight = weight / np.sqrt(powers).reshape(-1, 1, 1, 1)
            return layer_noise.Counts(self.channel_power(node, weight), square, 1 / powers)
        grouped = (known.weight_inputs * (square > 0)).reshape(groups, -1)
        products = np.maximum(grouped.sum(axis=1, keepdims=True), 1e-300)
        shares = grouped / (products * int(np.prod(weight.shape[2:])))
        return layer_noise.Counts(known.input * (square > 0), shares.ravel(), known.weight)

    def channel_power(self, node, weight):
        groups = node.int("num_group", 1)
        grouped = weight.reshape((groups, -1) + weight.shape[1:])
        return np.einsum("goihw,goihw->gi", grouped, grouped).ravel()

    def export(self, node, inputs, c):
        return c.emit(node, "conv2d", inputs, {
            "channels": node.int("num_filter"), "kernel_size": node.tuple("kernel"),
            "strides": node.tuple("stride") or (1, 1), "padding": node.tuple("pad") or (0, 0),
            "dilation": node.tuple("dilate") or (1, 1), "groups": node.int("num_group", 1),
            "layout": "NCHW", "kernel_layout": "OIHW", "use_bias": len(inputs) > 2})


@register("FullyConnected")
class FullyConnected(Layer):
    """Dense. Inputs of other ranks than 2 are flattened, or reshaped and back; very wide ones are
    taken in parts."""

    keeps_rows = True

    def rewrite(self, node, inputs, r):
        shape = r.shape(node.inputs[0])
        attrs = {**node.attrs, "flatten": "False"}
        if len(shape) == 2:
            return within_products(Node(node.op, node.name, (), attrs), inputs, r)
        if node.bool("flatten", True):
            flat = r.add("Flatten", [inputs[0]], {}, node.name)
            return within_products(Node(node.op, node.name, (), attrs), (flat,) + inputs[1:], r)
        rows = r.add("Reshape", [inputs[0]], {"shape": f"(-1, {shape[-1]})"}, node.name)
        layer = Node(node.op, r.name(node.name), (), attrs)
        dense = Entry(within_products(layer, (rows,) + inputs[1:], r), 0)
        unfolded = (-1,) + tuple(shape[1:-1]) + (node.int("num_hidden"),)
        return Node("Reshape", node.name, [dense], {"shape": str(unfolded)})

    def has_channels_second(self, node):
        return node.bool("flatten", True)

    def carried(self, node, i, numbers, q):
        first = numbers[:, :1]
        alike = len(node.inputs) == 2 and (numbers == first).all()
        return np.broadcast_to(first, q.shapes[node][0]) if alike else None

    def export(self, node, inputs, c):
        return c.emit(node, "dense", inputs, {"units": node.int("num_hidden"),
                                              "use_bias": len(inputs) > 2})
