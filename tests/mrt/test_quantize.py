"""The integer network: near the float one by the bound its scales imply, and the same bits in simulation and runtime."""
import json

import nets
import numpy as np
import pytest

import cvm_runtime as cvm
from mrt import sim_quant_helper as sim
from mrt.compiler import compile_graph
from mrt.errors import MRTError, StateError
from mrt.execute import infer_shapes, to_block
from mrt.mxnet_bridge import mx
from mrt.quantization.quantize import Quantizer, two_parts
from mrt.transformer import MRT, Model, ModelSpliter, reduce_graph


def quantized(model, shape, x, output_prec=8, **thresholds):
    model.prepare(shape)
    mrt = model.get_mrt()
    mrt.set_data(x)
    mrt.calibrate()
    for name, value in thresholds.items():
        mrt.set_threshold(name, value)
    if output_prec:
        mrt.set_output_prec(output_prec)
    mrt.quantize()
    return mrt


def integers(mrt, x):
    """The outputs simulated, on the reference executor and on the CPU with 1 and 2 threads: one answer."""
    codes = sim.load_real_data(x, "data", mrt.get_inputs_ext())
    simulated = nets.run(mrt.current_model, codes)
    symbol, params = compile_graph(mrt.current_model.graph, x.shape)
    for ctx in (cvm.formal(), cvm.cpu(threads=1), cvm.cpu(threads=2)):
        ran = cvm.load(symbol.encode(), params, ctx=ctx).run(codes.asnumpy().astype(np.int32))
        assert len(ran) == len(simulated)
        for a, b in zip(ran, simulated):
            np.testing.assert_array_equal(a, b.astype(np.int64))
    return simulated


def snr(real, approximate):
    return 10 * np.log10((real ** 2).sum() / ((real - approximate) ** 2).sum())


def test_small_networks():
    """Eight-bit noise: a signal-to-noise ratio around 33 dB, less where a random network happens to cancel."""
    found = []
    for seed in range(9):
        model = nets.model(nets.small_net(), nets.SMALL_SHAPE, seed)
        x = nets.batch(nets.SMALL_SHAPE, seed + 100)
        real = nets.run(model, x)[0]
        mrt = quantized(model, nets.SMALL_SHAPE, x)
        codes = integers(mrt, x)[0]
        assert abs(codes).max() <= 127
        found.append(snr(real, codes / mrt.get_output_scales()[0]))
    assert min(found) > 20 and np.median(found) > 30


LAYERS = {
    "conv": lambda x: nets.conv(x, "y", num_filter=5, stride=(2, 1), pad=(1, 0), dilate=(1, 2)),
    "conv_no_bias": lambda x: nets.conv(x, "y", num_filter=5, no_bias=True),
    "grouped": lambda x: nets.conv(x, "y", num_filter=8, num_group=4),
    "depthwise": lambda x: nets.conv(x, "y", num_filter=4, num_group=4, no_bias=True),
    "dense": lambda x: mx.sym.FullyConnected(x, num_hidden=7, name="y"),
    "dense_of_rows": lambda x: mx.sym.FullyConnected(x, num_hidden=7, flatten=False, no_bias=True, name="y"),
    "batch_norm": lambda x: mx.sym.BatchNorm(x, name="y", fix_gamma=False),
    "pool": lambda x: mx.sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pooling_convention="full", name="y"),
    "relu": lambda x: mx.sym.relu(x, name="y"),
    "flatten": lambda x: mx.sym.Flatten(x, name="y"),
    "reshape": lambda x: mx.sym.Reshape(x, shape=(0, 2, -1), name="y"),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("seed", range(3))
def test_one_layer_within_the_bound_its_scales_imply(layer, seed):
    shape = (2, 4, 9, 8)
    model = nets.model(LAYERS[layer](mx.sym.var("data")), shape, seed)
    x = nets.batch(shape, seed + 10)
    real = nets.run(model, x)[0]
    mrt = quantized(model, shape, x, output_prec=None)
    found = integers(mrt, x)[0] / mrt.get_output_scales()[0]
    # each operand is off by half a step; sums of products with |x| <= X, |w| <= W over k terms by k (X/2s_w + W/2s_x + ..)
    s_x = mrt.scales["data"]
    bound = 0.5 / s_x
    weights = [v for n, v in model.graph.params.items() if n.endswith(("weight", "weight_0"))]
    if weights:
        w = np.abs(weights[0]).reshape(len(weights[0]), -1)
        s_w = 127 / w.max(axis=1)
        bound = (w.sum(axis=1) / (2 * s_x) + abs(x.asnumpy()).max() * w.shape[1] / (2 * s_w) + w.shape[1] / (4 * s_x * s_w)
                 + 1 / (s_x * s_w)).max()
    for name, value in model.graph.params.items():
        if "factor" in name:  # of a batch normalization
            bound *= np.abs(value).max()
    bound += 1.1 / mrt.get_output_scales()[0] + abs(real).max() * 2.0 ** -11
    assert abs(found - real).max() <= bound
    assert bound < abs(real).max()  # the bound says something


