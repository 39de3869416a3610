"""Every operator MRT knows, in small random networks: the prepared network computes what the float one did, the integer one is
within the bound its scales imply (see bounds.py), and the runtime has the bits of the simulation, node by node.

Each case stands six times in one network: on the 8-bit input, on a layer whose channels have very different scales (one of them
constant), and on that layer after a relu; each time as an output and as the input of another layer.
"""
import re

import nets
import numpy as np
import pytest
from bounds import Bounds, with_all_outputs

import cvm_runtime as cvm
from mrt import ops
from mrt import sim_quant_helper as sim
from mrt.arithmetic import code_range
from mrt.compiler import compile_graph
from mrt.errors import MRTError, UnsupportedError
from mrt.graph import Node
from mrt.mxnet_bridge import mx
from mrt.ops.refused import Refused
from mrt.transformer import Model

S = mx.sym
IMAGE, ROWS, SEQUENCE = "image", "rows", "sequence"
INTEGER = {"cvm_clip", "cvm_right_shift", "cvm_left_shift", "cvm_lut"}  # exist in integer graphs only
MEANINGFUL = 0.5  # a bound says something when it is, on average, below this part of the largest value,
OFTEN = 1 / 3  # as that of the operator on the plain input must, and so many of those that add worst cases of several layers


def bilinear(t, scale):
    """The weights of a bilinear interpolation, as mx.init.Bilinear makes them."""
    size = 2 * scale - scale % 2
    row = 1 - abs(np.arange(size) / scale - (2 * scale - 1 - scale % 2) / (2 * scale))
    return t.constant(values=np.broadcast_to(np.outer(row, row), (4, 1, size, size)))


class Draw:
    """Random attributes and constants for one network."""

    def __init__(self, seed, layout):
        self.rng = np.random.default_rng(seed)
        self.shape = {IMAGE: (2, 4, int(self.rng.integers(5, 8)), int(self.rng.integers(5, 8))), ROWS: (3, 6),
                      SEQUENCE: (2, 3, 5)}[layout]
        self.layout, self.values, self.data = layout, {}, S.var("data")

    def constant(self, *shape, values=None):
        name = f"constant{len(self.values)}"
        values = self.rng.normal(size=shape) if values is None else np.array(values, np.float64)
        self.values[name] = values
        return S.var(name, shape=values.shape)

    def channels(self, values=None):
        """A constant with one value per channel of an image."""
        return self.constant(1, 4, 1, 1, values=None if values is None else np.reshape(values, (1, 4, 1, 1)))

    def layer(self, x=None):
        """A layer that keeps the shape; its channels have very different sizes, the third one is constant, the fourth zero."""
        count = self.shape[1 if self.layout != SEQUENCE else 2]
        sizes = np.resize([1.0, 0.03, 0.0, 0.0, 2.0, 0.3], count)
        sizes[min(count, 4) - 1] = 0
        weight = self.rng.normal(size=(count, count) + (1, 1) * (self.layout == IMAGE)) * sizes.reshape(
            (-1, 1) + (1, 1) * (self.layout == IMAGE))
        bias = self.rng.normal(size=count) * (np.arange(count) != 3)
        arrays = [self.constant(values=weight), self.constant(values=bias)]
        if self.layout == IMAGE:
            return S.Convolution(self.data if x is None else x, *arrays, kernel=(1, 1), num_filter=count)
        return S.FullyConnected(self.data if x is None else x, *arrays, num_hidden=count, flatten=self.layout == ROWS)

    def few(self, count):
        """Weights of a dense layer with three outputs that look at four of `count` inputs each."""
        weight = self.rng.normal(size=(3, count))
        for row in weight:
            row[self.rng.permutation(count)[4:]] = 0
        return self.constant(values=weight)


def pool(kind, **attrs):
    return lambda t, x: S.Pooling(x, pool_type=kind, **attrs)


def reduction(function):
    """Every combination of axes, with negative ones, `exclude` and `keepdims`: one of them per network."""
    return [lambda t, x, axis=axis, more=more: function(x, axis=axis, **more)
            for axis, more in [((), {}), (None, {"keepdims": True}), (0, {}), (1, {}), (2, {"keepdims": True}), (-1, {}),
                               ((0, 1), {}), ((0, 2), {}), ((0, -1), {"keepdims": True}), ((1, 2), {"keepdims": True}),
                               ((1, -1), {}), ((2, 3), {"keepdims": True}), ((-2, -1), {}), ((0, 1, 2), {}),
                               ((1, 2, 3), {}), ((0, 2, 3), {}), ((0, 1, 2, 3), {}),
                               (1, {"exclude": True}), ((0, 1), {"exclude": True, "keepdims": True}), (-1, {"exclude": True})]]


def pair(function):
    """A function of two tensors: another tensor, itself, and constants of every shape, on either side."""
    return [lambda t, x: function(x, t.layer()), lambda t, x: function(t.layer(), x), lambda t, x: function(x, S.relu(t.layer())),
            lambda t, x: function(x, t.constant(1)), lambda t, x: function(t.constant(values=[-0.4]), x),
            lambda t, x: function(x, t.channels()), lambda t, x: function(t.channels([0.0, -3.0, 1e-3, 20.0]), x),
            lambda t, x: function(x, t.constant(*t.shape)), lambda t, x: function(t.constant(*t.shape), x),
            lambda t, x: function(x, t.constant(1, 1, *t.shape[2:])), lambda t, x: function(x, t.constant(t.shape[3])),
            lambda t, x: function(x, t.constant(1, values=[0.0])),
            lambda t, x: function(x, S.max(t.layer(), axis=(2, 3), keepdims=True)),
            lambda t, x: function(S.max(x, axis=1, keepdims=True), t.layer())]


def equal_shapes(function):
    return [lambda t, x: function(x, t.layer()), lambda t, x: function(t.constant(*t.shape), x), lambda t, x: function(x, x)]


def number(function, *values):
    return [lambda t, x, v=v: function(x, v) for v in values]


# pooling of 4 rows and 5 columns whose last windows lie outside: on both sides of where they end, with padding, without
OUTSIDE = [{"kernel": (1, 1), "stride": (4, 4)}, {"kernel": (2, 1), "stride": (3, 5)},
           {"kernel": (2, 2), "stride": (6, 4), "pad": (1, 1), "count_include_pad": False}]


def left(x, columns=5):
    return S.slice(x, begin=(0, 0, 0, 0), end=(2, 4, 4, columns))


