"""Random networks over the whole table of operators.

    network = Network(seed)                  # the same seed gives the same network
    network = Network(seed, spread=100)      # the same with layers whose channels differ up to so many times in size
    network.model, network.shapes            # a fresh Model, and what Model.prepare takes
    network.data(k)                          # (batch of the float network's inputs, the flat batch of the prepared one)

A network is a chain of operators, some of which take a second tensor from further back. Which ones is decided by the seed, so
that COVERING networks in a row hold every operator; attributes, shapes and constants are drawn from it too. Where an operator
needs another rank than there is, a layer or a reshape stands in between.
"""
import json

import numpy as np

from mrt import ops
from mrt.execute import invoke
from mrt.frontend.mxnet import from_symbol
from mrt.mxnet_bridge import mx
from mrt.ops.refused import Refused
from mrt.transformer import Model

S = mx.sym
BATCH, ROWS = 4, 50
STEPS = 6  # operators of a network, besides those that stand in between
LARGEST, MOST = 100.0, 3000  # a step whose values or size are beyond is not taken
SUPPORTED = sorted(name for name, operator in ops.OPERATORS.items()
                   if not isinstance(operator, Refused) and not name.startswith("cvm_"))
ANY, IMAGE, CHANNELS = (2, 3, 4), (4,), (3, 4)
# their values jump, so that an error of half a step may be one of a whole unit
JUMPS = {"floor", "ceil", "round", "rint", "fix", "trunc", "argmax", "argmin", "where"} | {
    name for name in SUPPORTED if "greater" in name or "lesser" in name}

BUILDERS = {}  # operator -> (ranks it takes, function of (Network, symbol, shape))


def builder(*names, ranks=ANY):
    """Decorator: a function of (Network, name, symbol, shape) that builds the operators of these names."""
    def add(function):
        for name in names:
            BUILDERS[name] = ranks, lambda net, x, shape, name=name: function(net, name, x, shape)
        return function
    return add