def test_tiny_weights_with_a_real_bias_stay_inside_32_bits():
    symbol = nets.conv(mx.sym.var("data"), "y", num_filter=3)
    weight = np.ones((3, 2, 3, 3)) * np.array([1e-20, 0, 1.0]).reshape(3, 1, 1, 1)
    model = nets.model(symbol, (1, 2, 5, 5), y_weight=weight, y_bias=[0.7, -0.3, 0.1])
    x = nets.batch((1, 2, 5, 5))
    real = nets.run(model, x)[0]
    mrt = quantized(model, (1, 2, 5, 5), x, output_prec=16)
    found = integers(mrt, x)[0] / mrt.get_output_scales()[0]
    np.testing.assert_allclose(found, real, atol=0.02 * abs(real).max())


def test_a_tensor_that_was_always_zero():
    x = mx.sym.relu(nets.conv(mx.sym.var("data"), "c", num_filter=2), name="r")
    symbol = mx.sym.FullyConnected(x, num_hidden=2, name="fc")
    model = nets.model(symbol, (1, 1, 4, 4), c_bias=[-1e3, -1e3])
    mrt = quantized(model, (1, 1, 4, 4), nets.batch((1, 1, 4, 4)))
    found = integers(mrt, nets.batch((1, 1, 4, 4), 5))[0] / mrt.get_output_scales()[0]
    np.testing.assert_allclose(found, nets.run(model, nets.batch((1, 1, 4, 4)))[0], atol=0.02)


@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16, 24])
def test_output_precision_is_kept(bits):
    model, x = nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.batch(nets.SMALL_SHAPE)
    mrt = quantized(model, nets.SMALL_SHAPE, x, output_prec=bits)
    codes = integers(mrt, x)[0]
    limit = 2 ** (bits - 1) - 1
    assert abs(codes).max() <= limit
    if bits <= 16:
        assert abs(codes).max() > limit * 0.8 - 1


@pytest.mark.parametrize("bits", [4, 8])
def test_input_precision(bits):
    model, x = nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.batch(nets.SMALL_SHAPE)
    model.prepare(nets.SMALL_SHAPE)
    mrt = model.get_mrt()
    mrt.set_input_prec(bits)
    mrt.set_data(x)
    mrt.calibrate()
    mrt.quantize()
    assert mrt.get_inputs_ext()["data"]["target_bit"] == bits
    integers(mrt, x)


def test_two_outputs():
    x = nets.conv(mx.sym.var("data"), "c", num_filter=4)
    symbol = mx.sym.Group([mx.sym.relu(x, name="a"), mx.sym.FullyConnected(x, num_hidden=3, name="b")])
    model, x = nets.model(symbol, (1, 2, 6, 6)), nets.batch((1, 2, 6, 6))
    real = nets.run(model, x)
    mrt = quantized(model, (1, 2, 6, 6), x)
    for codes, scale, wanted in zip(integers(mrt, x), mrt.get_output_scales(), real):
        assert snr(wanted, codes / scale) > 30
    assert list(mrt.get_maps().values()) == ["a", "b"]


def test_restored_nodes_compute_in_float_and_do_not_compile():
    model, x = nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.batch(nets.SMALL_SHAPE)
    real = nets.run(model, x)[0]
    model.prepare(nets.SMALL_SHAPE)
    found = {}
    for restore in (False, True):
        mrt = model.get_mrt()
        mrt.set_data(x)
        mrt.calibrate()
        for node in model.graph.topological():
            if restore and not node.is_variable:
                mrt.set_restore(node.name)
        mrt.quantize()
        codes = nets.run(mrt.current_model, sim.load_real_data(x, "data", mrt.get_inputs_ext()))[0]
        found[restore] = snr(real, codes / mrt.get_output_scales()[0])
    assert found[True] > found[False] + 3
    with pytest.raises(MRTError, match="restored"):
        compile_graph(mrt.current_model.graph)
    mrt = model.get_mrt()
    mrt.set_data(x)
    mrt.calibrate()
    for name, message in (("nowhere", "no such node"), ("data", "nothing is computed"), ("c1_weight", "nothing is computed")):
        with pytest.raises(MRTError, match=message):
            mrt.set_restore(name)