# operator -> functions of (Draw, input). The network holds the operator, whatever else it holds.
IMAGES = {
    "Convolution": [
        lambda t, x: nets.conv(x, None, num_filter=3, kernel=(2, 3), stride=(2, 1), pad=(1, 0), dilate=(1, 2)),
        lambda t, x: nets.conv(x, None, num_filter=4, num_group=4, kernel=(2, 2), no_bias=True),
        lambda t, x: nets.conv(x, None, num_filter=4, num_group=2, kernel=(3, 1), pad=(2, 0)),
        lambda t, x: S.Convolution(x, t.constant(values=np.zeros((2, 4, 1, 1))), t.constant(2), kernel=(1, 1), num_filter=2)],
    "FullyConnected": [lambda t, x: S.FullyConnected(S.Pooling(x, kernel=(2, 2), stride=(4, 4)), num_hidden=3),
                       lambda t, x: S.FullyConnected(x, num_hidden=3, flatten=False, no_bias=True),
                       lambda t, x: S.FullyConnected(S.tile(x, reps=(1, 100, 10, 1)), t.few(1000 * int(np.prod(t.shape[1:]))),
                                                     t.constant(3), num_hidden=3)],
    "BatchNorm": [lambda t, x: S.BatchNorm(x, fix_gamma=False), lambda t, x: S.BatchNorm(S.relu(x), fix_gamma=True, eps=1e-5)],
    "Pooling": [pool("max", kernel=(2, 2)), pool("max", kernel=(3, 2), stride=(2, 1), pad=(1, 0)),
                pool("max", kernel=(3, 3), stride=(2, 2), pooling_convention="full"),
                pool("max", kernel=(1, 1), global_pool=True),
                pool("avg", kernel=(2, 2)), pool("avg", kernel=(3, 3), stride=(2, 2), pad=(1, 1)),
                pool("avg", kernel=(3, 2), stride=(1, 2)), pool("avg", kernel=(2, 2), pooling_convention="full"),
                pool("avg", kernel=(3, 3), stride=(1, 2), pad=(1, 1), count_include_pad=False),
                pool("avg", kernel=(3, 2), stride=(2, 2), pad=(1, 0), pooling_convention="full"),
                pool("avg", kernel=(3, 3), stride=(2, 2), pad=(1, 1), pooling_convention="full", count_include_pad=False),
                pool("sum", kernel=(3, 3), stride=(2, 2), pooling_convention="full"),
                pool("avg", kernel=(2, 2), global_pool=True), pool("sum", kernel=(2, 2)),
                pool("sum", kernel=(2, 2), global_pool=True),
                *(lambda t, x, kind=kind, attrs=attrs: S.relu(pool(kind, pooling_convention="full", **attrs)(t, left(x)))
                  for kind in ("avg", "sum") for attrs in OUTSIDE)],
    "_contrib_AdaptiveAvgPooling2D": [lambda t, x: S.contrib.AdaptiveAvgPooling2D(x, output_size=1),
                                      lambda t, x: S.contrib.AdaptiveAvgPooling2D(x, output_size=(2, 3)),
                                      lambda t, x: S.contrib.AdaptiveAvgPooling2D(x, output_size=4)],
    "relu": [lambda t, x: S.relu(x), lambda t, x: S.relu(S.negative(x))],
    "Activation": [lambda t, x, kind=kind: S.Activation(x, act_type=kind)
                   for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign")],
    "LeakyReLU": [*(lambda t, x, s=s: S.LeakyReLU(x, act_type="leaky", slope=s) for s in (0.1, -0.5, 0.0, 1.0)),
                  lambda t, x: S.LeakyReLU(x), lambda t, x: S.LeakyReLU(x, t.constant(4), act_type="prelu"),
                  lambda t, x: S.LeakyReLU(x, t.constant(values=[0.2]), act_type="prelu"),
                  lambda t, x: S.LeakyReLU(x, act_type="elu", slope=0.7), lambda t, x: S.LeakyReLU(x, act_type="selu"),
                  lambda t, x: S.LeakyReLU(x, act_type="gelu")],
    "sigmoid": [lambda t, x: S.sigmoid(x), lambda t, x: S.sigmoid(x * 10), lambda t, x: x * S.sigmoid(x)],
    "tanh": [lambda t, x: S.tanh(x), lambda t, x: S.tanh(x * 10)],
    "softsign": [lambda t, x: S.softsign(x)],
    "exp": [lambda t, x: S.exp(x * 0.3)],
    "hard_sigmoid": [lambda t, x: S.hard_sigmoid(x), lambda t, x: S.hard_sigmoid(x, alpha=1 / 6)],
    "erf": [lambda t, x: S.erf(x)], "arctan": [lambda t, x: S.arctan(x)], "cbrt": [lambda t, x: S.cbrt(x)],
    "expm1": [lambda t, x: S.expm1(x * 0.3)],
    **{name: [lambda t, x, name=name: getattr(S, name)(S.abs(x) + 0.3)] for name in ("sqrt", "rsqrt", "log", "log2", "log10",
                                                                                    "log1p", "reciprocal")},
    **{name: [lambda t, x, name=name: getattr(S, name)(x * 3)] for name in ("floor", "ceil", "round", "rint", "fix", "trunc")},
    "negative": [lambda t, x: S.negative(x)],
    "abs": [lambda t, x: S.abs(x)],
    "square": [lambda t, x: S.square(x)],
    "_power_scalar": [lambda t, x: x ** 2, lambda t, x: x ** 3, lambda t, x: (S.abs(x) + 0.3) ** -0.75,
                      lambda t, x: (S.abs(x) + 0.3) ** -2, lambda t, x: x ** 1],
    "_rpower_scalar": number(lambda x, v: v ** (x * 0.3), 2.0, 0.5, 1.0),
    "_rdiv_scalar": number(lambda x, v: v / (S.abs(x) + 0.3), 2.0, -0.5),
    "_mul_scalar": number(lambda x, v: x * v, 0.3, -2.5, 0, 1, -1, 1e-6, 1e4),
    "_div_scalar": number(lambda x, v: x / v, 0.3, -2.5, 1),
    "_plus_scalar": number(lambda x, v: x + v, 0.3, -2.5, 0, 30, 1e-4),
    "_minus_scalar": number(lambda x, v: x - v, 0.3, -2.5, 0),
    "_rminus_scalar": number(lambda x, v: v - x, 0.3, -2.5, 0),
    "_maximum_scalar": number(lambda x, v: S.maximum(x, v), 0.3, -0.5, 0, 100),
    "_minimum_scalar": number(lambda x, v: S.minimum(x, v), 0.3, -0.5, 0),
    "_greater_scalar": [*number(lambda x, v: x > v, 0.3, -0.5, 0), lambda t, x: (x > 0.5) * -2 + 0.3],
    "_lesser_scalar": number(lambda x, v: x < v, 0.3), "_lesser_equal_scalar": number(lambda x, v: x <= v, 0.3, -0.5),
    "_greater_equal_scalar": number(lambda x, v: x >= v, 0.3),
    "clip": [*(lambda t, x, low=low, high=high: S.clip(x, low, high)
               for low, high in ((-0.5, 0.7), (-1.5, -0.3), (0, 1), (0.2, 0.9), (0, 1e9), (-1e9, 1e9), (-1, 0))),
             lambda t, x: x * S.clip(x + 3, 0, 6) / 6, lambda t, x: relu6_feeds_all(t, S.clip(x * 5, 0, 6)),
             lambda t, x: relu6_feeds_all(t, S.clip(x, -0.2, 0.6))],
    "broadcast_add": pair(S.broadcast_add), "broadcast_sub": pair(S.broadcast_sub), "broadcast_mul": pair(S.broadcast_mul),
    "broadcast_maximum": pair(S.broadcast_maximum)[::2], "broadcast_minimum": pair(S.broadcast_minimum)[1::2],
    "broadcast_greater": pair(S.broadcast_greater)[::2], "broadcast_lesser": pair(S.broadcast_lesser)[1::5],
    "broadcast_lesser_equal": pair(S.broadcast_lesser_equal)[1::2],
    "broadcast_greater_equal": pair(S.broadcast_greater_equal)[::5],
    "where": [lambda t, x: S.where(x > 0.5, x, t.layer()), lambda t, x: S.where(S.relu(x), S.negative(x), x * 0.3),
              lambda t, x: S.where(t.constant(values=t.rng.integers(0, 2, t.shape)), x, t.layer()),
              lambda t, x: S.where(S.broadcast_lesser(x, t.channels()), t.constant(*t.shape), x),
              lambda t, x: S.where(S.broadcast_lesser_equal(x, t.layer()), t.layer(), S.zeros_like(x)),
              lambda t, x: S.where(t.constant(values=[1, 0]), x, t.layer()),
              lambda t, x: S.where(S.Reshape(S.max(x, axis=(1, 2, 3)), shape=(-1,)) > 2, x, t.layer())],
    "argmax": [lambda t, x: S.argmax(x, axis=1), lambda t, x: S.argmax(x, axis=-1, keepdims=True),
               lambda t, x: S.argmax(x, axis=2)],
    "argmin": [lambda t, x: S.argmin(x, axis=1), lambda t, x: S.argmin(x, axis=3)],
    "broadcast_div": [lambda t, x: S.broadcast_div(x, t.channels([1.0, -2.0, 0.1, 30.0])),
                      lambda t, x: S.broadcast_div(x, t.constant(values=[-0.3]))],
    "elemwise_div": [lambda t, x: x / t.constant(values=np.abs(t.rng.normal(size=t.shape)) + 0.5)],
    "elemwise_add": equal_shapes(S.elemwise_add), "elemwise_sub": equal_shapes(S.elemwise_sub),
    "elemwise_mul": equal_shapes(S.elemwise_mul),
    "_maximum": equal_shapes(S.maximum), "_minimum": equal_shapes(S.minimum),
    **{name: equal_shapes(getattr(S._internal, name))[:2] for name in ("_greater", "_lesser", "_greater_equal", "_lesser_equal")},
    "add_n": [lambda t, x: S.add_n(x, t.layer(), S.relu(t.layer())), lambda t, x: S.add_n(x, x, t.constant(*t.shape)),
              lambda t, x: S.add_n(x)],
    "sum": reduction(S.sum), "mean": reduction(S.mean), "max": reduction(S.max), "min": reduction(S.min),
    "softmax": [lambda t, x: S.softmax(x, axis=1), lambda t, x: S.softmax(x), lambda t, x: S.softmax(x, axis=2),
                lambda t, x: S.softmax(x * 8, axis=1), lambda t, x: S.softmax(x, axis=-3, temperature=2.5)],
    "softmin": [lambda t, x: S.softmin(x, axis=1)], "log_softmax": [lambda t, x: S.log_softmax(x, axis=1)],
    "L2Normalization": [lambda t, x, mode=mode: S.L2Normalization(x + 2, mode=mode)
                        for mode in ("instance", "channel", "spatial")],
    "InstanceNorm": [lambda t, x: S.InstanceNorm(x, t.constant(4), t.constant(4))],
    "LayerNorm": [lambda t, x: S.LayerNorm(x, t.constant(t.shape[3]), t.constant(t.shape[3])),
                  lambda t, x: S.LayerNorm(x, t.constant(4), t.constant(4), axis=1)],
    "LRN": [lambda t, x: S.LRN(x, nsize=3), lambda t, x: S.LRN(x, nsize=3, alpha=0.5, beta=0.5, knorm=1)],
    "Deconvolution": [lambda t, x: S.Deconvolution(x, t.constant(4, 3, 3, 3), kernel=(3, 3), num_filter=3),
                      lambda t, x: S.Deconvolution(x, t.constant(4, 3, 4, 3), t.constant(3), kernel=(4, 3), num_filter=3,
                                                   stride=(2, 3), pad=(1, 0), no_bias=False),
                      lambda t, x: S.Deconvolution(x, t.constant(4, 1, 2, 2), kernel=(2, 2), num_filter=2, num_group=2,
                                                   stride=(2, 2), adj=(1, 0)),
                      lambda t, x: S.Deconvolution(x, t.constant(4, 3, 2, 2), kernel=(2, 2), num_filter=3, dilate=(2, 1)),
                      *(lambda t, x, size=size: S.Deconvolution(
                          left(x), t.constant(values=abs(t.rng.normal(size=(4, 2, 4, 3)))), kernel=(4, 3), num_filter=2,
                          stride=(2, 2), target_shape=size)
                        for size in ((10, 11), (9, 10), (8, 9)))],
    "_contrib_BilinearResize2D": [lambda t, x: S.contrib.BilinearResize2D(x, height=9, width=11),
                                  lambda t, x: S.contrib.BilinearResize2D(x, height=3, width=8, align_corners=False),
                                  lambda t, x: S.contrib.BilinearResize2D(x, scale_height=2, scale_width=2, mode="odd_scale")],
    "_contrib_div_sqrt_dim": [lambda t, x: S.contrib.div_sqrt_dim(x)],
    "zeros_like": [lambda t, x: S.broadcast_add(S.zeros_like(x), t.channels()), lambda t, x: S.zeros_like(x)],
    "ones_like": [lambda t, x: S.ones_like(x)],
    "SoftmaxActivation": [lambda t, x: S.SoftmaxActivation(x, mode="channel"), lambda t, x: S.SoftmaxActivation(x)],
    "Flatten": [lambda t, x: S.Flatten(x)],
    "Reshape": [lambda t, x: S.Reshape(x, shape=(0, 2, -1)), lambda t, x: S.Reshape(x, shape=(-1, 0, 0, 0)),
                lambda t, x: S.Reshape(x, shape=(0, -4, 2, 2, -2)), lambda t, x: S.Reshape(x, shape=(-3, 0, -1))],
    "reshape_like": [lambda t, x: S.reshape_like(x, S.Flatten(t.layer()))],
    "transpose": [lambda t, x: S.transpose(x, axes=(0, 2, 3, 1)), lambda t, x: S.transpose(x),
                  lambda t, x: S.transpose(x, axes=(0, 1, 3, 2))],
    "SwapAxis": [lambda t, x: S.SwapAxis(x, dim1=1, dim2=3), lambda t, x: S.SwapAxis(x, dim1=0, dim2=2)],
    "expand_dims": [lambda t, x: S.expand_dims(x, axis=1), lambda t, x: S.expand_dims(x, axis=-1)],
    "squeeze": [lambda t, x: S.squeeze(S.slice_axis(x, axis=1, begin=1, end=2), axis=1), lambda t, x: S.squeeze(x)],
    "slice": [lambda t, x: S.slice(x, begin=(None, 1), end=(None, 3)),
              lambda t, x: S.slice(x, begin=(None, -1, None, 3), end=(None, None, None, None), step=(1, -2, -1, -1)),
              lambda t, x: S.slice(x, begin=(0, 0, 0, -3), end=(2, 4, 5, -1), step=(1, 3, 2, 1))],
    "slice_axis": [lambda t, x: S.slice_axis(x, axis=2, begin=1, end=None),
                   lambda t, x: S.slice_axis(x, axis=-1, begin=-3, end=-1),
                   lambda t, x: S.slice_axis(x, axis=1, begin=0, end=2)],
    "slice_like": [lambda t, x: S.slice_like(x, S.Pooling(t.layer(), kernel=(2, 2), stride=(2, 2))),
                   lambda t, x: S.slice_like(x, S.Pooling(t.layer(), kernel=(2, 2)), axes=(2,)),
                   lambda t, x: S.slice_like(x, t.constant(2, 3, 3, 3), axes=(1, -1))],
    "SliceChannel": [lambda t, x: sum(list(S.split(x, num_outputs=2, axis=1))),
                     lambda t, x: parts_with_many_users(S.split(x, num_outputs=4, axis=1, squeeze_axis=True)),
                     lambda t, x: parts_with_many_users(S.split(x, num_outputs=2, axis=0)),
                     lambda t, x: S.split(x, num_outputs=1)],
    "_split_v2": [lambda t, x: parts_with_many_users(S.split_v2(x, 2, axis=1)),
                  lambda t, x: S.concat(*S.split_v2(x, (1, 3), axis=-1), dim=3),
                  lambda t, x: parts_with_many_users(S.split_v2(x, 4, axis=1, squeeze_axis=True))],
    "stack": [lambda t, x: S.stack(x, t.layer(), axis=1), lambda t, x: S.stack(x, x, axis=-1)],
    "reverse": [lambda t, x: S.flip(x, axis=1), lambda t, x: S.reverse(x, axis=(3, 2))],
    "depth_to_space": [lambda t, x: S.depth_to_space(x, block_size=2)],
    "space_to_depth": [lambda t, x: S.space_to_depth(S.slice(x, begin=(0, 0, 0, 0), end=(None, None, 4, 4)), block_size=2)],
    "Crop": [lambda t, x: S.Crop(x, h_w=(3, 2), offset=(1, 2)), lambda t, x: S.Crop(x, h_w=(3, 3), center_crop=True),
             lambda t, x: S.Crop(x, S.Pooling(t.layer(), kernel=(2, 2)))],
    "tile": [lambda t, x: S.tile(x, reps=(1, 2, 1, 3)), lambda t, x: S.tile(x, reps=(2,)),
             lambda t, x: S.tile(x, reps=(1, 1, 1, 1, 2))],
    "repeat": [lambda t, x: S.repeat(x, repeats=2, axis=1), lambda t, x: S.repeat(x, repeats=3),
               lambda t, x: S.repeat(x, repeats=2, axis=-1)],
    "broadcast_to": [lambda t, x: S.broadcast_to(S.max(x, axis=1, keepdims=True), shape=(0, 3, 0, 0))],
    "broadcast_like": [lambda t, x: S.broadcast_like(S.mean(x, axis=(2, 3), keepdims=True), t.layer())],
    "broadcast_axis": [lambda t, x: S.broadcast_axis(S.sum(x, axis=(1, 2), keepdims=True), axis=(1, 2), size=(3, 2))],
    "UpSampling": [lambda t, x: S.UpSampling(x, scale=2, sample_type="nearest"),
                   lambda t, x: S.UpSampling(x, S.relu(t.layer()), scale=2, sample_type="nearest", num_args=2),
                   lambda t, x: S.UpSampling(left(x, 4), S.Pooling(left(t.layer(), 4), kernel=(2, 2), stride=(2, 2)), left(x, 4),
                                             scale=3, sample_type="nearest", num_args=3, multi_input_mode="sum"),
                   *(lambda t, x, n=n: S.UpSampling(x, bilinear(t, n), scale=n, sample_type="bilinear", num_filter=4, num_args=2)
                     for n in (2, 3)),
                   lambda t, x: S.UpSampling(x, t.constant(4, 1, 4, 4), scale=2, sample_type="bilinear", num_filter=4,
                                             num_args=2)],
    "Pad": [lambda t, x: S.Pad(x, mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 0, 3)),
            lambda t, x: S.Pad(x, mode="constant", pad_width=(0, 0, 0, 0, 2, 0, 1, 1), constant_value=0.4),
            lambda t, x: S.Pad(S.relu(x), mode="constant", pad_width=(0, 0, 0, 0, 0, 0, 1, 1), constant_value=-0.5),
            *(lambda t, x, mode=mode, w=w: S.Pad(x, mode=mode, pad_width=(0, 0, 0, 0, *w))
              for mode, w in (("reflect", (4, 4, 1, 2)), ("reflect", (0, 3, 2, 0)), ("edge", (3, 1, 0, 9)),
                              ("edge", (0, 0, 1, 1))))],
    "Concat": [lambda t, x: S.concat(x, t.layer() * 0.01, S.relu(t.layer())), lambda t, x: S.concat(x, t.layer() * 100, dim=2),
               lambda t, x: S.concat(t.layer() * 0.01, x, dim=-1), lambda t, x: S.concat(x, x, dim=0), lambda t, x: S.concat(x),
               lambda t, x: S.concat(x, t.constant(2, 3, *t.shape[2:]), dim=1)],
    **{name: [lambda t, x, name=name: getattr(S, name)(x)] for name in ("make_loss", "MakeLoss")},
    "amp_cast": [lambda t, x: S.amp_cast(x, dtype="float32")], "Dropout": [lambda t, x: S.Dropout(x)],
    "_copy": [lambda t, x: S.identity(x)], "BlockGrad": [lambda t, x: S.BlockGrad(x)],
    "Cast": [lambda t, x: S.Cast(x, dtype="float32")],
}
OTHERS = {
    ROWS: {"FullyConnected": [lambda t, x: S.FullyConnected(x, num_hidden=3)],
           "BatchNorm": [lambda t, x: S.BatchNorm(x, fix_gamma=False)],
           "softmax": [lambda t, x: S.softmax(x), lambda t, x: S.softmax(x * 20), lambda t, x: S.softmax(x, axis=0)],
           "SoftmaxActivation": [lambda t, x: S.SoftmaxActivation(x)],
           "broadcast_mul": [lambda t, x: S.broadcast_mul(x, t.constant(6)), lambda t, x: S.broadcast_mul(t.constant(3, 1), x)],
           "broadcast_add": [lambda t, x: S.broadcast_add(x, t.constant(6)), lambda t, x: S.broadcast_add(t.constant(1, 1), x)],
           "LeakyReLU": [lambda t, x: S.LeakyReLU(x, t.constant(6), act_type="prelu")],
           "Concat": [lambda t, x: S.concat(x, t.layer()), lambda t, x: S.concat(x, t.layer(), dim=0)],
           "sum": [lambda t, x: S.sum(x, axis=1), lambda t, x: S.sum(x, axis=0, keepdims=True), lambda t, x: S.sum(x)]},
    SEQUENCE: {"FullyConnected": [lambda t, x: S.FullyConnected(x, num_hidden=3, flatten=False)],
               "Convolution": [lambda t, x: S.Convolution(x, t.constant(4, 3, 2), t.constant(4), kernel=(2,), num_filter=4),
                               lambda t, x: S.Convolution(x, t.constant(3, 1, 3), kernel=(3,), num_filter=3, num_group=3,
                                                          pad=(2,), stride=(2,), dilate=(2,), no_bias=True, layout="NCW")],
               "BatchNorm": [lambda t, x: S.BatchNorm(S.Convolution(x, t.constant(4, 3, 2), t.constant(4), kernel=(2,),
                                                                    num_filter=4), fix_gamma=False)],
               "Pooling": [pool(kind, **attrs) for kind in ("max", "avg", "sum")
                           for attrs in ({"kernel": (2,)}, {"kernel": (3,), "stride": (2,), "pad": (1,)},
                                         {"kernel": (2,), "stride": (2,), "pooling_convention": "full"},
                                         {"kernel": (1,), "global_pool": True})],
               "where": [lambda t, x: S.where(x > 0.5, x, t.layer())], "argmax": [lambda t, x: S.argmax(x, axis=1)],
               "LayerNorm": [lambda t, x: S.LayerNorm(x, t.constant(5), t.constant(5))],
               "softmax": [lambda t, x: S.softmax(x), lambda t, x: S.softmax(x, axis=1)],
               "transpose": [lambda t, x: S.transpose(x, axes=(0, 2, 1))],
               "SwapAxis": [lambda t, x: S.SwapAxis(x, dim1=-1, dim2=1)],
               "broadcast_mul": [lambda t, x: S.broadcast_mul(x, t.constant(5)),
                                 lambda t, x: S.broadcast_mul(x, t.constant(3, 1))]},
}


