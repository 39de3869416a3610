"""Adaptive rounding: the errors of the weights of an output cancel on inputs like those of the calibration."""
import nets
import numpy as np
import pytest

from mrt import sim_quant_helper as sim
from mrt.compiler import compile_graph
from mrt.errors import MRTError
from mrt.graph import Entry, Graph
from mrt.mxnet_bridge import mx
from mrt.ops import operator_of
from mrt.quantization import calibrate
from mrt.rounding import Gram, compensated
from mrt.transformer import MRT, Model


def correlated(shape, seed):
    """Float32 samples whose channels and neighbouring positions resemble each other, with means of their own."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(shape[1], shape[1])) * 0.7 ** np.arange(shape[1])
    x = np.einsum("ij,njhw->nihw", mixing, rng.normal(size=shape))
    for axis in (2, 3):
        x = x + np.roll(x, 1, axis) + np.roll(x, 2, axis)
    return (x + np.arange(shape[1]).reshape(1, -1, 1, 1) / 2).astype(np.float32)


def test_errors_cancel_on_correlated_inputs():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 500)) @ rng.normal(size=(500, 500)) * 0.98 ** np.arange(500) @ rng.normal(size=(500, 130))
    moments, weights = inputs.T @ inputs / len(inputs) + 0.1 * np.eye(130), rng.uniform(-9, 9, size=(7, 130))

    def error(codes):
        return np.einsum("oi,ij,oj->", codes - weights, moments, codes - weights)

    codes = compensated(weights, moments, 127)
    np.testing.assert_array_equal(codes, np.rint(codes))
    assert error(codes) < error(np.rint(weights)) / 4


def test_it_is_the_rounding_by_the_inverse():
    """Column by column with the inverse of what is left, as OPTQ defines it."""
    rng = np.random.default_rng(1)
    root, weights = rng.normal(size=(9, 9)), rng.uniform(-9, 9, size=(3, 9))
    moments = root @ root.T + 0.1 * np.eye(9)
    damped = moments + 1e-4 * np.trace(moments) / 9 * np.eye(9)
    left, wanted, rest = list(np.argsort(np.diag(moments))[::-1]), np.zeros_like(weights), weights.copy()
    while left:
        inverse, first = np.linalg.inv(damped[np.ix_(left, left)]), left[0]
        wanted[:, first] = np.clip(np.rint(rest[:, first]), -8, 8)
        error = (rest[:, first] - wanted[:, first]) / inverse[0, 0]
        rest[:, left] -= error[:, None] * inverse[0]
        left = left[1:]
    np.testing.assert_array_equal(compensated(weights, moments, 8), wanted)


def test_independent_or_missing_inputs_leave_the_nearest_integers():
    weights = np.random.default_rng(2).uniform(-150, 150, size=(2, 5, 70))
    for moments in (np.eye(70) * np.arange(1.0, 71), np.zeros((70, 70))):
        codes = compensated(weights, np.broadcast_to(moments, (2, 70, 70)), 127)
        np.testing.assert_array_equal(codes, np.clip(np.rint(weights), -127, 127))


LAYERS = {
    "conv": lambda x: nets.conv(x, "y", num_filter=12, stride=(2, 1), pad=(1, 0), dilate=(1, 2)),
    "grouped": lambda x: nets.conv(x, "y", num_filter=16, num_group=2),
    "depthwise": lambda x: nets.conv(x, "y", num_filter=8, num_group=8, no_bias=True),
    "dense": lambda x: mx.sym.FullyConnected(x, num_hidden=12, name="y"),
    "deconvolution": lambda x: mx.sym.Deconvolution(x, num_filter=6, kernel=(3, 3), stride=(2, 2), name="y"),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("width", [1152, 18])
def test_patches_are_what_the_weights_are_multiplied_with(layer, width, monkeypatch):
    """Layer by layer, and where a group is wider than the limit, in parts: sums over patches are the outputs."""
    monkeypatch.setattr("mrt.ops.layer_weights.MAX_WIDTH", width)
    x = correlated((3, 8, 6, 5), 0)
    model = nets.model(LAYERS[layer](mx.sym.var("data")), x.shape)
    model.prepare(x.shape)
    node = next(n for n in model.graph.topological() if n.op in ("Convolution", "FullyConnected"))
    source = Model.of(Graph([node.inputs[0]], model.graph.params))
    data = nets.run(source, mx.nd.array(x))[0] if not node.inputs[0].node.is_variable else x
    weight = model.graph.params[node.inputs[1].node.name]
    patches = operator_of(node).patches(node, data, weight)
    groups, parts, size, _ = patches.shape
    assert groups == node.int("num_group", 1) and groups * parts * size == groups * weight[0].size
    assert parts == 1 if width == 1152 else size <= 18 or parts == weight.shape[1]
    found = np.einsum("gopi,gpin->gon", weight.reshape(groups, -1, parts, size), patches).reshape(len(weight), -1)
    bias = model.graph.params[node.inputs[2].node.name] if len(node.inputs) > 2 else np.zeros(len(weight))
    whole = Model.of(Graph([Entry(node, 0)], model.graph.params))
    wanted = np.moveaxis(nets.run(whole, mx.nd.array(x))[0], 1, 0).reshape(len(weight), -1)
    np.testing.assert_allclose(found + bias[:, None], wanted, rtol=1e-4, atol=1e-3)


def calibrated(model, shape, rounding, samples=24, **techniques):
    model.prepare(shape)
    mrt = model.get_mrt()
    mrt.set_input_prec(16)
    mrt.set_techniques(rounding=rounding, two_part_budget=0, **techniques)
    for seed in range(samples // shape[0]):
        mrt.set_data(mx.nd.array(correlated(shape, seed)))
        mrt.calibrate()
    return mrt


def noise(layer, rounding, **techniques):
    """Of the outputs on unseen data, when the input has bits enough that rounded weights are what is left."""
    shape = (32, 8, 3, 3) if layer == "dense" else (8, 8, 12, 12)
    model = nets.model(LAYERS[layer](mx.sym.var("data")), shape)
    x = mx.nd.array(correlated(shape, 100))
    real = nets.run(model, x)[0]
    mrt = calibrated(model, shape, rounding, samples=640 if layer == "dense" else 96, **techniques)
    layers = [n.name for n in mrt.current_model.graph.topological() if n.op in ("Convolution", "FullyConnected")]
    mrt.set_operand_prec(layers[0], 15)
    mrt.set_output_prec(16)
    mrt.quantize()
    codes = nets.run(mrt.current_model, sim.load_real_data(x, "data", mrt.get_inputs_ext()))[0]
    return ((codes / mrt.get_output_scales()[0] - real) ** 2).mean()


@pytest.mark.parametrize("techniques", [{}, {"bias_correction": "none"}], ids=["bias corrected", "bias kept"])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_outputs_of_a_layer_have_less_noise_on_unseen_data(layer, techniques):
    assert noise(layer, "adaptive", **techniques) < noise(layer, "nearest", **techniques) / 1.5


def test_inputs_that_hardly_vary_about_a_large_mean():
    gram, rng = Gram(), np.random.default_rng(4)
    gram.update((1e3 + 1e-3 * rng.normal(size=(1, 1, 9, 4000))).astype(np.float32))
    moments = gram.moments((slice(0, 1), 0), gram.sums / gram.count)
    assert np.linalg.eigvalsh(moments).min() > 0


def test_second_moments_of_all_batches_in_the_memory_of_one():
    rng = np.random.default_rng(3)
    data = (rng.normal(size=(2, 3, 5, 400)) + 1).astype(np.float32)
    whole, parts, means = Gram(), Gram(), rng.normal(size=(2, 3, 5))
    whole.update(data)
    for part in np.split(data, 20, axis=3):
        parts.update(part)
    place = slice(0, 2), 1
    np.testing.assert_allclose(whole.moments(place, means), parts.moments(place, means), rtol=1e-9)
    assert parts.products.shape == (2, 3, 5, 5) and parts.products.dtype == np.float64
    centred = data[:, 1] - means[:, 1, :, None]
    wanted = np.matmul(centred, centred.swapaxes(1, 2)) / 400
    diagonal = np.eye(5, dtype=bool)
    found = whole.moments(place, means)
    np.testing.assert_allclose(found[:, diagonal], wanted[:, diagonal], rtol=1e-4)
    np.testing.assert_allclose(found[:, ~diagonal], wanted[:, ~diagonal] * 400 / 405, rtol=1e-4, atol=1e-4)


def test_it_must_be_chosen_before_calibration():
    model = nets.model(nets.small_net(), nets.SMALL_SHAPE)
    mrt = calibrated(model, nets.SMALL_SHAPE, "nearest")
    assert not mrt.grams
    mrt.set_techniques(rounding="adaptive")
    with pytest.raises(MRTError, match=r"choose it .* before calibrate"):
        mrt.quantize()


def test_the_same_bytes_again_and_from_a_checkpoint(tmp_path):
    made = []
    for save in (False, False, True):
        mrt = calibrated(nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.SMALL_SHAPE, "adaptive")
        if save:
            mrt.save("net.mrt", str(tmp_path))
            mrt = MRT.load("net.mrt", str(tmp_path))
        mrt.quantize()
        made.append(compile_graph(mrt.current_model.graph))
    assert made[0] == made[1] == made[2]
    other = calibrated(nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.SMALL_SHAPE, "nearest")
    other.quantize()
    assert compile_graph(other.current_model.graph) != made[0]
    mrt.save("net.mrt", str(tmp_path))
    assert not MRT.load("net.mrt", str(tmp_path)).grams


def test_statistics_are_gathered_only_when_asked_for():
    model = nets.model(nets.small_net(), nets.SMALL_SHAPE)
    model.prepare(nets.SMALL_SHAPE)
    grams = {}
    calibrate.observe(model.graph, [nets.batch(nets.SMALL_SHAPE)], {}, mx.cpu(), grams)
    assert set(grams) == {n.name for n in model.graph.topological() if n.op in ("Convolution", "FullyConnected")}
