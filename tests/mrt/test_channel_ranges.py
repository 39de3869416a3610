"""Ranges that differ between channels: an operator that moves, selects or averages costs no more than 3 dB, whatever they are.

    python tests/mrt/test_channel_ranges.py        # the whole table: SNR in dB by operator and ratio

The network: a layer whose output channels have ranges from 1 to 1 / ratio, an operator, and a layer to which all channels of
its input matter alike.
"""
import functools
import sys

import nets
import numpy as np
import pytest

import cvm_runtime as cvm
from mrt import sim_quant_helper as sim
from mrt.compiler import compile_graph
from mrt.mxnet_bridge import mx
from mrt.transformer import Model, reduce_graph

SHAPE, CHANNELS, RATIOS, ALLOWED = (16, 3, 12, 12), 8, (1, 8, 32, 100), 3.0
S = mx.sym
DATA = S.var("data")


def shuffled(x):
    x = S.transpose(S.Reshape(x, shape=(0, 2, 4, 12, 12)), axes=(0, 2, 1, 3, 4))
    return S.Reshape(x, shape=(0, -1, 12, 12))


def halves(x, **attrs):
    return S.SliceChannel(x, num_outputs=2, axis=1, **attrs)


def layer(x, name, filters=CHANNELS, **attrs):
    return nets.conv(x, name, num_filter=filters, **{"kernel": (3, 3), "pad": (1, 1), "no_bias": True, **attrs})


OPERATORS = {  # of x with 8 channels, 12 x 12
    "nothing": lambda x: x,
    "slice of positions": lambda x: S.slice_axis(x, axis=2, begin=2, end=9),
    "slice of channels": lambda x: S.slice_axis(x, axis=1, begin=1, end=7),
    "crop": lambda x: S.Crop(x, offset=(1, 2), h_w=(8, 8)),
    "transpose of positions": lambda x: S.transpose(x, axes=(0, 1, 3, 2)),
    "transpose and back": lambda x: S.transpose(S.transpose(x, axes=(0, 2, 3, 1)), axes=(0, 3, 1, 2)),
    "transpose, relu and back": lambda x: S.transpose(S.relu(S.transpose(x, axes=(0, 2, 3, 1))), axes=(0, 3, 1, 2)),
    "space_to_depth": lambda x: S.space_to_depth(x, block_size=2),
    "depth_to_space": lambda x: S.depth_to_space(x, block_size=2),
    "channel shuffle": shuffled,
    "SliceChannel + Concat": lambda x: S.Concat(*list(halves(x))[::-1], dim=1),
    "stack and reshape": lambda x: S.Reshape(S.stack(x, x, axis=1), shape=(0, -1, 12, 12)),
    "reverse of positions": lambda x: S.reverse(x, axis=3),
    "reverse of channels": lambda x: S.reverse(x, axis=1),
    "squeeze, expand_dims": lambda x: S.squeeze(S.expand_dims(x, axis=2), axis=2),
    "reshape": lambda x: S.Reshape(x, shape=(0, 0, 6, 24)),
    "tile": lambda x: S.tile(x, reps=(1, 2, 1, 1)),
    "repeat": lambda x: S.repeat(x, repeats=2, axis=1),
    "UpSampling": lambda x: S.UpSampling(x, scale=2, sample_type="nearest"),
    "Pad": lambda x: S.Pad(x, mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 2, 1), constant_value=0),
    "max pooling": lambda x: S.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max"),
    "average pooling": lambda x: S.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg"),
    "average pooling, padded": lambda x: S.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg",
                                                   count_include_pad=False),
    "sum pooling": lambda x: S.Pooling(x, kernel=(3, 3), stride=(3, 3), pool_type="sum"),
    "adaptive pooling": lambda x: S.contrib.AdaptiveAvgPooling2D(x, output_size=(5, 5)),
    "global average": lambda x: S.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg"),
    "mean of positions": lambda x: S.mean(x, axis=3, keepdims=True),
    "bilinear resize": lambda x: S.contrib.BilinearResize2D(x, height=17, width=20),
    "depthwise Deconvolution": lambda x: S.Deconvolution(x, S.var("ones_up", shape=(8, 1, 4, 4)), kernel=(4, 4), stride=(2, 2),
                                                         pad=(1, 1), num_filter=8, num_group=8, no_bias=True),
    "depthwise convolution": lambda x: layer(x, "dw", num_group=8),
    "grouped convolution": lambda x: layer(x, "gw", num_group=4),
    "sum with itself, moved": lambda x: S.broadcast_add(x, S.reverse(x, axis=3)),
    "maximum with itself, moved": lambda x: S.broadcast_maximum(x, S.reverse(x, axis=3)),
    "where": lambda x: S.where(S.broadcast_greater(x, S.zeros_like(x)), x, x * 0.5),
    "clip": lambda x: S.clip(x, a_min=0, a_max=0.8),
    "normalization": lambda x: S.BatchNorm(x, name="bn", fix_gamma=True),
    "Concat with the image": lambda x: S.Concat(DATA, x * 0.004, dim=1),
    "Concat, reduced": lambda x: S.Concat(x, layer(x, "small", 4) * 0.01, dim=1),
    "Concat, normalized": lambda x: S.relu(S.BatchNorm(S.Concat(x, S.relu(layer(x, "more", 4)), dim=1), name="bn")),
    "U-Net skip": lambda x: S.Concat(x, S.UpSampling(S.relu(layer(S.Pooling(
        x, kernel=(2, 2), stride=(2, 2), pool_type="max"), "deep")), scale=2, sample_type="nearest"), dim=1),
    "Concat of rows": lambda x: S.Concat(x, S.reverse(x, axis=3), dim=2),
    "SliceChannel + Concat of columns": lambda x: S.Concat(*list(S.SliceChannel(x, num_outputs=3, axis=3))[::-1], dim=3),
    "Flatten": lambda x: S.Flatten(x),
    "Reshape to rows": lambda x: S.Reshape(x, shape=(0, -1)),
    "transpose, Flatten": lambda x: S.Flatten(S.transpose(x, axes=(0, 2, 3, 1))),
    "transpose, pixels as rows": lambda x: S.Reshape(S.transpose(x, axes=(0, 2, 3, 1)), shape=(-1, 8)),
    "pooling, Flatten": lambda x: S.Flatten(S.Pooling(x, kernel=(3, 3), stride=(3, 3), pool_type="avg")),
}