def relu6_feeds_all(t, x):
    return t.layer(x) + x * 1.5


def parts_with_many_users(parts):
    parts = list(parts)
    return S.concat(S.negative(parts[0]), parts[1], parts[0], dim=2)


CASES = [(IMAGE, op, k) for op, builds in IMAGES.items() for k in range(len(builds))] + \
        [(layout, op, k) for layout, table in OTHERS.items() for op, builds in table.items() for k in range(len(builds))]


def network(layout, op, k, seed):
    """(Model, shape): the case on three inputs, each as an output and before a layer."""
    build = {IMAGE: IMAGES, **OTHERS}[layout][op][k]
    t = Draw(seed, layout)
    outputs = []
    with mx.name.NameManager():
        for source in (lambda: t.data, t.layer, lambda: S.relu(t.layer())):
            outputs.append(build(t, source()))
            y = build(t, source())
            shape = y.infer_shape_partial(data=t.shape)[1][0]
            if len(shape) == 4:
                outputs.append(S.Convolution(y, kernel=(1, 1), num_filter=3))
            elif len(shape) > 1:
                outputs.append(S.FullyConnected(y, t.few(int(np.prod(shape[1:]))), num_hidden=3, no_bias=True))
    model = nets.model(S.Group(outputs), t.shape, seed, **t.values)
    assert any(node.kind == op for node in model.graph.topological())
    return model, t.shape


