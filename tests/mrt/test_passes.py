"""Preparation: the rewritten network computes what the original did, and what cannot be prepared is named."""
import nets
import numpy as np
import pytest

from mrt.errors import ModelError, UnsupportedError
from mrt.mxnet_bridge import mx
from mrt.transformer import Model

CORE = {"null", "Convolution", "FullyConnected", "relu", "Pooling", "Flatten", "Reshape", "broadcast_mul", "broadcast_add"}


def prepared_equals_original(symbol, shape, **values):
    model = nets.model(symbol, shape, **values)
    x = nets.batch(shape)
    before = nets.run(model, x)
    model.prepare(shape)
    assert {node.op for node in model.graph.topological()} <= CORE
    for a, b in zip(nets.run(model, x), before):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    return model


def test_all_operators_together():
    prepared_equals_original(nets.small_net(), nets.SMALL_SHAPE)


@pytest.mark.parametrize("fix_gamma", [True, False])
@pytest.mark.parametrize("no_bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_batch_norm_folds_into_convolution(fix_gamma, no_bias, groups):
    x = nets.conv(mx.sym.var("data"), "c", num_filter=8, num_group=groups, no_bias=no_bias)
    model = prepared_equals_original(mx.sym.BatchNorm(x, name="bn", fix_gamma=fix_gamma), (2, 4, 6, 6))
    names = [node.name for node in model.graph.topological()]
    assert sum(node.op == "Convolution" for node in model.graph.topological()) == 1
    assert "mrt_rewrite_c_weight_0" in names and "mrt_rewrite_bn_0" in names


def test_batch_norm_folds_into_dense():
    x = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=5, name="fc")
    model = prepared_equals_original(mx.sym.BatchNorm(x, name="bn", fix_gamma=False), (3, 4))
    assert [node.op for node in model.graph.topological() if not node.is_variable] == ["FullyConnected"]


@pytest.mark.parametrize("shape", [(2, 3, 5, 5), (4, 7)])
def test_batch_norm_alone(shape):
    prepared_equals_original(mx.sym.BatchNorm(mx.sym.var("data"), name="bn", fix_gamma=False), shape)


def test_batch_norm_uses_mxnets_default_eps():
    symbol = mx.sym.BatchNorm(nets.conv(mx.sym.var("data"), "c", num_filter=2), name="bn")
    prepared_equals_original(symbol, (1, 1, 4, 4), bn_moving_var=[1e-4, 1e-3])


def test_shared_convolution_is_left_to_its_other_consumer():
    x = nets.conv(mx.sym.var("data"), "c", num_filter=4)
    symbol = mx.sym.Group([mx.sym.BatchNorm(x, name="bn", fix_gamma=False), mx.sym.relu(x, name="r")])
    prepared_equals_original(symbol, (1, 2, 5, 5))


def test_shared_weight_is_folded_for_one_user_only():
    data, weight = mx.sym.var("data"), mx.sym.var("w")
    a = mx.sym.Convolution(data, weight, kernel=(1, 1), num_filter=2, no_bias=True, name="a")
    b = mx.sym.Convolution(data, weight, kernel=(1, 1), num_filter=2, no_bias=True, name="b")
    prepared_equals_original(mx.sym.Group([mx.sym.BatchNorm(a, name="bn", fix_gamma=False), b]), (1, 2, 3, 3))


@pytest.mark.parametrize("shape, flatten", [((2, 3), True), ((2, 3, 4), True), ((2, 3, 4, 5), True), ((2, 3, 4), False),
                                            ((2, 3, 4, 5), False)])
def test_fully_connected_of_every_rank(shape, flatten):
    prepared_equals_original(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=6, flatten=flatten, name="fc"), shape)


@pytest.mark.parametrize("attrs", [{"kernel": (2, 2)}, {"kernel": (3, 2), "stride": (2, 1), "pad": (1, 0)},
                                   {"kernel": (3, 3), "stride": (2, 2), "pooling_convention": "full"},
                                   {"kernel": (1, 1), "global_pool": True}])
def test_max_pooling(attrs):
    prepared_equals_original(mx.sym.Pooling(mx.sym.var("data"), pool_type="max", name="p", **attrs), (2, 3, 7, 8))


def test_constants_are_folded():
    scaled = mx.sym.var("w") * 2.0
    symbol = mx.sym.FullyConnected(mx.sym.var("data"), scaled, num_hidden=3, no_bias=True, name="fc")
    model = Model(symbol, {"w": np.ones((3, 4), np.float32)})
    model.prepare((2, 4))
    assert [node.op for node in model.graph.topological()] == ["null", "null", "FullyConnected"]
    np.testing.assert_array_equal(nets.run(model, mx.nd.ones((2, 4)))[0], np.full((2, 3), 8.0))


def test_the_input_is_called_data_afterwards():
    model = Model(mx.sym.relu(mx.sym.var("image"), name="r"), {})
    model.prepare({"image": (1, 4)})
    assert model.input_names() == ["data"]


def test_all_unsupported_nodes_are_named_at_once():
    x = mx.sym.var("data")
    x = mx.sym.LRN(x, nsize=3, name="squash")
    x = mx.sym.Pooling(x, kernel=(2, 2), pool_type="lp", p_value=2, name="mean")
    x = mx.sym.sin(x, name="wave")
    with pytest.raises(UnsupportedError) as error:
        Model(x, {}).prepare((1, 2, 4, 4))
    text = str(error.value)
    assert "3 nodes" in text
    for part in ("squash (LRN)", "mean (Pooling): pool_type=lp", "wave (sin)"):
        assert part in text
    assert isinstance(error.value, NotImplementedError)


def test_too_wide_dense_is_refused():
    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=1, name="wide")
    with pytest.raises(UnsupportedError, match=r"wide.*32768 products.*32767 with bias"):
        nets.model(symbol, (1, 32768)).prepare((1, 32768))


@pytest.mark.parametrize("shape, message", [((1, 1, -1), "positive integers"), ((), "positive integers"),
                                            ((1, 3), "does not|do not|shape"), ((1, 2, 5, 5), "shape")])
def test_bad_input_shapes(shape, message):
    model = nets.model(nets.conv(mx.sym.var("data"), "c", num_filter=2), (1, 1, 5, 5))
    with pytest.raises(ModelError, match=message):
        model.prepare(shape)


def test_duplicate_names_are_refused_and_can_be_fixed(tmp_path):
    data = mx.sym.var("data")
    symbol = mx.sym.relu(mx.sym.relu(data, name="same"), name="same")
    model = Model(symbol, {})
    with pytest.raises(ModelError, match=r"more than once: same.*fix_original_model"):
        model.prepare((1, 2))
    model.fix_original_model(str(tmp_path), "net")
    fixed = Model.load(str(tmp_path / "net.fixed.json"), str(tmp_path / "net.fixed.params"))
    fixed.prepare((1, 2))


def test_several_inputs_are_refused():
    symbol = mx.sym.Group([mx.sym.relu(mx.sym.var("a"), name="r"), mx.sym.relu(mx.sym.var("b"), name="s")])
    with pytest.raises(ModelError, match="one input, found 2: a, b"):
        Model(symbol, {}).prepare((1, 2))
