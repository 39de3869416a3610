"""Layers: convolution, dense, pooling, batch normalization."""
import numpy as np

from mrt import arithmetic
from mrt.errors import MRTError
from mrt.graph import Entry, Node
from mrt.ops.base import ENORMOUS, Operator, Real, of_channels, register
from mrt.ops.reduce import below_maximum
from mrt.ops.transform import sliced
from mrt.rounding import MAX_WIDTH, compensated

# products summed per output, so that 8-bit operands and a bias stay inside 32 bits
MAX_PRODUCTS = 32767
CHUNK_ELEMENTS = 1 << 20
GRAM_POSITIONS = 1 << 10  # of a sample that its second moments take at most, evenly spaced
LOW_BITS = 7  # at most, of the low part of an operand in two parts


class _Weighted(Real):
    """Sums of products with constant weights (output, ...), and a bias.

    Integers: y = sum(x * w) + b with one scale per output channel, s_y = s_x * s_w (Krishnamoorthi, "Quantizing deep
    convolutional networks for efficient inference", 2018, section 3.1.2).
    """

    input_bits, most_input_bits = 8, 15
    differentiable = True
    is_layer = True

    def reject(self, node, graph, shapes):
        if not all(graph.is_param(e.node) for e in node.inputs[1:]):
            return "its weight or bias is a computed tensor; make both parameters"
        return None

    def nonnegative(self, node, inputs):
        return False

    def wanted(self, node, limit, q):
        return [q.layer_wants(node, 0)] + [None] * (len(node.inputs) - 1)

    def quantize(self, node, q):
        x, zero = q.operand(node, 0)
        low_bits_in, low_bits = max(x.precision - q.weight_precision, 0), self.low_bits_of_weights(node, q)
        width = arithmetic.sum_bits(min(x.precision, q.weight_precision) + q.weight_precision,
                                    int(np.prod(q.param(node, 1).shape[1:])))
        # of an input in two parts the bias has the scale of both; and what the zero point adds to it must fit
        room = min(width + low_bits_in, arithmetic.MAX_BITS - 2)
        codes, bias, scale = self.integers(node, q, x, room, low_bits)
        q.note_noise(node, x, scale)
        if zero:  # the codes are that much too large for the real values; padding holds the code of 0 (see `padded`)
            bias = bias - zero * codes.reshape(len(codes), -1).sum(axis=1, dtype=np.int64)
        name = node.inputs[1].node.name
        high = codes if not low_bits else (codes + 2 ** (low_bits - 1)) >> low_bits
        weights = [q.constant(high, q.weight_precision, name)]
        if low_bits:
            weights.append(q.constant(codes - (high << low_bits), q.weight_precision, name))
        entry, attrs = self.padded(node, x.entry, zero, q) if zero else (x.entry, dict(node.attrs))
        moved = q.options.bias_correction == "empirical" and not x.has_rows  # later, by mrt.bias, within the products' width
        attrs["no_bias"] = not (moved or bias.any())
        inputs, precision = [weights[-1]], 0
        if moved or bias.any():
            precision = max(arithmetic.bits(bias), width if moved else 0)
            inputs.append(q.constant(bias, precision, node.inputs[2].node.name if len(node.inputs) > 2 else f"{node.name}_bias"))
        total = max(width, precision) + 1 if precision else width
        if total > arithmetic.MAX_BITS:
            raise MRTError(f"node {node.name} ({node.op}): its sums need {total} bits, the runtime has {arithmetic.MAX_BITS}")
        if low_bits_in:
            return self.in_two_parts(node, q, entry, low_bits_in, inputs, attrs, scale, width, total)
        if low_bits:
            coarse = q.add(node.op, [entry, weights[0]], {**attrs, "no_bias": True}, node.name)
            coarse = q.add("broadcast_mul", [coarse, q.scalar(2 ** low_bits)], {}, node.name)
            fine = q.add(node.op, [entry, *inputs], attrs, node.name)
            total = max(width + arithmetic.bits(2 ** low_bits), total) + 1
            return q.result(node, [coarse, fine], scale, total, "broadcast_add", {})
        return q.result(node, [entry, *inputs], scale, total, attrs=attrs)

    def low_bits_of_weights(self, node, q):
        """Bits of the low part where weights are taken in two parts, high * 2^bits + low; as many as the sum of both has room
        for. 0 otherwise."""
        return self.room_for_parts(node, q) if q.parts.get(node) == "weight" else 0

    def room_for_parts(self, node, q):
        """The most bits a low part can have, so that no sum has to be clipped."""
        width = arithmetic.sum_bits(2 * q.weight_precision, int(np.prod(q.param(node, 1).shape[1:])))
        return min(arithmetic.MAX_BITS - 3 - width, LOW_BITS)

    def integers(self, node, q, x, width, low_bits=0):
        """(weights, bias, scale of the sums): integers for the input `x`, whose sums of products have `width` bits; the bias as
        int64. Both arrays of scales run over the output channels. `low_bits`: how much finer than 8 bits the weights are."""
        weight = q.param(node, 1)
        bias = q.param(node, 2).astype(np.float64) if len(node.inputs) > 2 else np.zeros(len(weight))
        # rows with scales of their own have no bias in common
        scale_x, means = (1.0, None) if x.has_rows else (np.min(x.scale), q.mean(node, 0))
        means = None if means is None else self.of_inputs(node, means, weight)
        # a channel with a finer scale has larger integers, and smaller weights for them
        finer = None if x.is_uniform or x.has_rows else self.of_inputs(node, x.scale / scale_x, weight)
        threshold = q.weight_threshold(node, 1, _largest(weight, finer))
        # A channel of tiny weights with a real bias would otherwise get a scale under which the bias needs more bits than all
        # the products together.
        reach = np.abs(bias) * scale_x * arithmetic.code_range(q.weight_precision) / arithmetic.code_range(width)
        threshold = np.maximum(threshold, reach if threshold.ndim else reach.max(initial=0))
        varies = weight.reshape(len(weight), -1).any(axis=1)
        if threshold.ndim and varies.any():
            # A channel that is constant, or zero, can have any scale. One coarser than the others' would cost them bits of the
            # multipliers that follow, which have the coarsest channel to fit.
            threshold = np.where(varies, threshold, np.where(bias == 0, threshold[varies].min(), threshold.max()))
        # one scale keeps every way open to what follows
        if threshold.ndim and (threshold.min() == threshold.max() or x.has_rows):
            threshold = threshold.max()
        scale_w = arithmetic.scale_for(threshold, q.weight_precision) * 2 ** low_bits
        limit = arithmetic.code_range(q.weight_precision) << low_bits
        codes = np.empty(weight.shape, np.int32 if low_bits else np.int8)
        gram = None if low_bits else q.gram(node)
        if gram is not None:
            self.adapt(node, codes, gram, weight, np.broadcast_to(scale_w, len(weight)), scale_x, finer, means, limit)
        for rows in _chunks(weight):
            column = np.reshape(np.broadcast_to(scale_w, len(weight))[rows], (-1,) + (1,) * (weight.ndim - 1))
            steps = column if finer is None else column / _rows(finer, rows)
            if gram is None:
                codes[rows] = np.clip(np.rint(np.asarray(weight[rows], np.float64) * steps), -limit, limit)
            if means is not None:
                bias[rows] -= rounding_error(codes[rows] / steps - weight[rows], _rows(means, rows))
        scale = scale_x * scale_w
        bias = arithmetic.quantize(bias, scale, arithmetic.MAX_BITS).astype(np.int64)
        return codes, bias, x.scale * scale_w if x.has_rows else scale

    def adapt(self, node, codes, gram, weight, scale_w, scale_x, finer, means, limit):
        """Fill in `codes` by adaptive rounding (see `mrt.rounding`). `finer`, `means`: as `of_inputs` shapes them, or None. What
        the errors do to the mean of the outputs does not count where the bias makes up for it."""
        groups, parts, size = gram.sums.shape

        def per_input(values, default):
            values = np.full((1, 1), default) if values is None else values[::max(len(values) // groups, 1)]
            return np.broadcast_to(values.reshape(values.shape + (1,) * (weight.ndim - values.ndim)),
                                   (groups,) + weight.shape[1:]).reshape(groups, parts, size)

        def per_part(values):
            return values.reshape(groups, -1, parts, size).swapaxes(1, 2)

        finer, means, rounded = per_input(finer, 1.0), per_input(means, 0.0), per_part(codes)
        scale_w = scale_w.reshape(groups, -1)
        step = max(1, CHUNK_ELEMENTS // (size * (size + len(weight) // groups)))
        for begin in range(0, groups, step):
            for part in range(parts):
                place = slice(begin, begin + step), part
                larger = finer[place][:, None, :]
                moments = gram.moments(place, means) * larger * larger.swapaxes(1, 2)
                moments += np.eye(size) / (12 * scale_x ** 2)  # the rounding of the inputs
                exact = per_part(weight)[place] * (scale_w[place[0]][:, :, None] / larger)
                rounded[place] = compensated(exact, moments, limit)

    def parts(self, node, weight):
        """Into how many parts the input channels of a group are divided for `patches`: so that none holds more than MAX_WIDTH
        inputs of an output."""
        channels, window = weight.shape[1], int(np.prod(weight.shape[2:]))
        divisors = (n for n in range(1, channels + 1) if channels % n == 0)
        return next((n for n in divisors if channels // n * window <= MAX_WIDTH), channels)

    def weight_steps(self, node, x, shares, scale, weight):
        """What one unit of the weights stands for in each output channel: the root mean square over the input channels, which
        count according to `shares`."""
        if x.is_uniform:
            return x.scale / scale
        over = tuple(range(1, weight.ndim))
        power = self.of_inputs(node, shares * x.scale ** 2, weight).sum(axis=over)
        total = self.of_inputs(node, shares, weight).sum(axis=over)
        return np.sqrt(power / np.maximum(total, 1e-300)) / scale

    def in_two_parts(self, node, q, x, low_bits, constants, attrs, scale, width, total):
        """An input of 8 + `low_bits` bits as high * 2^low_bits + low, each of 8 bits: two layers with the same weights, the
        second with the bias, and their sum."""
        factor, factor_bits = q.scalar(2 ** low_bits), arithmetic.bits(2 ** low_bits)
        high = q.shift(x, low_bits, q.weight_precision, node.name)
        coarse = q.add(node.op, [high, constants[0]], {**attrs, "no_bias": True}, node.name)
        room = arithmetic.MAX_BITS - 1 - factor_bits
        if width > room:
            needed = arithmetic.bits(q.thresholds[node.name] * np.max(scale) / 2 ** low_bits) + 1
            if needed > room:
                fit = q.weight_precision + max(low_bits + room - min(needed, width), 0)
                raise MRTError(f"node {node.name} ({node.op}) cannot take its input in {q.weight_precision + low_bits} bits: the "
                               f"sums would not fit {arithmetic.MAX_BITS} bits; {fit} bits fit (set_operand_prec, "
                               "Operand_precision)")
            coarse, width = q.clip(coarse, room, node.name), room
        coarse = q.add("broadcast_mul", [coarse, factor], {}, node.name)
        rest = q.add("broadcast_sub", [x, q.add("broadcast_mul", [high, factor], {}, node.name)], {}, node.name)
        fine = q.add(node.op, [q.clip(rest, q.weight_precision, node.name), *constants], attrs, node.name)
        if total == arithmetic.MAX_BITS:
            fine, total = q.clip(fine, total - 1, node.name), total - 1
        precision = max(width + factor_bits, total) + 1
        return q.result(node, [coarse, fine], scale, precision, "broadcast_add", {})

    def of_inputs(self, node, vector, weight):
        """One value per input channel, shaped to broadcast with the weights."""
        return vector.reshape((1, -1))

    def patches(self, node, x, weight):
        """What the weights of an output are multiplied with, (groups, parts, inputs, positions), for the float32 input `x`."""
        return x.T.reshape(1, self.parts(node, weight), -1, len(x))

    def rounding_noise(self, node, bounds, square, limit, q):
        """For each of several vectors of input channel bounds: the variance that rounding adds to the outputs, all channels
        together, up to a common factor, when the inputs are mapped from the bound to `limit`. `square`: mean square of each
        input channel.

        Rounding the input adds (bound / limit)^2 w^2 per product; rounding a weight, whose step comes from the largest
        |w| * bound of its output, adds step^2 * square / bound^2.
        """
        weight, noise = q.param(node, 1), []
        power, share, counts = self.what_counts(node, weight, square, q)
        for bound in bounds:
            factor = self.of_inputs(node, bound, weight)
            steps = _largest(weight, 1 / factor) / arithmetic.code_range(q.weight_precision)
            shares = self.of_inputs(node, share / bound ** 2, weight) * int(np.prod(weight.shape[2:]))
            shares = shares.reshape(len(shares), -1).sum(axis=1)
            noise.append(float((power * bound ** 2).sum() / limit ** 2 + (steps ** 2 * shares * counts).sum()))
        return np.array(noise)

    def what_counts(self, node, weight, square, q):
        """What an error of variance 1 in every input channel, one in the weights of every input channel, and one in every output
        count; the outputs all alike."""
        return self.channel_power(node, weight), square, 1.0

    def channel_power(self, node, weight):
        """Sum of the squared weights of each input channel."""
        return np.einsum("oi,oi->i", weight, weight)

    def padded(self, node, entry, zero, q):
        """(input, attributes) with padding made explicit, for integers in which the code of the real 0 is `zero`."""
        return entry, dict(node.attrs)


def in_parts(layer, inputs, r):
    """`layer` on `inputs`: one node, or several on parts of the input channels and their sum, so that products fit 32 bits."""
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
        total = node if total is None else Node("broadcast_add", r.name(layer.name), [Entry(total, 0), Entry(node, 0)])
    return Node(total.op, layer.name, total.inputs, total.attrs)


def rounding_error(error, means):
    """What the rounding of the weights adds to each output on average: sum of error * mean input (Nagel et al., "Data-free
    quantization through weight equalization and bias correction", 2019, section 4.2)."""
    return (error * means).reshape(len(error), -1).sum(axis=1)


def _chunks(weight):
    """Slices of output channels, so that float64 copies of large weights stay small."""
    size = max(1, CHUNK_ELEMENTS // max(int(np.prod(weight.shape[1:])), 1))
    return [slice(i, i + size) for i in range(0, len(weight), size)]


def _rows(values, rows):
    """The given output channels of values that may be the same for all of them."""
    return values if len(values) == 1 else values[rows]


def _largest(weight, finer):
    """Largest absolute value of weight / finer for every output channel; `finer` None stands for 1."""
    parts = []
    for rows in _chunks(weight):
        part = weight[rows] if finer is None else weight[rows] / _rows(finer, rows)
        part = part.reshape(len(part), -1)
        parts.append(np.maximum(part.max(axis=1), -part.min(axis=1)))
    return np.concatenate(parts).astype(np.float64)


@register("Convolution")
class Convolution(_Weighted):
    """One- or two-dimensional, NCW or NCHW; any stride, padding, dilation and groups; with or without bias; with very many
    channels, in parts."""

    def reject(self, node, graph, shapes):
        layout = {1: "NCW", 2: "NCHW"}.get(len(node.tuple("kernel")))
        if layout is None or node.str("layout", layout) not in (layout, "None"):
            return (f"kernel={node.str('kernel')} layout={node.str('layout', layout)}; use one- or two-dimensional "
                    "convolution in layout NCW or NCHW")
        reason = super().reject(node, graph, shapes)
        if reason:
            return reason
        size = graph.params[node.inputs[1].node.name].shape
        products = int(np.prod(size[1:] if node.int("num_group", 1) > 1 else size[2:]))
        if products > MAX_PRODUCTS:
            return f"{products} products of a group do not fit 32 bits (at most {MAX_PRODUCTS}); use more groups"
        return None

    def rewrite(self, node, inputs, r):
        if len(node.tuple("kernel")) == 2:
            return in_parts(node, inputs, r) if node.int("num_group", 1) == 1 else node.with_inputs(inputs)
        attrs = {key: str(node.tuple(key) + (rest,)) for key, rest in (("kernel", 1), ("stride", 1), ("dilate", 1), ("pad", 0))
                 if node.tuple(key)}
        column = r.add("expand_dims", [inputs[0]], {"axis": 3}, node.name)
        weight = r.param(r.params[inputs[1].node.name][..., None], inputs[1].node.name)
        layer = Node("Convolution", r.name(node.name), (), {**node.attrs, **attrs, "layout": "NCHW"})
        return Node("squeeze", node.name, [Entry(in_parts(layer, (column, weight, *inputs[2:]), r), 0)], {"axis": 3})

    def of_inputs(self, node, vector, weight):
        groups = node.int("num_group", 1)
        rows = vector.reshape(groups, -1, 1, 1)
        return rows if groups == 1 else np.repeat(rows, len(weight) // groups, axis=0)

    def patches(self, node, x, weight):
        (top, left), (down, right), kernel = node.tuple("pad") or (0, 0), node.tuple("stride") or (1, 1), weight.shape[2:]
        dilate = node.tuple("dilate") or (1, 1)
        x = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
        windows = np.lib.stride_tricks.sliding_window_view(x, [d * (k - 1) + 1 for d, k in zip(dilate, kernel)], axis=(2, 3))
        windows = windows[:, :, ::down, ::right, ::dilate[0], ::dilate[1]]
        every = 1
        while -(-windows.shape[2] // every) * -(-windows.shape[3] // every) > GRAM_POSITIONS:
            every += 1
        windows = windows[:, :, ::every, ::every].transpose(1, 4, 5, 0, 2, 3)
        groups, parts = node.int("num_group", 1), self.parts(node, weight)
        return windows.reshape(groups, parts, -1, int(np.prod(windows.shape[3:])))

    def padded(self, node, entry, zero, q):
        pad = node.tuple("pad") or (0, 0)
        if any(pad):
            widths = (0, 0, 0, 0, pad[0], pad[0], pad[1], pad[1])
            entry = q.add("Pad", [entry], {"mode": "constant", "pad_width": str(widths), "constant_value": zero}, node.name)
        return entry, {**node.attrs, "pad": "(0, 0)"}

    def what_counts(self, node, weight, square, q):
        """Groups hand on ranges that differ, and a layer behind may make up for that: they count as their errors show in the
        outputs of the network where that is known, else in relation to what they put out."""
        known, seen, groups = q.sensitivity(node), q.channels.get(node.name), node.int("num_group", 1)
        if groups == 1 or (known is None and seen is None):
            return super().what_counts(node, weight, square, q)
        if known is None:
            powers = np.where(seen.square > 0, seen.square, seen.square.max() or 1.0)
            return self.channel_power(node, weight / np.sqrt(powers).reshape(-1, 1, 1, 1)), square, 1 / powers
        grouped = (known.weight_inputs * (square > 0)).reshape(groups, -1)
        products = np.maximum(grouped.sum(axis=1, keepdims=True), 1e-300) * int(np.prod(weight.shape[2:]))
        return known.input * (square > 0), (grouped / products).ravel(), known.weight

    def channel_power(self, node, weight):
        groups = node.int("num_group", 1)
        grouped = weight.reshape((groups, -1) + weight.shape[1:])
        return np.einsum("goihw,goihw->gi", grouped, grouped).ravel()

    def export(self, node, inputs, c):
        return c.emit(node, "conv2d", inputs, {
            "channels": node.int("num_filter"), "kernel_size": node.tuple("kernel"), "strides": node.tuple("stride") or (1, 1),
            "padding": node.tuple("pad") or (0, 0), "dilation": node.tuple("dilate") or (1, 1),
            "groups": node.int("num_group", 1), "layout": "NCHW", "kernel_layout": "OIHW", "use_bias": len(inputs) > 2})


@register("FullyConnected")
class FullyConnected(_Weighted):
    """Dense. Inputs of other ranks than 2 are flattened, or reshaped and back; very wide ones are taken in parts."""

    def rewrite(self, node, inputs, r):
        shape = r.shape(node.inputs[0])
        attrs = {**node.attrs, "flatten": "False"}
        if len(shape) == 2:
            return in_parts(Node(node.op, node.name, (), attrs), inputs, r)
        if node.bool("flatten", True):
            flat = r.add("Flatten", [inputs[0]], {}, node.name)
            return in_parts(Node(node.op, node.name, (), attrs), (flat,) + inputs[1:], r)
        rows = r.add("Reshape", [inputs[0]], {"shape": f"(-1, {shape[-1]})"}, node.name)
        dense = Entry(in_parts(Node(node.op, r.name(node.name), (), attrs), (rows,) + inputs[1:], r), 0)
        return Node("Reshape", node.name, [dense], {"shape": str((-1,) + tuple(shape[1:-1]) + (node.int("num_hidden"),))})

    def carried(self, node, i, numbers, q):
        first = numbers[:, :1]
        return np.broadcast_to(first, q.shapes[node][0]) if len(node.inputs) == 2 and (numbers == first).all() else None

    def export(self, node, inputs, c):
        return c.emit(node, "dense", inputs, {"units": node.int("num_hidden"), "use_bias": len(inputs) > 2})


@register("Pooling")
class Pooling(Operator):
    """Maximum, average and sum over windows or all positions of one or two dimensions; averages are sums or convolutions with
    constant weights."""

    def saturation(self, node, room, q):
        return [below_maximum(node, room, q)]

    differentiable = True

    def reject(self, node, graph, shapes):
        layout = {3: "NCW", 4: "NCHW"}.get(len(shapes[node.inputs[0].node][node.inputs[0].index]))
        if layout is None or node.str("layout", layout) not in (layout, "None"):
            return "it is not one- or two-dimensional in layout NCW or NCHW; reshape or transpose before it"
        kind = node.str("pool_type", "max")
        return None if kind in ("max", "avg", "sum") else f"pool_type={kind}; use max, avg or sum"

    def rewrite(self, node, inputs, r):
        shape, out = r.shape(node.inputs[0]), r.shape(Entry(node, 0))
        if len(shape) == 4:
            return self._pooled(node, inputs, shape, out[2:], r)
        # one-dimensional: an image of one column
        attrs = {key: str(node.tuple(key) + (rest,)) for key, rest in (("kernel", 1), ("stride", 1), ("pad", 0))
                 if node.tuple(key)}
        column = r.add("expand_dims", [inputs[0]], {"axis": 3}, node.name)
        pooling = Node("Pooling", r.name(node.name), (), {**node.attrs, **attrs, "layout": "NCHW"})
        pooled = Entry(self._pooled(pooling, (column,), (*shape, 1), (*out[2:], 1), r), 0)
        return Node("squeeze", node.name, [pooled], {"axis": 3})

    def _pooled(self, node, inputs, shape, out, r):
        """The core node(s) of a two-dimensional pooling from `shape` to height and width `out`."""
        kind = node.str("pool_type", "max")
        if node.bool("global_pool"):
            if kind == "max":
                return Node("Pooling", node.name, inputs, {"kernel": str(shape[2:]), "pool_type": "max"})
            over = {"axis": "(2, 3)", "keepdims": "True"}
            if kind == "sum":
                return Node("sum", node.name, inputs, over)
            total = r.add("sum", inputs, over, node.name)
            return r.again(Node("_mul_scalar", node.name, [total], {"scalar": repr(1.0 / (shape[2] * shape[3]))}))
        if kind == "max":
            return self._largest(node, inputs, shape, out, r)
        return self._windows(node, inputs[0], shape, out, r)

    @staticmethod
    def _largest(node, inputs, shape, out, r):
        """Windows that lie wholly outside the input, as the last may with pooling_convention=full, hold MXNet's least number."""
        stride, pad = node.tuple("stride") or (1, 1), node.tuple("pad") or (0, 0)
        if all((count - 1) * s - p < size for size, count, s, p in zip(shape[2:], out, stride, pad)):
            return Node(node.op, node.name, inputs, node.attrs)
        widths = [0] * 4
        for size, count, k, s, p in zip(shape[2:], out, node.tuple("kernel"), stride, pad):
            widths += [p, max((count - 1) * s + k - size - p, 0)]
        border = {"mode": "constant", "pad_width": str(tuple(widths)), "constant_value": repr(-ENORMOUS)}
        entry = r.add("Pad", [inputs[0]], border, node.name)
        return Node(node.op, node.name, [entry], {"kernel": node.str("kernel"), "stride": str(stride), "pool_type": "max"})

    @staticmethod
    def _windows(node, entry, shape, out, r):
        """Sums over windows as a convolution with ones; averages divide by the number of elements, which is another one at the
        borders where windows are cut or padding does not count."""
        kernel, channels, kind = node.tuple("kernel"), shape[1], node.str("pool_type")
        stride, pad = node.tuple("stride") or (1, 1), node.tuple("pad") or (0, 0)
        counts, beyond = [], []
        for size, count, k, s, p in zip(shape[2:], out, kernel, stride, pad):
            begin = np.arange(count) * s - p
            end = np.minimum(begin + k, size + p)
            beyond.append(max(int(begin[-1]) + k - size - p, 0))
            inside = np.minimum(end, size) - np.maximum(begin, 0)
            elements = end - begin if node.bool("count_include_pad", True) else inside
            counts.append(np.maximum(elements, 1))  # a window that lies outside sums zeros
        if any(beyond):
            widths = (0, 0, 0, 0, pad[0], pad[0] + beyond[0], pad[1], pad[1] + beyond[1])
            entry, pad = r.add("Pad", [entry], {"mode": "constant", "pad_width": str(widths)}, node.name), (0, 0)
        counts = np.outer(*counts)
        same = counts.min() == counts.max()
        weight = np.full((channels, 1) + kernel, 1.0 / counts[0, 0] if kind == "avg" and same else 1.0)
        attrs = {"kernel": node.str("kernel"), "num_filter": channels, "num_group": channels, "no_bias": "True",
                 "stride": str(stride), "pad": str(pad)}
        inputs = (entry, r.param(weight, f"{node.name}_weight"))
        if kind == "sum" or same:
            return Node("Convolution", node.name, inputs, attrs)
        shares = r.param((1.0 / counts)[None, None], f"{node.name}_shares")
        return Node("broadcast_mul", node.name, [r.add("Convolution", inputs, attrs, node.name), shares])

    def carried(self, node, i, numbers, q):
        return of_channels(numbers, q.shapes[node][0])

    def export(self, node, inputs, c):
        return c.emit(node, "max_pool2d", inputs, {
            "pool_size": node.tuple("kernel"), "strides": node.tuple("stride") or (1, 1), "padding": node.tuple("pad") or (0, 0),
            "ceil_mode": node.str("pooling_convention", "valid") == "full"})


@register("BatchNorm")
class BatchNorm(Operator):
    """Folded into the convolution or dense layer before it (passes.fold_batch_norm); elsewhere a factor, which the integers
    take as another scale of each channel, and an offset."""

    def reject(self, node, graph, shapes):
        shape = shapes[node.inputs[0].node][node.inputs[0].index]
        if node.int("axis", 1) % len(shape) != 1:
            return f"axis={node.int('axis', 1)} on an input of shape {shape}; normalize axis 1, transposing before it"
        if not all(graph.is_param(e.node) for e in node.inputs[1:]):
            return "gamma, beta or a running statistic is a computed tensor; make them parameters"
        return None

    def rewrite(self, node, inputs, r):
        factor, offset = factor_and_offset(node, r.params)
        shape = (1, -1) + (1,) * (len(r.shape(node.inputs[0])) - 2)
        scaled = r.add("broadcast_mul", [inputs[0], r.param(factor.reshape(shape), f"{node.name}_factor")], {}, node.name)
        return Node("broadcast_add", node.name, [scaled, r.param(offset.reshape(shape), f"{node.name}_offset")])


def factor_and_offset(node, params):
    """BatchNorm as x * factor + offset: two float64 vectors, one value per channel."""
    gamma, beta, mean, var = (params[e.node.name].astype(np.float64) for e in node.inputs[1:])
    if node.bool("fix_gamma", True):
        gamma = np.ones_like(gamma)
    factor = gamma / np.sqrt(var + node.float("eps", 1e-3))
    return factor, beta - factor * mean
