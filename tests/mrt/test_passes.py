"""Preparation: the rewritten network computes what the original did, and what cannot be prepared is named."""
import nets
import numpy as np
import pytest

import cvm_runtime as cvm
from mrt import sim_quant_helper as sim
from mrt.compiler import compile_graph
from mrt.errors import ModelError, StateError, UnsupportedError
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
    x = mx.sym.cos(x, name="squash")
    x = mx.sym.Pooling(x, kernel=(2, 2), pool_type="lp", p_value=2, name="mean")
    x = mx.sym.sin(x, name="wave")
    with pytest.raises(UnsupportedError) as error:
        Model(x, {}).prepare((1, 2, 4, 4))
    text = str(error.value)
    assert "3 nodes" in text
    for part in ("squash (cos)", "mean (Pooling): pool_type=lp", "wave (sin)"):
        assert part in text
    assert isinstance(error.value, NotImplementedError)


@pytest.mark.parametrize("width, no_bias, layers", [(32767, False, 1), (32768, False, 2), (32768, True, 2), (70000, True, 3)])
def test_wide_dense_layers_are_taken_in_parts(width, no_bias, layers):
    symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, no_bias=no_bias, name="wide")
    model, x = nets.model(symbol, (1, width)), nets.batch((1, width))
    before = nets.run(model, x)[0]
    model.prepare((1, width))
    np.testing.assert_allclose(nets.run(model, x)[0], before, rtol=1e-4, atol=1e-2)
    assert sum(node.op == "FullyConnected" for node in model.graph.topological()) == layers
    assert model.output_names() == ["wide"]
    assert all(np.prod(value.shape[1:]) < 2 ** 15 for value in model.graph.params.values())


@pytest.mark.parametrize("build", [
    lambda x: mx.sym.Convolution(x, kernel=(3, 3), num_filter=2, name="many"),
    lambda x: mx.sym.Deconvolution(x, kernel=(3, 3), num_filter=2, stride=(2, 2), name="many"),
    lambda x: mx.sym.Convolution(mx.sym.Reshape(x, shape=(0, 0, -1)), kernel=(9,), num_filter=2, no_bias=True, name="many")])
def test_convolutions_of_many_channels_are_taken_in_parts(build):
    model, x = nets.model(build(mx.sym.var("data")), (1, 9000, 3, 3)), nets.batch((1, 9000, 3, 3))
    before = nets.run(model, x)[0]
    model.prepare((1, 9000, 3, 3))
    np.testing.assert_allclose(nets.run(model, x)[0], before, rtol=1e-4, atol=1e-2)
    assert sum(node.op == "Convolution" for node in model.graph.topological()) == 3
    assert model.output_names() == ["many"]


@pytest.mark.parametrize("shape, message", [((1, 1, -1), "positive integers"), ((1, 3), "does not|do not|shape"),
                                            ((), "does not say which shape its input data has; give it"),
                                            ((1, 2, 5, 5), "shape")])
def test_bad_input_shapes(shape, message):
    model = nets.model(nets.conv(mx.sym.var("data"), "c", num_filter=2), (1, 1, 5, 5))
    with pytest.raises(ModelError, match=message):
        model.prepare(shape)


def test_a_network_with_unique_names_is_written(tmp_path):
    data = mx.sym.var("data")
    model = Model(mx.sym.relu(mx.sym.relu(data, name="same"), name="same"), {})
    model.fix_original_model(str(tmp_path), "net")
    fixed = Model.load(str(tmp_path / "net.fixed.json"), str(tmp_path / "net.fixed.params"))
    assert fixed.output_names() == ["same_0"]
    fixed.prepare((1, 2))


@pytest.mark.parametrize("head, attrs, function", [
    ("SoftmaxOutput", {}, lambda y: mx.nd.softmax(y)), ("LinearRegressionOutput", {}, lambda y: y),
    ("LogisticRegressionOutput", {}, lambda y: y.sigmoid()), ("MAERegressionOutput", {}, lambda y: y),
    ("SoftmaxOutput", {"preserve_shape": True}, lambda y: mx.nd.softmax(y))])
def test_training_heads_become_predictions(head, attrs, function, tmp_path):
    y = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc")
    before = nets.model(y, (4, 5))
    x = nets.batch((4, 5))
    wanted = function(before.to_graph()(x)).asnumpy()
    model = Model(getattr(mx.sym, head)(y, mx.sym.var("label"), name="head", **attrs), before.params)
    np.testing.assert_allclose(nets.run(model, x)[0], wanted, rtol=1e-6)
    getattr(mx.sym, head)(y, name="head", **attrs).save(str(tmp_path / "net.json"))
    mx.nd.save(str(tmp_path / "net.params"), {f"arg:{name}": value for name, value in before.params.items()})
    model = Model.load(str(tmp_path / "net.json"), str(tmp_path / "net.params"))
    model.prepare((4, 5))
    np.testing.assert_allclose(nets.run(model, x)[0], wanted, rtol=1e-6)
    assert not {"SoftmaxOutput", "Flatten", "Reshape"} & {node.op for node in model.graph.topological()}