def quantized(model, x):
    """(MRT after quantize, the prepared graph)."""
    model.prepare(x.shape)
    mrt = model.get_mrt()
    mrt.set_data(x)
    mrt.calibrate()
    mrt.quantize()
    return mrt, model.graph


def exact(mrt, x):
    """The simulated outputs. The runtime has the same integers in every node, inside the precision that is declared or proven."""
    codes = sim.load_real_data(x, "data", mrt.get_inputs_ext())
    array = codes.asnumpy().astype(np.int32)
    everything, nodes = with_all_outputs(mrt.current_model.graph)
    simulated = dict(zip(nodes, nets.run(Model.of(everything), codes)))
    symbol, params = compile_graph(everything, x.shape)
    model = cvm.load(symbol.encode(), params, ctx=cvm.formal())
    for node, ran, proven in zip(nodes, model.run(array), model.outputs):
        np.testing.assert_array_equal(ran, simulated[node], err_msg=f"{node}")
        declared = [proven.precision, node.int("precision"), mrt.precs.get(node.name, {}).get("out_key")]
        assert abs(ran.astype(np.int64)).max(initial=0) <= code_range(min(p for p in declared if p)), node
    outputs = [simulated[e.node] if e.node in simulated else codes.asnumpy() for e in mrt.current_model.graph.outputs]
    symbol, params = compile_graph(mrt.current_model.graph, x.shape)
    for ctx in (cvm.formal(), cvm.cpu(threads=1), cvm.cpu(threads=2)):
        for ran, wanted in zip(cvm.load(symbol.encode(), params, ctx=ctx).run(array), outputs):
            np.testing.assert_array_equal(ran, wanted)
    return outputs