def test_states():
    model = nets.model(nets.small_net(), nets.SMALL_SHAPE)
    with pytest.raises(StateError, match="prepare"):
        Model(mx.sym.relu(mx.sym.var("image")), {}).get_mrt()
    model.prepare(nets.SMALL_SHAPE)
    mrt = model.get_mrt()
    for method in (mrt.quantize, mrt.get_output_scales, mrt.get_inputs_ext):
        with pytest.raises(StateError):
            method()
    with pytest.raises(MRTError, match="output_precision is 33, expected an integer from 2 to 32"):
        mrt.set_output_prec(33)
    mrt.set_data(nets.batch(nets.SMALL_SHAPE))
    mrt.calibrate()
    mrt.quantize()
    for method in (mrt.quantize, mrt.calibrate):
        with pytest.raises(StateError, match="already"):
            method()
    with pytest.raises(StateError, match="quantized already"):
        mrt.current_model.prepare(nets.SMALL_SHAPE)
    with pytest.raises(MRTError, match="cannot be simulated in float32"):
        mrt.current_model.to_graph(dtype="float32")


def test_a_float_model_does_not_compile(tmp_path):
    model = nets.model(nets.small_net(), nets.SMALL_SHAPE)
    with pytest.raises(MRTError, match="only a quantized model"):
        model.to_cvm("net", str(tmp_path), input_shape=nets.SMALL_SHAPE)
    assert not list(tmp_path.iterdir())


TECHNIQUES = [{}, {"weight_granularity": "tensor"}, {"full_range": False}, {"equalize": False}, {"clip_inputs": False},
              {"bias_correction": "none"}, {"bias_correction": "empirical"}, {"rounding": "adaptive"},
              {"two_part_budget": 0}, {"two_part_budget": 1},
              {"rounding": "adaptive", "bias_correction": "none", "equalize": False, "weight_granularity": "tensor"},
              {"weight_granularity": "tensor", "full_range": False, "equalize": False, "clip_inputs": False,
               "bias_correction": "none", "two_part_budget": 0}]


@pytest.mark.parametrize("techniques", TECHNIQUES, ids=lambda t: ",".join(t) or "default")
def test_every_technique_is_exact_with_and_without(techniques):
    model, x = nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.batch(nets.SMALL_SHAPE)
    real = nets.run(model, x)[0]
    model.prepare(nets.SMALL_SHAPE)
    mrt = model.get_mrt()
    mrt.set_techniques(**techniques)
    mrt.set_data(x)
    mrt.calibrate()
    mrt.quantize()
    assert snr(real, integers(mrt, x)[0] / mrt.get_output_scales()[0]) > 15


def test_unknown_techniques_are_refused():
    model = nets.model(nets.small_net(), nets.SMALL_SHAPE)
    model.prepare(nets.SMALL_SHAPE)
    with pytest.raises(MRTError, match="no technique is called magic; known are weight_granularity"):
        model.get_mrt().set_techniques(magic=True)
    with pytest.raises(MRTError, match=r"weight_granularity is 'pixel', expected 'channel'"):
        model.get_mrt().set_techniques(weight_granularity="pixel")
    with pytest.raises(MRTError, match="bias_correction is True, expected 'none' or 'analytic' or 'empirical'"):
        model.get_mrt().set_techniques(bias_correction=True)
    with pytest.raises(MRTError, match="rounding is 'best', expected 'nearest' or 'adaptive'"):
        model.get_mrt().set_techniques(rounding="best")