def test_softmax_output_over_channels_and_over_everything():
    x = nets.batch((2, 3, 4, 4))
    for attrs, wanted in (({"multi_output": True}, mx.nd.softmax(x, axis=1)),
                          ({}, mx.nd.softmax(x.reshape((2, -1))).reshape(x.shape))):
        model = Model(mx.sym.SoftmaxOutput(mx.sym.var("data"), name="head", **attrs), {})
        model.prepare(x.shape)
        np.testing.assert_allclose(nets.run(model, x)[0], wanted.asnumpy(), rtol=1e-5)


def test_above_the_keys_any_operator_may_stand():
    x = nets.conv(mx.sym.var("data"), "c", num_filter=2)
    y = mx.sym.slice_axis(mx.sym.sin(mx.sym.relu(x, name="cut"), name="wave"), axis=1, begin=0, end=1, name="part")
    with pytest.raises(UnsupportedError, match=r"wave \(sin\).*split the network before it"):
        nets.model(y, (1, 1, 5, 5)).prepare((1, 1, 5, 5))
    model, data = nets.model(y, (1, 1, 5, 5)), nets.batch((1, 1, 5, 5))
    before = nets.run(model, data)
    model.prepare((1, 1, 5, 5), ["cut"])
    np.testing.assert_allclose(nets.run(model, data), before, rtol=1e-6)
    base, top = model.split(["cut"])
    assert [node.op for node in top.graph.topological()] == ["null", "sin", "slice"]
    mrt = base.get_mrt()
    mrt.set_data(data)
    mrt.calibrate()
    mrt.quantize()
    with pytest.raises(UnsupportedError, match="wave"):
        nets.model(y, (1, 1, 5, 5)).prepare((1, 1, 5, 5), ["wave"])


def test_operators_of_constants_are_computed():
    x = mx.sym.broadcast_add(mx.sym.var("data"), mx.sym.Reshape(mx.sym.arange(0, 8, 2), shape=(1, 4)))
    x = mx.sym.broadcast_mul(x, mx.sym.sin(mx.sym.ones(shape=(1, 4)) + mx.sym.zeros(shape=(1, 4))))
    model = Model(x, {})
    model.prepare((2, 4))
    assert sorted(node.op for node in model.graph.topological()) == ["broadcast_add", "broadcast_mul", "null", "null", "null"]
    data = nets.batch((2, 4))
    np.testing.assert_allclose(nets.run(model, data)[0], (data.asnumpy() + [0, 2, 4, 6]) * np.sin(1), rtol=1e-6)


def test_several_inputs_become_one():
    a, b, c = (mx.sym.var(name) for name in ("a", "data", "c"))
    symbol = mx.sym.concat(mx.sym.relu(a), b, a * c, dim=1)
    model, shapes = Model(symbol, {}), {"a": (2, 3), "data": (2, 4), "c": (2, 3)}
    real = [nets.batch(shapes[name], k) for k, name in enumerate(model.input_names())]
    assert model.input_names() == ["a", "data", "c"]
    wanted = model.to_graph()(*real).asnumpy()
    model.prepare(shapes)
    assert [(node.tuple("begin"), node.tuple("end")) for node in model.graph.topological() if node.op == "slice"] == [
        ((0,), (6,)), ((6,), (14,)), ((14,), (20,))]
    flat = mx.nd.concat(*[part.reshape((-1,)) for part in real], dim=0)
    np.testing.assert_array_equal(nets.run(model, flat)[0], wanted)
    mrt = model.get_mrt()
    mrt.set_data(flat)
    mrt.calibrate()
    integers = mrt.quantize()
    codes = sim.load_real_data(flat, "data", mrt.get_inputs_ext())
    simulated = nets.run(integers, codes)[0]
    assert abs(simulated / mrt.get_output_scales()[0] - wanted).max() < 0.1
    symbol, params = compile_graph(integers.graph)
    found = cvm.load(symbol.encode(), params).run(codes.asnumpy().astype(np.int32))[0]
    np.testing.assert_array_equal(found, simulated)
    with pytest.raises(ModelError, match=r"of data must be .* found \(2, -1\)"):
        Model(mx.sym.broadcast_add(a, b), {}).prepare({"a": (2, 3), "data": (2, -1)})


def test_several_inputs_are_refused():
    symbol = mx.sym.Group([mx.sym.relu(mx.sym.var("a"), name="r"), mx.sym.relu(mx.sym.var("b"), name="s")])
    with pytest.raises(ModelError, match="one input, found 2: a, b"):
        Model(symbol, {}).prepare((1, 2))