def check(model, x):
    real = nets.run(model, x)
    mrt, graph = quantized(model, x)
    for prepared, original in zip(nets.run(Model.of(graph), x), real):
        np.testing.assert_allclose(prepared, original, rtol=1e-5, atol=1e-5 * max(1e-30, abs(original).max()))
    bounds = Bounds(graph, x.asnumpy().astype(np.float64), mrt).outputs()
    meaningful = []
    for k, (codes, scale, wanted, bound) in enumerate(zip(exact(mrt, x), mrt.get_output_scales(), real, bounds)):
        error = abs(codes / scale - wanted)
        excess = error - bound - 1e-6 * abs(wanted).max()
        assert excess.max() <= 0, f"output {k}: off by {error.ravel()[excess.argmax()]}, {excess.max()} more than the bound"
        meaningful.append(bound.mean() <= MEANINGFUL * abs(wanted).max() or not wanted.any())
    assert meaningful[0] and np.mean(meaningful) >= OFTEN, meaningful


@pytest.mark.parametrize("layout, op, k", CASES)
def test_operator(layout, op, k):
    seed = sum(map(ord, op)) + k
    model, shape = network(layout, op, k, seed)
    check(model, nets.batch(shape, seed + 1) + 1)  # a mean, so that sums do not cancel