def network(operator, ratio, seed, rectified):
    """(Model, data): random parameters; those of the last layer make all channels of its input count alike."""
    rng = np.random.default_rng(seed)
    x = layer(DATA, "a", no_bias=False)
    moved = OPERATORS[operator](S.relu(x, name="r") if rectified else x)
    sizes = rng.permutation(np.geomspace(1, 1 / ratio, CHANNELS))
    shapes, _, _ = moved.infer_shape(data=SHAPE)
    params = {}
    for name, shape in zip(moved.list_arguments(), shapes):
        constant = {"ones_up": 0.25, "bn_gamma": 0.5, "bn_beta": 0.0}.get(name)
        params[name] = rng.normal(size=shape) / 4 if constant is None else np.full(shape, constant)
    params["a_weight"] *= sizes.reshape(-1, 1, 1, 1)
    params["a_bias"] *= sizes / 4
    for name in {"deep_weight", "more_weight", "small_weight"} & set(params):
        params[name] /= 8 * sizes.reshape(-1, 1, 1)
    data = nets.batch(SHAPE, seed + 1)
    del params["data"]
    arrays = {name: value.astype(np.float32) for name, value in params.items()}
    values = nets.run(Model(moved, {**arrays, **statistics(moved)}), data)[0]
    powers = np.sqrt((values.reshape(values.shape[:2] + (-1,)) ** 2).mean(axis=(0, 2)))
    rows = values.ndim == 2
    symbol = S.FullyConnected(moved, num_hidden=6, no_bias=True, name="b") if rows else layer(moved, "b", 6)
    weight = rng.normal(size=(6, len(powers)) + (() if rows else (3, 3)))
    arrays["b_weight"] = (weight / np.where(powers > 0, powers, 1).reshape((1, -1) + (1,) * (weight.ndim - 2))).astype(np.float32)
    return Model(symbol, {**arrays, **statistics(symbol)}), data