def test_channels_of_very_different_ranges_get_scales_of_their_own():
    """A layer's input whose channels differ a hundredfold: equalized, the small ones keep their detail."""
    data = nets.conv(mx.sym.var("data"), "c", num_filter=8, kernel=(1, 1))
    symbol = nets.conv(mx.sym.relu(data, name="r"), "d", num_filter=8, kernel=(1, 1), no_bias=True)
    sizes = np.array([1, 1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01])
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 4, 1, 1)) * sizes.reshape(8, 1, 1, 1)
    second = rng.normal(size=(8, 8, 1, 1)) / sizes.reshape(1, 8, 1, 1)
    x, found = nets.batch((4, 4, 9, 9)), {}
    for equalize in (False, True):
        model = nets.model(symbol, x.shape, c_weight=weight, c_bias=np.zeros(8), d_weight=second)
        real = nets.run(model, x)[0]
        model.prepare(x.shape)
        mrt = model.get_mrt()
        mrt.set_techniques(equalize=equalize)
        mrt.set_data(x)
        mrt.calibrate()
        mrt.quantize()
        found[equalize] = snr(real, integers(mrt, x)[0] / mrt.get_output_scales()[0])
    assert found[True] > found[False] + 10


@pytest.mark.parametrize("layer", ["conv", "conv_no_bias", "grouped", "depthwise", "dense"])
@pytest.mark.parametrize("bits", [10, 12, 15])
def test_a_layer_may_take_its_input_in_two_parts(layer, bits):
    shape = (2, 4, 9, 8)
    x, found = nets.batch(shape), {}
    for precision in (8, bits):
        model = nets.model(LAYERS[layer](mx.sym.var("data")), shape)
        real = nets.run(model, x)[0]
        model.prepare(shape)
        mrt = model.get_mrt()
        mrt.set_input_prec(16)
        mrt.set_operand_prec("y", precision)
        mrt.set_data(x)
        mrt.calibrate()
        mrt.set_output_prec(16)
        mrt.quantize()
        found[precision] = snr(real, integers(mrt, x)[0] / mrt.get_output_scales()[0])
    assert found[bits] > found[8] + 0.5


@pytest.mark.parametrize("layer", ["conv", "conv_no_bias", "grouped", "depthwise", "dense"])
def test_a_layer_may_take_its_weights_in_two_parts(layer):
    shape = (2, 4, 9, 8)
    x, found = nets.batch(shape), {}
    model = nets.model(LAYERS[layer](mx.sym.var("data")), shape)
    model.prepare(shape)
    mrt = model.get_mrt()
    mrt.set_data(x)
    mrt.calibrate()
    graph, scale = model.graph, 127 / mrt.th_dict["data"]
    codes = sim.load_real_data(x, "data", {"data": {"scale": scale, "target_bit": 8}})
    exact = nets.run(model, codes / scale)[0]
    for parts in ({}, {graph.find("y"): "weight"}):
        result = Quantizer(graph, infer_shapes(graph), mrt.th_dict, mrt.channels, mrt.quantizer()[1], parts=parts).run()
        output = Model.of(result.graph).to_graph()(codes.astype("float64")).asnumpy()
        found[bool(parts)] = snr(exact, output / result.outputs[0].scale)
    assert found[True] > found[False] + 10


def test_layers_in_two_parts_stay_within_the_budget_and_come_where_the_noise_is():
    """Two layers of equal cost: the one whose errors the rest of the network amplifies is taken first."""
    x = mx.sym.relu(nets.conv(mx.sym.var("data"), "a", num_filter=4, kernel=(1, 1)))
    x = mx.sym.relu(nets.conv(x, "b", num_filter=4, kernel=(1, 1)))
    symbol, shape = nets.conv(x, "c", num_filter=4, kernel=(1, 1)), (2, 4, 6, 6)
    model = nets.model(symbol, shape)
    model.prepare(shape)
    mrt = model.get_mrt()
    mrt.set_data(nets.batch(shape))
    mrt.calibrate()
    graph, loud = model.graph, {}
    for name, known in mrt.sensitivities.items():
        loud[name] = [type(one)(*(v * (1e4 if name == "b" else 1e-4) for v in one)) for one in known]
    facts = graph, infer_shapes(graph), mrt.th_dict, mrt.channels
    for budget, expected in ((0, set()), (0.3, set()), (0.34, {"b"}), (1, {"b"})):
        options = mrt.quantizer()[1]._replace(two_part_budget=budget)
        assert {node.name for node in two_parts(*facts, options, loud)} == expected
    assert two_parts(*facts, mrt.quantizer()[1], {}) == {}


def test_two_parts_of_a_bad_layer_or_width_are_refused():
    model = nets.model(nets.small_net(), nets.SMALL_SHAPE)
    model.prepare(nets.SMALL_SHAPE)
    for layer, bits, message in (("r1", 12, "no Convolution"), ("nowhere", 12, "no Convolution"), ("c1", 16, "from 2 to 15")):
        with pytest.raises(MRTError, match=message):
            model.get_mrt().set_operand_prec(layer, bits)