ROW_COUNT = 5000


def row_numbers(shape, seed=0):
    """Numbers of rows, first and last among them."""
    ids = np.random.default_rng(seed).integers(0, ROW_COUNT, shape)
    ids.flat[0], ids.flat[1] = ROW_COUNT - 1, 0
    return ids


def rows_of(ids, table=None):
    return S.Embedding(ids, S.var("table") if table is None else table, input_dim=ROW_COUNT, output_dim=4)


EXACT = {  # what numbers of rows may pass on their way to the table
    "nothing": lambda x: x, "transpose": S.transpose, "reshape": lambda x: S.Reshape(x, shape=(0, 2, -1)), "flatten": S.Flatten,
    "slice": lambda x: S.slice(x, begin=(None, 1), end=(None, None)), "reverse": lambda x: S.reverse(x, axis=1),
    "split": lambda x: S.concat(*list(S.split(x, num_outputs=2, axis=1))[::-1], dim=0), "tile": lambda x: S.tile(x, reps=(1, 2)),
    "repeat": lambda x: S.repeat(x, repeats=2, axis=1), "expand_dims": lambda x: S.expand_dims(x, axis=1),
    "squeeze": lambda x: S.squeeze(S.expand_dims(x, axis=1), axis=1), "stack": lambda x: S.stack(x, x, axis=0),
    "SwapAxis": lambda x: S.SwapAxis(x, dim1=0, dim2=1),
    "broadcast": lambda x: S.broadcast_to(S.expand_dims(x, axis=1), shape=(0, 3, 0)),
    "concat": lambda x: S.concat(x, S.slice_axis(x, axis=1, begin=0, end=2)), "abs": S.abs, "relu": S.relu,
    "negative": lambda x: S.negative(S.negative(x)), "offset": lambda x: (ROW_COUNT - 1) - x, "copy": S.identity,
    "max": lambda x: S.max(x, axis=1, keepdims=True), "maximum": lambda x: S.maximum(x, 4000),
    "minimum": lambda x: S.minimum(x, 17),
    "clip": lambda x: S.clip(x, 3, 4000),
    "pooled": lambda x: S.Flatten(S.Pooling(S.Reshape(x, shape=(0, 1, 2, -1)), kernel=(2, 2))),
    "padded": lambda x: S.Flatten(S.Pad(S.Reshape(x, shape=(0, 1, 2, -1)), mode="constant", pad_width=(0, 0, 0, 0, 1, 0, 0, 0),
                                        constant_value=4321)),
    "upsampled": lambda x: S.UpSampling(S.Reshape(x, shape=(0, 1, 2, -1)), scale=2, sample_type="nearest"),
    "where": lambda x: S.where(x > 2500, x, S.negative(x) + 4999),
    "where_constant": lambda x: S.where(x > 2500, x, S.zeros_like(x)),
    "sum": lambda x: S.broadcast_add(S.minimum(x, 100), S.slice_axis(S.minimum(x, 7), axis=1, begin=0, end=1)),
    "difference": lambda x: S.broadcast_sub(S.maximum(x, 100), x), "times": lambda x: S.minimum(x, 100) * 3,
    "argmax": lambda x: S.argmax(x, axis=1), "argmin": lambda x: S.argmin(x, axis=1) + 4000,
    "compared": lambda x: S.broadcast_lesser(x, S.slice_axis(x, axis=1, begin=1, end=2)) + (x >= 2500.5) * 2,
    "rounded": lambda x: S.floor(S.sigmoid(S.broadcast_sub(x, S.mean(x, axis=1, keepdims=True)) * 0.001) * 4) * 1000,
}


@pytest.mark.parametrize("way", EXACT)
def test_embedding(way):
    """Row numbers arrive as they are: every row is the right one."""
    ids = row_numbers((4, 6))
    rows = rows_of(EXACT[way](S.var("data")))
    outputs = [rows, S.FullyConnected(rows, num_hidden=3, flatten=False)] if way == "nothing" else [rows]
    model = nets.model(S.Group(outputs), ids.shape)
    x = mx.nd.array(ids)
    if way in ("nothing", "transpose"):
        return check(model, x)
    real = nets.run(model, x)[0]
    mrt, _ = quantized(model, x)
    error = abs(exact(mrt, x)[0] / mrt.get_output_scales()[0] - real).max(axis=-1)
    step = abs(model.graph.params["table"]).max() / code_range(16)
    assert (error <= step).mean() >= (0.9 if way == "rounded" else 1)  # what is rounded is a real number before
    return None