class Network:
    """`symbol`, `values` (name -> array of each parameter), `shapes` (input name -> shape), `seed`; see the module."""

    def __init__(self, seed, spread=1.0, smooth=False):
        """`smooth`: leave out the operators of JUMPS."""
        self.seed, self.spread, self.rng = seed, spread, np.random.default_rng(seed)
        self.values, self.shapes = {}, {}
        self.even = {}  # the parameters of the same network with spread 1, by which steps are accepted
        self._inputs, self._kept = {}, []
        with mx.name.NameManager():
            self.symbol = self._built([name for name in operators_of(seed) if not (smooth and name in JUMPS)])

    # --- what builders draw

    def choice(self, *options):
        return options[self.rng.integers(len(options))]

    def number(self, low, high):
        """A real number of at most three digits."""
        return float(np.round(self.rng.uniform(low, high), 2))

    def whole(self, low, high):
        """An integer from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def constant(self, *shape, values=None, sizes=None):
        """A parameter: normal values unless given. `sizes`: True where axis 0 holds channels, which the spread tells apart."""
        name = f"constant{len(self.values)}"
        values = np.asarray(self.rng.normal(size=shape) if values is None else values, np.float32)
        exponents = self.rng.uniform(-0.5, 0.5, len(values)) if sizes and values.ndim else np.zeros(1)
        self.even[name] = values
        self.values[name] = (values * self.spread ** exponents.reshape((-1,) + (1,) * max(values.ndim - 1, 0))).astype(np.float32)
        return S.var(name, shape=values.shape)

    def weights(self, *shape):
        """Of a layer that keeps the size of its input on average."""
        return self.constant(values=self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])), sizes=True)

    def channels(self, shape, like=False):
        """A vector with one value per channel; with `like` shaped to broadcast."""
        return self.constant(1, shape[1], *(1,) * (len(shape) - 2)) if like else self.constant(shape[1])

    def other(self, shape, equal=False):
        """A second operand that broadcasts with `shape`: a tensor from further back, a layer's, or a constant."""
        fitting = [symbol for symbol, known in self._kept if known == shape]
        kind = self.choice("tensor", "tensor", "constant", "channels", "number", "column")
        if kind == "tensor" or (equal and kind != "constant"):
            return self.choice(*fitting)
        if kind == "channels":
            return self.channels(shape, like=True)
        if kind == "number":
            return self.constant(1)
        if kind == "column":
            return S.max(self.choice(*fitting), axis=len(shape) - 1, keepdims=True)
        return self.constant(*shape)

    def rows(self):
        """Row numbers: an input of their own."""
        if "rows" not in self._inputs:
            self._inputs["rows"], self.shapes["rows"] = S.var("rows"), (BATCH, 3)
        x = self._inputs["rows"]
        return self.choice(x, S.transpose(x), S.Reshape(x, shape=(-1, 1)), S.slice_axis(x, axis=1, begin=1, end=None), S.abs(x))

    # --- building

    def _built(self, names):
        rank = self.choice(*ANY)
        size = {2: (6,), 3: (3, 8), 4: (4, self.whole(5, 8), self.whole(5, 8))}[rank]
        self.shapes["data"], self._inputs["data"] = (BATCH, *size), S.var("data")
        self._kept = [(self._inputs["data"], self.shapes["data"])]
        for name in names:
            ranks, build = BUILDERS[name]
            if not self._step(*self._fitted(*self._kept[-1], ranks), build):
                # values too large, or too many of them, to go on with
                assert self._step(*self._small(*self._kept[-1], ranks), build), f"no values in range: seed {self.seed}, {name}"
        return self._heads()

    def _shape(self, symbol):
        known = {key: shape for key, shape in self.shapes.items() if key in symbol.list_arguments()}
        return tuple(symbol.infer_shape(**known)[1][0])

    def _fitted(self, x, shape, ranks):
        """(x, shape) with one of the ranks."""
        if len(shape) not in ranks or int(np.prod(shape)) > MOST or min(shape) < 1 + (len(shape) == 4) or shape[0] != BATCH:
            x, shape = self._small(x, shape, ranks)
        if len(self._kept) == 1 or self.rng.random() < 0.3:  # a layer now and then
            x = self._layer(x, shape)
            self._kept.append((x, shape))
        return x, shape

    def _small(self, x, shape, ranks):
        """(symbol, shape) of a dense layer with few outputs of size 1, in one of the ranks."""
        rank = ranks[self.rng.integers(len(ranks))]
        size = {2: (6,), 3: (3, 8), 4: (4, 6, 5)}[rank]
        flat, count, many = S.Reshape(x, shape=(BATCH, -1)), int(np.prod(shape)) // BATCH, int(np.prod(size))
        if int(np.prod(shape)) % BATCH:  # nothing per sample is left
            data = S.Reshape(self._inputs["data"], shape=(BATCH, -1))
            flat, count = S.broadcast_add(data, S.max(x)), int(np.prod(self.shapes["data"])) // BATCH
        x = S.tanh(S.FullyConnected(flat, self.weights(many, count), self.constant(many), num_hidden=many))
        x = S.Reshape(x, shape=(BATCH, *size)) if rank > 2 else x
        self._kept.append((x, (BATCH, *size)))
        return self._kept[-1]

    def _layer(self, x, shape):
        """A layer that keeps the shape."""
        if len(shape) == 4:
            return S.Convolution(x, self.weights(shape[1], shape[1], 1, 1), self.constant(shape[1]), kernel=(1, 1),
                                 num_filter=shape[1])
        return S.FullyConnected(x, self.weights(shape[-1], shape[-1]), self.constant(shape[-1]), num_hidden=shape[-1],
                                flatten=False)

    def _step(self, x, shape, build):
        """Append what a builder makes of x, unless nothing it makes has values in range; whether it did."""
        for _ in range(10):
            y = build(self, x, shape)
            found = self._shape(y)
            values = self._evaluated(y)
            if 0 < values.size <= MOST and np.isfinite(values).all() and abs(values).max() <= LARGEST:
                self._kept.append((y, found))
                return True
        return False

    def _evaluated(self, symbol):
        return _outputs(symbol, {**self._batch(0), **self.even})[0]

    def _heads(self):
        """The last tensor, at times more: others, a constant, the input itself."""
        heads = [self._kept[-1][0]]
        if self.rng.random() < 0.4:
            heads.append(self.choice(*[symbol for symbol, _ in self._kept[1:-1]] or heads))
        if self.rng.random() < 0.1:
            heads.append(self.choice(self.constant(2, 3), self.constant(5) * 2, self._inputs["data"]))
        return S.Group(heads)

    # --- use

    def _batch(self, k):
        rng = np.random.default_rng([self.seed, k])
        return {name: rng.integers(0, ROWS, shape) if name == "rows" else rng.normal(size=shape)
                for name, shape in self.shapes.items()}

    @property
    def model(self):
        """A Model of it, with parameters that its symbol names."""
        names = self.symbol.list_arguments() + self.symbol.list_auxiliary_states()
        return Model(self.symbol, {name: value for name, value in self.values.items() if name in names})

    def data(self, k):
        """(list of NDArray for the inputs of the float network, NDArray for `data` of the prepared one): batch number k."""
        inputs = self._batch(k)
        parts = [inputs[name] for name in self.model.input_names()]
        whole = parts[0] if len(parts) == 1 else np.concatenate([part.ravel() for part in parts])
        return [mx.nd.array(part) for part in parts], mx.nd.array(whole)

    def outputs(self, k):
        """What the float network makes of batch number k: a list of arrays."""
        return _outputs(self.symbol, {**self._batch(k), **self.values})

    def kinds(self):
        """The operators it holds."""
        return {node["op"] for node in json.loads(self.symbol.tojson(remove_amp_cast=False))["nodes"]} - {"null"}