# --- checkpoints

@pytest.mark.parametrize("when", ["calibrated", "quantized"])
def test_saved_and_loaded_in_between(tmp_path, when):
    model, x = nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.batch(nets.SMALL_SHAPE)
    model.prepare(nets.SMALL_SHAPE)
    results = []
    for save in (False, True):
        mrt = model.get_mrt()
        mrt.set_data(x)
        mrt.calibrate()
        mrt.set_output_prec(8)
        if when == "calibrated" and save:
            mrt.save("net.mrt", str(tmp_path))
            mrt = MRT.load("net.mrt", str(tmp_path))
        mrt.quantize()
        if when == "quantized" and save:
            mrt.save("net.mrt", str(tmp_path))
            mrt = MRT.load("net.mrt", str(tmp_path))
        results.append((compile_graph(mrt.current_model.graph), mrt.get_output_scales(), mrt.get_inputs_ext(), mrt.get_maps()))
    assert results[0] == results[1]


def test_a_loaded_quantizer_goes_on_calibrating(tmp_path):
    model = nets.model(nets.small_net(), nets.SMALL_SHAPE)
    model.prepare(nets.SMALL_SHAPE)
    x, y = nets.batch(nets.SMALL_SHAPE, 1), nets.batch(nets.SMALL_SHAPE, 2)
    through, broken = model.get_mrt(), model.get_mrt()
    for data in (x, y):
        through.set_data(data)
        through.calibrate()
        broken.set_data(data)
        broken.calibrate()
        broken.save("net", str(tmp_path))
        broken = MRT.load("net", str(tmp_path))
    assert broken.th_dict == through.th_dict


def test_ext_files_of_the_original_load(tmp_path):
    model, x = nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.batch(nets.SMALL_SHAPE)
    mrt = quantized(model, nets.SMALL_SHAPE, x)
    mrt.save("net", str(tmp_path))
    lines = (tmp_path / "net.ext").read_text().splitlines()
    assert len(lines) == 5 and json.loads(lines[0]) == ["fc1"]
    (tmp_path / "net.ext").write_text("\n".join(lines[:4]) + "\n")
    assert MRT.load("net", str(tmp_path)).get_output_scales() == mrt.get_output_scales()
    (tmp_path / "net.ext").write_text(lines[0] + "\n")
    with pytest.raises(MRTError, match="1 lines"):
        MRT.load("net", str(tmp_path))
    (tmp_path / "net.ext").write_text(lines[0][:3])
    with pytest.raises(MRTError, match=r"net\.ext is damaged"):
        MRT.load("net", str(tmp_path))


def test_an_integer_symbol_also_runs_in_mxnet_as_it_is():
    model, x = nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.batch(nets.SMALL_SHAPE)
    mrt = quantized(model, nets.SMALL_SHAPE, x)
    codes = sim.load_real_data(x, "data", mrt.get_inputs_ext())
    direct = to_block(mrt.current_model.graph, "float64")(codes.astype("float64")).asnumpy()
    np.testing.assert_array_equal(direct, nets.run(mrt.current_model, codes)[0])


# --- files

def test_the_same_input_gives_the_same_bytes_and_nothing_is_left_over(tmp_path):
    written = []
    for folder in ("a", "b"):
        model, x = nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.batch(nets.SMALL_SHAPE)
        mrt = quantized(model, nets.SMALL_SHAPE, x)
        result = mrt.current_model.to_cvm("net", str(tmp_path / folder), input_shape=(1,) + nets.SMALL_SHAPE[1:])
        assert sorted(p.name for p in (tmp_path / folder / "net").iterdir()) == ["params", "symbol"]
        written.append(tuple((tmp_path / folder / "net" / name).read_bytes() for name in ("symbol", "params")))
        assert written[-1] == (result[0].encode(), result[1])
    assert written[0] == written[1]


def test_an_output_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "taken").write_text("")
    mrt = quantized(nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.SMALL_SHAPE, nets.batch(nets.SMALL_SHAPE))
    with pytest.raises(OSError):
        mrt.current_model.to_cvm("net", str(tmp_path / "taken"))
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_another_batch_size():
    x = nets.batch((7,) + nets.SMALL_SHAPE[1:])
    mrt = quantized(nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.SMALL_SHAPE, nets.batch(nets.SMALL_SHAPE))
    reduced = reduce_graph(mrt.current_model, {"data": x.shape})
    codes = sim.load_real_data(x, "data", mrt.get_inputs_ext())
    seven = nets.run(reduced, codes)[0]
    symbol, params = compile_graph(reduced.graph, (1,) + nets.SMALL_SHAPE[1:])
    one = cvm.load(symbol.encode(), params)
    for i in range(7):
        np.testing.assert_array_equal(one.run(codes[i:i + 1].asnumpy().astype(np.int32))[0][0], seven[i])