@pytest.mark.parametrize("compare", [lambda x: x > 2500, lambda x: x < 2500, lambda x: x >= 2500, lambda x: x <= 2500,
                                     lambda x: x > 2499.7, lambda x: x <= 2500.3, lambda x: x > -1e9, lambda x: x < 1e30,
                                     lambda x: S.broadcast_greater(x, S.reverse(x, axis=1)),
                                     lambda x: S.broadcast_lesser_equal(x, S.reverse(x, axis=1)),
                                     lambda x: S.broadcast_greater(S.argmax(x, axis=1), S.argmin(x, axis=1)),
                                     lambda x: S.argmax(x, axis=1) >= 2])
def test_comparisons_of_row_numbers_are_exact(compare):
    ids = row_numbers((4, 6))
    ids[1:, 1:] = 2500 + np.arange(-2, 3)
    data = S.var("data")
    model, x = nets.model(S.Group([compare(data), rows_of(data)]), ids.shape), mx.nd.array(ids)
    real = nets.run(model, x)[0]
    mrt, _ = quantized(model, x)
    np.testing.assert_array_equal(exact(mrt, x)[0], real)


@pytest.mark.parametrize("size", [1.0, 0.02, 3e4])
def test_row_numbers_and_real_numbers_share_an_input(size):
    rng, count = np.random.default_rng(0), 8
    user, features = S.var("user"), S.var("features")
    layer = S.FullyConnected(features, num_hidden=4, name="fc")
    model = Model(S.Group([rows_of(user), layer]), {
        "table": mx.nd.array(rng.normal(size=(ROW_COUNT, 4))), "fc_weight": mx.nd.array(rng.normal(size=(4, 6))),
        "fc_bias": mx.nd.zeros(4)})
    ids, values = row_numbers((count,)), rng.normal(size=(count, 6)) * size
    real = [v.asnumpy() for v in model.to_graph()(mx.nd.array(ids), mx.nd.array(values))]
    x = mx.nd.array(np.concatenate([ids, values.ravel()]))
    model.prepare({"user": (count,), "features": (count, 6)})
    mrt = model.get_mrt()
    mrt.set_data(x)
    mrt.calibrate()
    mrt.quantize()
    found = [codes / scale for codes, scale in zip(exact(mrt, x), mrt.get_output_scales())]
    assert abs(found[0] - real[0]).max() <= abs(real[0]).max() / code_range(16)
    assert ((found[1] - real[1]) ** 2).sum() < 1e-3 * (real[1] ** 2).sum()


def test_row_numbers_and_real_numbers_too_far_apart_are_refused():
    data = S.var("data")
    parts = [S.slice_axis(data, axis=1, begin=i, end=i + 1) for i in (0, 1)]
    model = nets.model(S.Group([rows_of(parts[0]), S.sigmoid(parts[1])]), (4, 2))
    model.prepare((4, 2))
    mrt = model.get_mrt()
    mrt.set_data(mx.nd.array([[4999, 1e-6], [1, 1e-6], [2, 0], [3, -1e-6]]))
    mrt.calibrate()
    with pytest.raises(MRTError, match=r"input data holds numbers of rows up to 5000 and real numbers .* of at most 30\. Feed"):
        mrt.quantize()


@pytest.mark.parametrize("shape", [(300,), (300, 4), (300, 2, 3)])
def test_take(shape):
    ids = np.random.default_rng(0).integers(0, 300, (2, 5))
    ids[0, :3] = 299, 0, 7
    check(nets.model(S.take(S.var("table", shape=shape), S.var("data")), ids.shape), mx.nd.array(ids))


@pytest.mark.parametrize("values", [{}, {"on_value": 3, "off_value": -1}])
def test_one_hot(values):
    ids = mx.nd.array([[0, 2, -1], [6, 7, 50]])
    check(nets.model(S.one_hot(S.var("data"), depth=7, **values), ids.shape), ids)


# tensors that are zero throughout calibration have no scale of their own; what comes later may differ from zero
SEEN_ZERO = ["Convolution", "BatchNorm", "Pooling", "sigmoid", "exp", "clip", "broadcast_add", "broadcast_mul",
             "broadcast_maximum", "sum", "max", "softmax", "Pad", "LeakyReLU", "_mul_scalar",
             "Concat"]


@pytest.mark.parametrize("op", SEEN_ZERO)
def test_zeros(op):
    model, shape = network(IMAGE, op, 0, 1)
    mrt, _ = quantized(model, mx.nd.zeros(shape))
    exact(mrt, mx.nd.zeros(shape))
    exact(mrt, nets.batch(shape) * 1e3)


def test_every_operator_has_a_case():
    tested = set(IMAGES).union(*OTHERS.values(), (op for op, *_ in REJECTED), ["Embedding", "take", "one_hot"], REFUSED)
    assert tested == set(ops.OPERATORS) - INTEGER


def test_every_operator_is_registered_under_the_name_mxnet_gives_it():
    """MXNet replaces other names when it reads or makes a symbol, so that they would never be found."""
    for layout, op, k in CASES:
        if k == 0:
            model, _ = network(layout, op, k, 0)
            assert {node.kind for node in model.graph.topological()} - {"null"} <= set(ops.OPERATORS)


# --- what is refused: operator, function of (Draw, input), reason, remedy