def statistics(symbol):
    return {name: np.ones(shape, np.float32) * name.endswith("var")
            for name, shape in zip(symbol.list_auxiliary_states(), symbol.infer_shape(data=SHAPE)[2])}


def quantized(operator, ratio, seed=0, rectified=True):
    """(MRT, data, float output)"""
    model, x = network(operator, ratio, seed, rectified)
    real = nets.run(model, x)[0]
    model.prepare(SHAPE)
    mrt = model.get_mrt()
    mrt.set_techniques(two_part_budget=0)
    mrt.set_input_prec(16)  # what the first layer loses is not the matter
    mrt.set_data(x)
    mrt.calibrate()
    mrt.set_output_prec(16)
    mrt.quantize()
    return mrt, x, real


def simulated(mrt, x):
    return nets.run(mrt.current_model, sim.load_real_data(x, "data", mrt.get_inputs_ext()))[0]


def snr(operator, ratio, seed=0, rectified=True):
    """SNR in dB of the output of the integer network, on the calibration data."""
    mrt, x, real = quantized(operator, ratio, seed, rectified)
    found = simulated(mrt, x) / mrt.get_output_scales()[0]
    return 10 * np.log10((real ** 2).sum() / ((real - found) ** 2).sum())


@functools.lru_cache(maxsize=None)
def mean_snr(operator, ratio, rectified, seeds):
    return float(np.mean([snr(operator, ratio, seed, rectified) for seed in range(seeds)]))


def least(operator, ratio, rectified, seeds):
    """What an operator must reach: as much as the network without it, or as the same network with ranges that are alike, less
    what is allowed."""
    return min(mean_snr("nothing", ratio, rectified, seeds), mean_snr(operator, 1, rectified, seeds)) - ALLOWED


@pytest.mark.parametrize("operator", OPERATORS)
def test_moving_selecting_and_averaging_cost_no_more_than_3_dB(operator):
    assert mean_snr(operator, 100, True, 1) > least(operator, 100, True, 1)


@pytest.mark.slow
@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_ratio(operator, rectified):
    for ratio in RATIOS:
        assert mean_snr(operator, ratio, rectified, 3) > least(operator, ratio, rectified, 3), ratio


@pytest.mark.parametrize("operator", ["bilinear resize", "adaptive pooling", "channel shuffle", "transpose, Flatten",
                                      "U-Net skip", "Concat with the image", "transpose, relu and back", "stack and reshape"])
def test_another_batch_has_the_same_integers(operator):
    """Scales that moved are no matter of the batch the network was prepared for; and the runtime has the same bits."""
    mrt, x, _ = quantized(operator, 32)
    expected = simulated(mrt, x)[:1]
    symbol, params = compile_graph(reduce_graph(mrt.current_model, {"data": (1, *SHAPE[1:])}).graph)
    codes = sim.load_real_data(x[:1], "data", mrt.get_inputs_ext()).asnumpy().astype(np.int32)
    np.testing.assert_array_equal(cvm.load(symbol.encode(), params).run(codes)[0], expected.astype(np.int64))


def table(names):
    for rectified in (True, False):
        print(f"{'after a relu' if rectified else 'signed':<32}" + "".join(f"{ratio:>8}" for ratio in RATIOS))
        for operator in names:
            found = [mean_snr(operator, ratio, rectified, 3) for ratio in RATIOS]
            marks = "".join(f"{value:7.1f}{' ' if value > least(operator, ratio, rectified, 3) else '*'}"
                            for ratio, value in zip(RATIOS, found))
            print(f"{operator:<32}{marks}", flush=True)


if __name__ == "__main__":
    table(sys.argv[1:] or OPERATORS)