def with_label():
    """A layer `fc`, which nodes that need a label follow; and what needs neither."""
    data, label = mx.sym.var("data"), mx.sym.var("label")
    fc = mx.sym.FullyConnected(data, num_hidden=4, name="fc")
    chosen = mx.sym.one_hot(mx.sym.Reshape(mx.sym.slice_axis(label, axis=1, begin=0, end=1), shape=(-1,)), depth=4)
    loss = mx.sym.sum(mx.sym.log_softmax(fc) * chosen, name="loss")
    return mx.sym.Group([fc, loss, mx.sym.sin(mx.sym.BatchNorm(fc, name="bn"), name="wave")])


@pytest.mark.parametrize("shape", [(2, 6), {"data": (2, 6)}])
def test_inputs_that_only_nodes_above_the_keys_need_are_left_to_them(shape):
    rng = np.random.default_rng(0)
    sizes = {"fc_weight": (4, 6), "fc_bias": 4, "bn_gamma": 4, "bn_beta": 4, "bn_moving_mean": 4, "bn_moving_var": 4}
    model = Model(with_label(), {name: np.abs(rng.normal(size=size)).astype(np.float32) for name, size in sizes.items()})
    x = nets.batch((2, 6))
    wanted = [v.asnumpy() for v in model.to_graph()(x, mx.nd.array([[1, 0], [3, 0]]))]
    with pytest.raises(ModelError, match="one input, found 2: data, label"):
        Model(model.symbol, model.params).prepare(shape)
    with pytest.raises(ModelError, match="one input, found 2: data, label"):
        Model(model.symbol, model.params).prepare(shape, ["loss"])
    model.prepare(shape, ["fc"])
    assert model.input_names() == ["data", "label"]
    with pytest.raises(StateError, match=r"other inputs than data: label; Model\.split it"):
        model.get_mrt()
    base, top = model.split(["fc"])
    assert base.input_names() == ["data"] and sorted(top.input_names()) == ["fc", "label"]
    mrt = base.get_mrt()
    mrt.set_data(x)
    mrt.calibrate()
    integers = mrt.quantize()
    assert abs(nets.run(integers, mx.nd.array(np.rint(x.asnumpy() * mrt.scales["data"])))[0]
               / mrt.get_output_scales()[0] - wanted[0]).max() < 0.1
    parts = {"fc": mx.nd.array(wanted[0]), "label": mx.nd.array([[1, 0], [3, 0]])}
    for found, value in zip(top.to_graph()(*(parts[name] for name in top.input_names())), wanted):
        np.testing.assert_allclose(found.asnumpy(), value, rtol=1e-5, atol=1e-5)


def test_several_inputs_below_the_keys_become_one():
    a, b, label = (mx.sym.var(name) for name in ("a", "b", "label"))
    symbol = mx.sym.sin(mx.sym.elemwise_add(a, b, name="sum") + label)
    model = Model(symbol, {})
    model.prepare({"a": (2, 3), "b": (2, 3)}, ["sum"])
    assert model.input_names() == ["data", "label"]
    base, _ = model.split(["sum"])
    np.testing.assert_array_equal(nets.run(base, mx.nd.arange(12))[0], np.arange(6).reshape(2, 3) * 2 + 6)
    model = Model(symbol, {})
    model.prepare({"a": (2, 3), "b": (2, 3), "label": (2, 3)}, ["sum"])
    assert model.input_names() == ["data"]


@pytest.mark.parametrize("build", [
    lambda w: mx.sym.contrib.div_sqrt_dim(w), lambda w: mx.sym.contrib.BilinearResize2D(w, height=4, width=4),
    lambda w: mx.sym.linalg.gemm2(w, w)])
def test_constants_of_operators_with_prefixes_are_folded(build):
    w = np.random.default_rng(0).normal(size=(1, 1, 4, 4))
    model = nets.model(mx.sym.broadcast_add(mx.sym.var("data"), build(mx.sym.var("w", shape=w.shape))), (2, 3, 4, 4), w=w)
    x = nets.batch((2, 3, 4, 4))
    wanted = nets.run(model, x)[0]
    model.prepare((2, 3, 4, 4))
    assert [node.op for node in model.graph.topological()] == ["null", "null", "broadcast_add"]
    np.testing.assert_allclose(nets.run(model, x)[0], wanted, rtol=1e-6)


def test_constants_of_operators_that_cannot_be_computed_are_named():
    w = mx.sym.var("w", shape=(1, 4)).as_np_ndarray()
    model = nets.model(mx.sym.broadcast_add(mx.sym.var("data"), mx.sym.np.sin(w).as_nd_ndarray()), (2, 4))
    with pytest.raises(UnsupportedError, match=r"\(_npi_sin\): the operator is not supported"):
        model.prepare((2, 4))