REJECTED = [
    ("Convolution", lambda t, x: S.Convolution(x, S.Convolution(x, t.constant(4, 4, 1, 1), kernel=(1, 1), num_filter=4,
                                                                no_bias=True),
                                               kernel=t.shape[2:], num_filter=2, no_bias=True, name="y"),
     "weight or bias is a computed tensor", "make both parameters"),
    ("Pooling", lambda t, x: S.Pooling(S.expand_dims(x, axis=4), kernel=(2, 2, 1), name="y"), "not one- or two-dimensional",
     "reshape"),
    ("Pooling", lambda t, x: S.Pooling(x, kernel=(2, 2), pool_type="lp", p_value=2, name="y"), "pool_type=lp",
     "use max, avg or sum"),
    ("BatchNorm", lambda t, x: S.BatchNorm(x, axis=3, name="y"), "axis=3", "transposing before it"),
    ("BatchNorm", lambda t, x: S.BatchNorm(x, S.mean(x, axis=1, exclude=True), name="y"), "gamma, beta or a running statistic",
     "make them parameters"),
    ("LeakyReLU", lambda t, x: S.LeakyReLU(x, act_type="rrelu", name="y")[0], "act_type=rrelu", "use one of leaky"),
    ("LeakyReLU", lambda t, x: S.LeakyReLU(x, S.mean(x, axis=1, exclude=True), act_type="prelu", name="y"),
     "slope is a computed tensor", "make it a parameter"),
    ("Dropout", lambda t, x: S.Dropout(x, mode="always", name="y"), "mode=always", "remove the node"),
    ("Cast", lambda t, x: S.Cast(x, dtype="int32", name="y"), "dtype=int32 would round", "cast to a float type"),
    ("_div_scalar", lambda t, x: S._internal._div_scalar(x, scalar=0, name="y"), "divides by zero", "remove"),
    ("broadcast_div", lambda t, x: S.broadcast_div(x, x, name="y"), "divides by a computed tensor", "reciprocal"),
    ("elemwise_div", lambda t, x: S.elemwise_div(x, x, name="y"), "divides by a computed tensor", "reciprocal"),
    ("broadcast_div", lambda t, x: S.broadcast_div(x, t.channels([1, 0, 1, 1]), name="y"), "holds zeros",
     "correct the parameter"),
    ("softmax", lambda t, x: S.softmax(x, t.constant(2, 4, t.shape[2]), use_length=True, name="y"), "use_length",
     "pad the input"),
    ("softmax", lambda t, x: S.softmax(S.tile(x, reps=(1, 5000, 1, 1)), axis=1, name="y"), "20000 terms", "at most 16383"),
    ("SoftmaxActivation", lambda t, x: S.SoftmaxActivation(S.tile(x, reps=(1, 5000, 1, 1)), mode="channel", name="y"),
     "20000 terms", "at most 16383"),
    ("Reshape", lambda t, x: S.Reshape(x, shape=(-1, 0), reverse=True, name="y"), "reverse=True", "write the shape out"),
    ("reshape_like", lambda t, x: S.reshape_like(x, x, lhs_begin=1, rhs_begin=1, name="y"), "part of the shape", "use Reshape"),
    ("UpSampling", lambda t, x: S.UpSampling(x, S.Reshape(S.slice(x, begin=(0, 0, 0, 0), end=(1, 4, 4, 4)), shape=(4, 1, 4, 4)),
                                             scale=2, sample_type="bilinear", num_filter=4, num_args=2, name="y"),
     "weight is a computed tensor", "make it a parameter"),
    ("Pad", lambda t, x: S.Pad(S.expand_dims(x, axis=4), mode="constant", pad_width=(0, 0, 0, 0, 0, 0, 1, 1, 0, 0), name="y"),
     "rank 4", "reshape before it"),
    ("Embedding", lambda t, x: S.Embedding(t.constant(3), S.Reshape(x, shape=(-1, 2)), input_dim=int(np.prod(t.shape)) // 2,
                                           output_dim=2, name="y"),
     "table is a computed tensor", "make it a parameter"),
    ("take", lambda t, x: S.take(x, t.constant(values=[1]), name="y"), "gathers from a computed tensor", "split the network"),
    ("take", lambda t, x: S.take(t.constant(3, 9), x, axis=1, name="y"), "axis=1", "take along axis 0"),
    ("take", lambda t, x: S.take(t.constant(9, 2), x, mode="wrap", name="y"), "mode=wrap", "use clip"),
    ("Convolution", lambda t, x: S.Convolution(S.expand_dims(x, axis=2), kernel=(1, 3, 3), num_filter=2, name="y"),
     r"kernel=\(1, 3, 3\)", "use one- or two-dimensional"),
    ("Convolution", lambda t, x: S.Convolution(S.tile(x, reps=(1, 2000, 1, 1)), kernel=(3, 3), num_filter=2, num_group=2,
                                               name="y"),
     "36000 products of a group do not fit 32 bits", "use more groups"),
    ("_rpower_scalar", lambda t, x: S._internal._rpower_scalar(x, scalar=-2, name="y"), "base is -2", "positive"),
    ("argmax", lambda t, x: S.argmax(x, name="y"), "no axis", "give the axis"),
    ("argmin", lambda t, x: S.argmin(x, name="y"), "no axis", "give the axis"),
    ("InstanceNorm", lambda t, x: S.InstanceNorm(x, S.mean(x, axis=1, exclude=True), t.constant(4), name="y"),
     "gamma or beta is a computed", "make them parameters"),
    ("Deconvolution", lambda t, x: S.Deconvolution(x, S.tile(S.slice(x, begin=(0, 0, 0, 0), end=(1, 1, 2, 2)), reps=(4, 1, 1, 1)),
                                                   kernel=(2, 2), num_filter=1, name="y"),
     "weight or bias is a computed", "make both parameters"),
    ("Deconvolution", lambda t, x: S.Deconvolution(x, kernel=(2, 2), stride=(2, 2), dilate=(2, 2), num_filter=1, name="y"),
     "stride and dilate", "set one of them to 1"),
    ("Deconvolution", lambda t, x: S.Deconvolution(x, kernel=(2, 2), pad=(2, 2), num_filter=1, name="y"), "padding is larger",
     "crop"),
    ("Deconvolution", lambda t, x: S.Deconvolution(S.Reshape(x, shape=(0, 0, -1)), kernel=(2,), num_filter=1, name="y"),
     r"kernel=\(2,\)", "use two dimensions"),
]


REFUSED = sorted(name for name, operator in ops.OPERATORS.items() if isinstance(operator, Refused))


@pytest.mark.parametrize("op", REFUSED)
def test_refused(op):
    text = ops.OPERATORS[op].reject(Node(op, "y"), None, None)
    assert re.fullmatch(r"[^;]+; [^;]+", text)


@pytest.mark.parametrize("k", range(len(REJECTED)))
def test_rejected(k):
    op, build, reason, remedy = REJECTED[k]
    t = Draw(0, IMAGE)
    symbol = S.Group([build(t, t.data), S.sin(t.data, name="another")])
    model = nets.model(symbol, t.shape, **t.values)
    with pytest.raises(UnsupportedError) as error:
        model.prepare(t.shape)
    text = str(error.value)
    line = next(line for line in text.splitlines() if line.strip().startswith(f"y ({op}):"))
    assert re.search(f"{reason}.*; .*{remedy}", line)
    assert "another (sin)" in text  # all of them at once