# --- split and merge

def split_net():
    x = mx.sym.relu(nets.conv(mx.sym.var("data"), "c", num_filter=4), name="r")
    return mx.sym.Flatten(mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), name="p"), name="f")


def test_split_and_merge_give_the_whole_again():
    shape = (1, 2, 8, 8)
    x = nets.batch(shape)
    whole = quantized(nets.model(split_net(), shape), shape, x, p=1.5, output_prec=8)
    model = nets.model(split_net(), shape)
    model.prepare(shape)
    base, top = ModelSpliter(model, ["p"]).split()
    assert base.output_names() == ["p"] and top.input_names() == ["p"] and not top.graph.params
    mrt = base.get_mrt()
    mrt.set_data(x)
    mrt.calibrate()
    mrt.set_threshold("p", 1.5)
    mrt.set_output_prec(8)
    quantized_base = mrt.quantize()
    merger = Model.merger(quantized_base, top, mrt.get_maps())
    seen = []
    merged = merger.merge(callback=lambda node, params, graph: seen.append(node.name) or node)
    assert "f" in seen
    codes = sim.load_real_data(x, "data", mrt.get_inputs_ext())
    np.testing.assert_array_equal(nets.run(merged, codes)[0], nets.run(whole.current_model, codes)[0])
    np.testing.assert_array_equal(integers_of(merged, codes), nets.run(merged, codes)[0])
    assert merger.get_output_scales(mrt.get_output_scales(), {"f": "p"}) == mrt.get_output_scales()
    assert merger.get_output_scales(mrt.get_output_scales(), {"f": "None"}) == [1]
    with pytest.raises(MRTError, match="the outputs are f"):
        merger.get_output_scales(mrt.get_output_scales(), {"g": "p"})
    with pytest.raises(MRTError, match="q is no output of the base"):
        merger.get_output_scales(mrt.get_output_scales(), {"f": "q"})


def integers_of(model, codes):
    symbol, params = compile_graph(model.graph)
    return cvm.load(symbol.encode(), params).run(codes.asnumpy().astype(np.int32))[0]


@pytest.mark.parametrize("keys, message", [("p", "list of names"),
                                           (["p", "p"], "twice: p"), (["q"], "no such node.*q"), ([], "no keys")])
def test_bad_split_keys(keys, message):
    model = nets.model(split_net(), (1, 2, 8, 8))
    model.prepare((1, 2, 8, 8))
    with pytest.raises(MRTError, match=message):
        model.split(keys)


@pytest.mark.parametrize("preset", ["default", "original"])
@pytest.mark.parametrize("bits", [None, 8, 30])
def test_constants_as_outputs(preset, bits):
    """Anchors, and whatever else does not depend on the input: computed once, and as fine as an output is."""
    anchors, x = np.random.default_rng(0).normal(size=(1, 10, 4)), nets.batch((2, 6))
    boxes = mx.sym.var("anchors", shape=(1, 10, 4))
    symbol = mx.sym.Group([mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="fc"),
                           boxes * 3.0, boxes, mx.sym.zeros((1, 2))])
    model = nets.model(symbol, (2, 6), anchors=anchors)
    model.prepare((2, 6))
    mrt = model.get_mrt()
    mrt.set_preset(preset)
    mrt.set_data(x)
    mrt.calibrate()
    if bits:
        for name in mrt.old_names[1:]:
            mrt.precs[name][name] = bits
    mrt.quantize()
    assert [mrt.get_maps()[name] for name in mrt.current_model.output_names()] == mrt.old_names
    outputs, scales = integers(mrt, x), mrt.get_output_scales()
    for found, scale, wanted in zip(outputs[1:], scales[1:], (anchors * 3, anchors, np.zeros((1, 2)))):
        assert abs(found / scale - wanted).max() <= abs(wanted).max() * (0.5 / (2 ** ((bits or 16) - 1) - 1) + 1e-6)
    again = reduce_graph(mrt.current_model, {"data": (2, 6)})
    assert compile_graph(again.graph) == compile_graph(mrt.current_model.graph)