def _outputs(symbol, known):
    """Node by node, because MXNet's executors stop at a layer of which only the shape is needed."""
    graph, values = from_symbol(symbol, {}), {}
    for node in graph.topological():
        values[node] = [mx.nd.array(known[node.name])] if node.is_variable else \
            invoke(node, [values[entry.node][entry.index] for entry in node.inputs])
    return [values[entry.node][entry.index].asnumpy() for entry in graph.outputs]


def operators_of(seed):
    """The operators a network is made of: the next STEPS of all of them in an order that is another in every round."""
    first, count = seed * STEPS, len(SUPPORTED)
    names = []
    for place in range(first, first + STEPS):
        order = np.random.default_rng(place // count).permutation(count)
        names.append(SUPPORTED[order[place % count]])
    return names


COVERING = -(-len(SUPPORTED) // STEPS)  # so many networks in a row, from seed 0, hold every operator


# --- the operators

@builder("relu", "sigmoid", "tanh", "softsign", "erf", "arctan", "cbrt", "negative", "abs", "square", "BlockGrad", "make_loss",
         "MakeLoss", "zeros_like", "ones_like", "Dropout", "Flatten")
def plain(net, name, x, shape):
    return getattr(S, name)(x)


@builder("_copy", "_contrib_div_sqrt_dim")
def renamed(net, name, x, shape):
    return S.identity(x) if name == "_copy" else S.contrib.div_sqrt_dim(x)


@builder("floor", "ceil", "round", "rint", "fix", "trunc")
def steps(net, name, x, shape):
    return getattr(S, name)(x * net.number(1, 5))


@builder("exp", "expm1")
def exponential(net, name, x, shape):
    return getattr(S, name)(S.tanh(x) * net.number(0.2, 3))


@builder("sqrt", "rsqrt", "log", "log2", "log10", "log1p", "reciprocal")
def positive(net, name, x, shape):
    return getattr(S, name)(S.abs(x) + net.number(0.2, 2))


@builder("Cast", "amp_cast")
def cast(net, name, x, shape):
    return getattr(S, name)(x, dtype="float32")


@builder("hard_sigmoid")
def hard_sigmoid(net, name, x, shape):
    return S.hard_sigmoid(x, alpha=net.number(0.1, 0.5), beta=net.number(0.2, 0.8))


@builder("Activation")
def activation(net, name, x, shape):
    return S.Activation(x, act_type=net.choice("relu", "sigmoid", "tanh", "softrelu", "softsign"))


@builder("LeakyReLU")
def leaky(net, name, x, shape):
    kind = net.choice("leaky", "prelu", "elu", "selu", "gelu")
    if kind == "prelu":
        return S.LeakyReLU(x, net.channels(shape), act_type=kind)
    return S.LeakyReLU(x, act_type=kind, slope=net.number(-0.5, 1))


@builder("clip")
def clip(net, name, x, shape):
    low = net.choice(net.number(-1, 0.5), 0, -1e9, -np.inf)
    return S.clip(x, low, net.choice(net.number(0.6, 3), 6, 1e9, np.inf))


@builder(*(name for name in SUPPORTED if name.endswith("_scalar")))
def scalar(net, name, x, shape):
    value = net.choice(net.number(-3, 3), net.number(0.1, 2), net.whole(1, 4))
    if name in ("_div_scalar", "_rdiv_scalar", "_mul_scalar") and value == 0:
        value = 1.0
    if name in ("_rdiv_scalar", "_power_scalar"):
        x = S.abs(x) + net.number(0.3, 1)
    if name == "_rpower_scalar":
        x, value = S.tanh(x), abs(value) + 0.1
    if name in ("_maximum_scalar", "_minimum_scalar"):
        value = net.choice(value, 1e9 if name == "_minimum_scalar" else -1e9)
    return getattr(S._internal, name)(x, scalar=value)


@builder("broadcast_add", "broadcast_sub", "broadcast_mul", "broadcast_maximum", "broadcast_minimum", "broadcast_greater",
         "broadcast_lesser", "broadcast_greater_equal", "broadcast_lesser_equal")
def broadcast(net, name, x, shape):
    pair = [x, net.other(shape)]
    return getattr(S, name)(*(pair if net.rng.random() < 0.7 else pair[::-1]))


@builder("elemwise_add", "elemwise_sub", "elemwise_mul", "_maximum", "_minimum", "_greater", "_lesser", "_greater_equal",
         "_lesser_equal")
def equal_shapes(net, name, x, shape):
    module = S if name.startswith("elemwise") else S._internal
    return getattr(module, name)(x, net.other(shape, equal=True))


@builder("broadcast_div", "elemwise_div")
def divided(net, name, x, shape):
    size = shape if name == "elemwise_div" else net.choice((1,), (1, shape[1]) + (1,) * (len(shape) - 2))
    values = net.rng.uniform(0.3, 3, size) * net.rng.choice([-1, 1], size)
    return getattr(S, name)(x, net.constant(values=values))


@builder("add_n")
def add_n(net, name, x, shape):
    return S.add_n(x, *(net.other(shape, equal=True) for _ in range(net.whole(0, 2))))


@builder("where")
def where(net, name, x, shape):
    condition = net.choice(lambda: x > net.number(-1, 1), lambda: net.constant(values=net.rng.integers(0, 2, shape)),
                           lambda: S.relu(x), lambda: net.constant(values=net.rng.integers(0, 2, shape[0])))()
    return S.where(condition, x, net.other(shape, equal=True))


@builder("sum", "mean", "max", "min")
def reduction(net, name, x, shape):
    count = net.whole(1, len(shape) - 1)
    axes = tuple(int(axis) for axis in net.rng.permutation(np.arange(1, len(shape)))[:count])
    if net.rng.random() < 0.1:
        axes = net.choice((), (0,), (0, 1))
    x = x * 0.2 if name == "sum" else x
    return getattr(S, name)(x, axis=axes, keepdims=bool(net.rng.random() < 0.6), exclude=bool(axes and net.rng.random() < 0.2))


@builder("argmax", "argmin")
def place(net, name, x, shape):
    return getattr(S, name)(x, axis=net.whole(1, len(shape) - 1), keepdims=bool(net.rng.random() < 0.5)) * 0.3


@builder("softmax", "softmin", "log_softmax")
def softmax(net, name, x, shape):
    more = {"temperature": net.number(0.5, 3)} if name == "softmax" and net.rng.random() < 0.3 else {}
    if name == "softmax" and net.rng.random() < 0.3:  # masked
        mask = np.where(net.rng.random(shape) < 0.3, net.choice(-1e9, -1e4, -np.inf), 0.0)
        mask[..., 0] = 0
        return S.softmax(S.elemwise_add(x, net.constant(values=mask)), axis=len(shape) - 1, **more)
    return getattr(S, name)(x, axis=net.choice(1, -1, len(shape) - 1), **more)


@builder("SoftmaxActivation")
def softmax_activation(net, name, x, shape):
    return S.SoftmaxActivation(x, mode=net.choice("channel", "instance") if len(shape) > 2 else "instance")


# layers

@builder("Convolution", ranks=CHANNELS)
def convolution(net, name, x, shape):
    count, dims = shape[1], len(shape) - 2
    groups = net.choice(1, 1, *(n for n in range(2, count + 1) if count % n == 0))
    filters = groups * net.whole(1, 3)
    kernel = tuple(net.whole(1, min(3, size)) for size in shape[2:])
    pad = tuple(net.whole(0, 1) for _ in kernel)
    dilate = tuple(2 if p and k == 2 else 1 for p, k in zip(pad, kernel))
    arrays = [net.weights(filters, count // groups, *kernel)]
    bias = net.rng.random() < 0.7
    arrays += [net.constant(filters)] if bias else []
    return S.Convolution(x, *arrays, kernel=kernel, num_filter=filters, num_group=groups, pad=pad, dilate=dilate,
                         no_bias=not bias, stride=tuple(net.whole(1, 2) for _ in range(dims)))


@builder("FullyConnected")
def dense(net, name, x, shape):
    flatten, count = net.rng.random() < 0.6, net.whole(2, 8)
    width = int(np.prod(shape[1:])) if flatten else shape[-1]
    bias = [net.constant(count)] if net.rng.random() < 0.7 else []
    return S.FullyConnected(x, net.weights(count, width), *bias, num_hidden=count, flatten=bool(flatten), no_bias=not bias)


@builder("Deconvolution", ranks=IMAGE)
def deconvolution(net, name, x, shape):
    kernel, stride = tuple(net.whole(2, 4) for _ in range(2)), tuple(net.whole(1, 3) for _ in range(2))
    groups = net.choice(1, shape[1])
    more = {"pad": tuple(net.whole(0, k - 1) for k in kernel), "adj": tuple(net.whole(0, s - 1) for s in stride)}
    if net.rng.random() < 0.3:
        less = [net.whole(0, k - 1) // 2 * 2 for k in kernel]  # an odd number needs a stride
        more = {"target_shape": tuple(s * (n - 1) + k - cut for s, n, k, cut in zip(stride, shape[2:], kernel, less))}
    filters = groups * net.whole(1, 2)
    bias = [net.constant(filters)] if net.rng.random() < 0.5 else []
    weights = net.constant(values=net.rng.normal(size=(shape[1], filters // groups, *kernel)) / 4)
    return S.Deconvolution(x, weights, *bias, kernel=kernel, stride=stride, num_filter=filters, num_group=groups,
                           no_bias=not bias, **more)


@builder("BatchNorm")
def batch_norm(net, name, x, shape):
    vectors = [net.channels(shape) for _ in range(3)]
    variance = net.constant(values=net.rng.uniform(0.3, 2, shape[1]))
    return S.BatchNorm(x, *vectors, variance, fix_gamma=bool(net.rng.random() < 0.5), eps=net.choice(1e-3, 1e-5))


@builder("LayerNorm")
def layer_norm(net, name, x, shape):
    axis = net.choice(-1, 1)
    return S.LayerNorm(x, net.constant(shape[axis]), net.constant(shape[axis]), axis=axis)


@builder("InstanceNorm", ranks=CHANNELS)
def instance_norm(net, name, x, shape):
    return S.InstanceNorm(x, net.channels(shape), net.channels(shape))


@builder("L2Normalization", ranks=IMAGE)
def l2_normalization(net, name, x, shape):
    return S.L2Normalization(x + net.number(0.5, 2), mode=net.choice("instance", "channel", "spatial"))


@builder("LRN", ranks=IMAGE)
def lrn(net, name, x, shape):
    size = net.choice(1, 3) if shape[1] > 2 else 1
    return S.LRN(x, nsize=size, alpha=net.number(0.01, 0.5), beta=net.choice(0.5, 0.75), knorm=net.number(1, 2))


@builder("Pooling", ranks=CHANNELS)
def pooling(net, name, x, shape):
    kernel = tuple(net.whole(1, min(3, size)) for size in shape[2:])
    more = {"pool_type": net.choice("max", "avg", "sum"), "kernel": kernel}
    if net.rng.random() < 0.2:
        return S.Pooling(x, global_pool=True, **more)
    more["stride"] = tuple(net.whole(1, k) for k in kernel)
    more["pad"] = tuple(net.whole(0, k - 1) for k in kernel)
    return S.Pooling(x, pooling_convention=net.choice("valid", "full"), count_include_pad=bool(net.rng.random() < 0.5), **more)


@builder("_contrib_AdaptiveAvgPooling2D", "_contrib_BilinearResize2D", ranks=IMAGE)
def resized(net, name, x, shape):
    if name == "_contrib_AdaptiveAvgPooling2D":
        return S.contrib.AdaptiveAvgPooling2D(x, output_size=net.choice(1, 2, 4, (2, 3)))
    return S.contrib.BilinearResize2D(x, height=net.whole(2, 9), width=net.whole(2, 9),
                                      align_corners=bool(net.rng.random() < 0.5))


@builder("UpSampling", ranks=IMAGE)
def upsampling(net, name, x, shape):
    scale = net.whole(1, 3)
    if net.rng.random() < 0.3:
        size = 2 * scale - scale % 2
        weights = net.constant(values=net.rng.uniform(0, 0.5, (shape[1], 1, size, size)))
        return S.UpSampling(x, weights, scale=scale, sample_type="bilinear", num_filter=shape[1], num_args=2)
    others = [net.other(shape, equal=True) for _ in range(net.choice(0, 0, 1, 2))]
    mode = net.choice("concat", "sum") if others else "concat"
    return S.UpSampling(x, *others, scale=scale, sample_type="nearest", num_args=1 + len(others), multi_input_mode=mode)


@builder("Pad", ranks=IMAGE)
def pad(net, name, x, shape):
    mode = net.choice("constant", "constant", "edge", "reflect")
    widths = tuple(net.whole(0, 2 if mode != "reflect" else min(2, size - 1)) for size in np.repeat(shape[2:], 2))
    value = net.choice(0.0, net.number(-2, 2)) if mode == "constant" else 0.0
    return S.Pad(x, mode=mode, pad_width=(0, 0, 0, 0, *widths), constant_value=value)


@builder("Crop", ranks=IMAGE)
def crop(net, name, x, shape):
    height, width = (net.whole(2, size) for size in shape[2:])
    if net.rng.random() < 0.5:
        return S.Crop(x, h_w=(height, width), center_crop=True)
    return S.Crop(x, h_w=(height, width), offset=(shape[2] - height, net.whole(0, shape[3] - width)))


@builder("depth_to_space", "space_to_depth", ranks=IMAGE)
def blocks(net, name, x, shape):
    if name == "depth_to_space":
        return S.depth_to_space(S.tile(x, reps=(1, 4, 1, 1)), block_size=2)
    return S.space_to_depth(S.slice(x, begin=(0, 0, 0, 0), end=(None, None, shape[2] // 2 * 2, shape[3] // 2 * 2)), block_size=2)


# what moves

@builder("Reshape", "reshape_like")
def reshape(net, name, x, shape):
    if name == "reshape_like":
        return S.reshape_like(x, net.choice(S.Flatten(x), S.expand_dims(x, axis=1) if len(shape) < 4 else S.Flatten(x)))
    return S.Reshape(x, shape=net.choice((0, -1), (BATCH, -1), (-1, *shape[1:]), (0, 0, -1), (0, -4, 1, -1, -2)))


@builder("transpose", "SwapAxis")
def transpose(net, name, x, shape):
    if name == "SwapAxis":
        return S.SwapAxis(x, dim1=net.whole(0 if net.rng.random() < 0.1 else 1, len(shape) - 1), dim2=len(shape) - 1)
    if net.rng.random() < 0.1:
        return S.transpose(x)
    return S.transpose(x, axes=(0, *(int(axis) for axis in net.rng.permutation(np.arange(1, len(shape))))))


@builder("expand_dims", ranks=(2, 3))
def expand_dims(net, name, x, shape):
    return S.expand_dims(x, axis=net.whole(1, len(shape)))


@builder("squeeze")
def squeeze(net, name, x, shape):
    axis = net.whole(1, len(shape) - 1)
    if len(shape) == 2:
        return S.squeeze(S.expand_dims(x, axis=1))
    return S.squeeze(S.slice_axis(x, axis=axis, begin=0, end=1), axis=axis)


def _range(net, size):
    begin = net.whole(0, size - 1)
    return begin, net.whole(begin + 1, size)


@builder("slice", "slice_axis", "slice_like")
def sliced(net, name, x, shape):
    axis = net.whole(1, len(shape) - 1)
    begin, end = _range(net, shape[axis])
    if name == "slice_axis":
        return S.slice_axis(x, axis=net.choice(axis, axis - len(shape)), begin=begin, end=net.choice(end, None))
    if name == "slice_like":
        return S.slice_like(x, net.constant(*(1 if i == axis else size for i, size in enumerate(shape))), axes=(axis,))
    if net.rng.random() < 0.3:
        return S.slice(x, begin=(None,) * len(shape), end=(None,) * len(shape),
                       step=tuple(net.choice(-1, -2, 2) if i == axis else 1 for i in range(len(shape))))
    ranges = [_range(net, size) if i else (0, size) for i, size in enumerate(shape)]
    return S.slice(x, *([r[k] for r in ranges] for k in (0, 1)))


@builder("SliceChannel", "_split_v2")
def split(net, name, x, shape):
    axis = net.whole(1, len(shape) - 1)
    count = net.choice(*(n for n in range(1, shape[axis] + 1) if shape[axis] % n == 0))
    if name == "SliceChannel":
        parts = list(S.split(x, num_outputs=count, axis=axis))
    else:
        parts = list(S.split_v2(x, net.choice(count, (1,)) if shape[axis] > 1 else count, axis=axis))
    return S.concat(*parts[::-1], dim=axis) if net.rng.random() < 0.7 else parts[0]


@builder("Concat", "stack")
def joined(net, name, x, shape):
    others = [net.other(shape, equal=True) * net.choice(1, 0.1, 5) for _ in range(net.whole(0, 2))]
    axis = net.whole(1, len(shape) - 1)
    if name == "stack":
        return S.stack(x, *others, axis=axis) if len(shape) < 4 else S.Flatten(S.stack(x, *others, axis=axis))
    return S.concat(x, *others, dim=axis)


@builder("reverse")
def reverse(net, name, x, shape):
    return S.reverse(x, axis=net.choice(1, len(shape) - 1, (1, len(shape) - 1) if len(shape) > 2 else 1))


@builder("tile", "repeat")
def repeated(net, name, x, shape):
    axis = net.whole(1, len(shape) - 1)
    if name == "repeat":
        return S.repeat(x, repeats=2, axis=net.choice(axis, axis - len(shape)))
    return S.tile(x, reps=tuple(net.whole(1, 2) if i == axis else 1 for i in range(len(shape))))


@builder("broadcast_to", "broadcast_like", "broadcast_axis")
def stretched(net, name, x, shape):
    axis = net.whole(1, len(shape) - 1)
    column = S.mean(x, axis=axis, keepdims=True)
    if name == "broadcast_to":
        return S.broadcast_to(column, shape=tuple(shape[axis] if i == axis else 0 for i in range(len(shape))))
    return S.broadcast_like(column, x) if name == "broadcast_like" else S.broadcast_axis(column, axis=axis, size=net.whole(1, 4))


# rows by number

@builder("Embedding", "take", "one_hot")
def by_number(net, name, x, shape):
    rows = net.rows()
    if name == "Embedding":
        found = S.Embedding(rows, net.constant(ROWS, 4, sizes=True), input_dim=ROWS, output_dim=4)
    elif name == "take":
        found = S.take(net.constant(ROWS, 4), rows)
    else:
        found = S.one_hot(rows, depth=net.choice(ROWS, 10), on_value=net.number(1, 2), off_value=net.choice(0, -1))
    if net.rng.random() < 0.3:
        return S.broadcast_add(S.Reshape(S.mean(found, axis=()), shape=(1,) * len(shape)), x)
    return S.concat(S.Reshape(found, shape=(BATCH, -1)), S.Flatten(x), dim=1)
