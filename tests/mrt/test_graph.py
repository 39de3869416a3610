"""The in-memory graph: reading and writing MXNet's files, old and new, whole and damaged."""
import json

import nets
import numpy as np
import pytest

import cvm_runtime as cvm
from mrt import sim_quant_helper as sim
from mrt.errors import ModelError
from mrt.frontend.mxnet import from_symbol
from mrt.graph import Entry, Graph, Names, Node
from mrt.mxnet_bridge import mx
from mrt.transformer import Model


def small():
    return nets.model(nets.small_net(), nets.SMALL_SHAPE)


def files(tmp_path):
    return str(tmp_path / "net.json"), str(tmp_path / "net.params")


def test_save_and_load_are_the_identity(tmp_path):
    model = small()
    model.save(*files(tmp_path))
    again = Model.load(*files(tmp_path))
    assert again.symbol.tojson() == model.symbol.tojson()
    assert list(again.graph.params) == list(model.graph.params)
    for name, value in model.graph.params.items():
        np.testing.assert_array_equal(again.graph.params[name], value)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    small().save(str(tmp_path / "a.json"), str(tmp_path / "a.params"))
    small().save(str(tmp_path / "b.json"), str(tmp_path / "b.params"))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.params").read_bytes() == (tmp_path / "b.params").read_bytes()


def test_topological_order_is_depth_first_and_unique():
    a = Node("null", "a")
    b = Node("relu", "b", [Entry(a, 0)])
    c = Node("broadcast_mul", "c", [Entry(b, 0), Entry(a, 0)])
    d = Node("broadcast_mul", "d", [Entry(a, 0), Entry(c, 0)])
    graph = Graph([Entry(d, 0), Entry(b, 0)], {})
    assert [n.name for n in graph.topological()] == ["a", "b", "c", "d"]
    assert graph.consumers()[b] == [c, None]


def test_ten_thousand_nodes_in_a_row():
    node = Node("null", "data")
    for i in range(10000):
        node = Node("relu", f"r{i}", [Entry(node, 0)])
    graph = Graph([Entry(node, 0)], {})
    assert len(graph.rewrite(lambda n, inputs: n.with_inputs(inputs)).topological()) == 10001


def test_rewrite_drops_unused_params():
    model = small()
    graph = model.graph.rewrite(lambda n, inputs: inputs[0] if n.op == "BatchNorm" else n.with_inputs(inputs))
    assert not any(name.startswith("bn") for name in graph.params)
    assert "bn0_gamma" in model.graph.params


def test_names_are_fresh():
    names = Names(["mrt_rewrite_x_0"])
    assert [names.fresh("rewrite", "x") for _ in range(2)] == ["mrt_rewrite_x_1", "mrt_rewrite_x_2"]


def test_attributes_are_parsed_never_evaluated():
    node = Node("Convolution", "c", attrs={"kernel": "(3L, 3L)", "pad": "1", "no_bias": "true", "stride": "__import__('os')"})
    assert node.tuple("kernel") == (3, 3) and node.tuple("pad") == (1,) and node.bool("no_bias") is True
    with pytest.raises(ModelError, match=r"node c \(Convolution\): attribute stride"):
        node.tuple("stride")


def test_attributes_may_be_infinite():
    node = Node("clip", "c", attrs={"a_min": "-inf", "a_max": "inf", "a": "nan", "b": "1e+09", "n": "inf"})
    assert [node.float(key) for key in ("a_min", "a_max", "b")] == [-np.inf, np.inf, 1e9] and np.isnan(node.float("a"))
    with pytest.raises(ModelError, match="attribute n='inf', expected an integer"):
        node.int("n")


def old_symbol():
    """As MXNet 0.8 wrote it: `param` for the operator's attributes, no auxiliary states, two-item heads."""
    def node(op, name, inputs, param):
        return {"op": op, "param": param, "name": name, "inputs": inputs, "backward_source_id": -1}

    nodes = [node("null", "data", [], {}), node("null", "c_weight", [], {}), node("null", "c_bias", [], {}),
             node("Convolution", "c", [[0, 0], [1, 0], [2, 0]],
                  {"kernel": "(3,3)", "num_filter": "4", "no_bias": "False", "num_group": "1", "pad": "(0,0)",
                   "stride": "(1,1)", "workspace": "512", "dilate": "(1,1)"}),
             node("null", "bn_gamma", [], {}), node("null", "bn_beta", [], {}),
             node("BatchNorm", "bn", [[3, 0], [4, 0], [5, 0]], {"eps": "0.001", "momentum": "0.9", "fix_gamma": "False"}),
             node("Activation", "r", [[6, 0]], {"act_type": "relu"})]
    return json.dumps({"nodes": nodes, "arg_nodes": [0, 1, 2, 4, 5], "heads": [[7, 0]]})


def test_symbols_of_mxnet_0_8_load(tmp_path):
    symbol_file, params_file = files(tmp_path)
    (tmp_path / "net.json").write_text(old_symbol())
    rng = np.random.default_rng(0)
    shapes = {"arg:c_weight": (4, 1, 3, 3), "arg:c_bias": (4,), "arg:bn_gamma": (4,), "arg:bn_beta": (4,),
              "aux:bn_moving_mean": (4,), "aux:bn_moving_var": (4,)}
    mx.nd.save(params_file, {name: mx.nd.array(rng.uniform(0.5, 1, size)) for name, size in shapes.items()})
    model = Model.load(symbol_file, params_file)
    assert model.input_names() == ["data"]
    x = nets.batch((2, 1, 6, 6))
    before = nets.run(model, x)[0]
    model.prepare((2, 1, 6, 6))
    np.testing.assert_allclose(nets.run(model, x)[0], before, rtol=1e-5, atol=1e-5)


# --- node names

@pytest.mark.parametrize("escaped", [False, True])
def test_names_and_attributes_of_any_characters(tmp_path, escaped):
    layer = '全连接 "1" \\ é'
    y = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name=layer, attr={"__note__": "Größe\t→"})
    symbol_file, params_file = files(tmp_path)
    rng, x = np.random.default_rng(0), nets.batch((2, 3))
    params = {f"{layer}_weight": rng.normal(size=(4, 3)), f"{layer}_bias": rng.normal(size=4)}
    mx.sym.relu(y, name="выход/1").save(symbol_file)
    mx.nd.save(params_file, {f"arg:{name}": mx.nd.array(value) for name, value in params.items()})
    if escaped:  # as Python's json writes it
        path = tmp_path / "net.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
        assert path.read_bytes().isascii()
    model = Model.load(symbol_file, params_file)
    wanted = nets.run(model, x)[0]
    assert model.output_names() == ["выход/1"]
    model.prepare((2, 3))
    model.save(symbol_file, params_file)
    model = Model.load(symbol_file, params_file)
    assert model.graph.find(layer).str("__note__") == "Größe\t→"
    mrt = model.get_mrt()
    mrt.set_data(x)
    mrt.calibrate()
    integers = mrt.quantize()
    mrt.save("quantized", str(tmp_path))
    codes = sim.load_real_data(x, "data", mrt.get_inputs_ext())
    simulated = nets.run(Model.load(str(tmp_path / "quantized.json"), str(tmp_path / "quantized.params")), codes)[0]
    assert abs(simulated / mrt.get_output_scales()[0] - wanted).max() < 0.05
    symbol, params = integers.to_cvm("net", str(tmp_path))
    np.testing.assert_array_equal(cvm.load(symbol.encode(), params).run(codes.asnumpy().astype(np.int32))[0], simulated)


def test_names_given_twice_become_unique(tmp_path, caplog):
    caplog.set_level("WARNING", "mrt.graph")

    class Block(mx.gluon.nn.HybridBlock):
        def __init__(self):
            super().__init__(prefix="net_")
            with self.name_scope():
                self.a, self.b = mx.gluon.nn.Dense(8), mx.gluon.nn.Dense(8)
                self.act = mx.gluon.nn.Activation("relu")

        def hybrid_forward(self, F, x):
            return self.act(self.b(self.act(self.a(x))))

    block, x = Block(), nets.batch((2, 6))
    block.initialize()
    block.hybridize()
    wanted = block(x).asnumpy()
    block.export(str(tmp_path / "net"))
    model = Model.load(str(tmp_path / "net-symbol.json"), str(tmp_path / "net-0000.params"))
    assert "net_relu0_fwd -> net_relu0_fwd_0" in caplog.text
    model.prepare((2, 6))
    assert model.output_names() == ["net_relu0_fwd_0"]
    np.testing.assert_allclose(nets.run(model, x)[0], wanted, rtol=1e-5, atol=1e-6)


def test_names_given_once_stay(caplog):
    caplog.set_level("WARNING", "mrt.graph")
    x = mx.sym.relu(mx.sym.relu(mx.sym.relu(mx.sym.var("same"), name="a"), name="a"), name="a_0")
    x = mx.sym.relu(mx.sym.relu(x, name="same"), name="w") + mx.sym.var("w") * mx.sym.var("w")
    graph = from_symbol(x, {"w": np.ones((1, 2))})
    graph.check_names()
    assert {"same", "w", "a", "a_0"} <= {node.name for node in graph.topological()}
    assert [node.name for node in graph.inputs()] == ["same"] and list(graph.params) == ["w"]
    assert [node.name for node in graph.topological() if node.op == "relu"] == ["a", "a_1", "a_0", "same_0", "w_0"]
    assert "a -> a_1, same -> same_0, w -> w_0" in caplog.text
    caplog.clear()
    small()
    assert not caplog.text


# --- parameter names

def gluon_net():
    nn = mx.gluon.nn
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(nn.Conv2D(4, 3, activation="relu"), nn.BatchNorm(), nn.MaxPool2D(), nn.Dense(8, activation="relu"), nn.Dense(3))
    mx.random.seed(7)
    net.initialize(mx.init.Xavier())
    net.hybridize()
    return net


@pytest.mark.parametrize("how", ["export", "collect", "collect_stripped", "structural"])
def test_every_naming_of_gluon_loads(tmp_path, how):
    net, x = gluon_net(), nets.batch((2, 1, 8, 8))
    expected = net(x).asnumpy()
    symbol_file, params_file = files(tmp_path)
    net(mx.sym.var("data")).save(symbol_file)
    if how == "export":
        net.export(str(tmp_path / "net"))
        params_file = str(tmp_path / "net-0000.params")
    elif how == "collect":
        net.collect_params().save(params_file)
    elif how == "collect_stripped":
        net.collect_params().save(params_file, strip_prefix="net_")
    else:
        net.save_parameters(params_file)
    model = Model.load(symbol_file, params_file)
    assert model.input_names() == ["data"]
    np.testing.assert_allclose(nets.run(model, x)[0], expected, rtol=1e-5, atol=1e-6)


def test_structural_names_that_could_be_mistaken_are_refused(tmp_path):
    data = mx.sym.var("data")
    names = ["b", "a"]  # executed in the other order than they are numbered
    for name in names:
        data = mx.sym.FullyConnected(data, num_hidden=4, no_bias=True, name=name)
    symbol_file, params_file = files(tmp_path)
    data.save(symbol_file)
    mx.nd.save(params_file, {"0.weight": mx.nd.ones((4, 4)), "1.weight": mx.nd.zeros((4, 4))})
    with pytest.raises(ModelError, match=r"net.export"):
        Model.load(symbol_file, params_file)


# --- damaged files

def saved(tmp_path):
    small().save(*files(tmp_path))
    return files(tmp_path)


def test_missing_files(tmp_path):
    symbol_file, params_file = saved(tmp_path)
    with pytest.raises(ModelError, match=r"none\.json does not exist"):
        Model.load(str(tmp_path / "none.json"), params_file)
    with pytest.raises(ModelError, match=r"none\.params does not exist"):
        Model.load(symbol_file, str(tmp_path / "none.params"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95, 0.999])
def test_truncated_files(tmp_path, share):
    for i, word in ((0, "not an MXNet symbol file"), (1, "not a complete MXNet params file")):
        names = saved(tmp_path)
        with open(names[i], "rb") as f:
            data = f.read()
        with open(names[i], "wb") as f:
            f.write(data[:int(len(data) * share)])
        with pytest.raises(ModelError, match=word):
            Model.load(*names)


@pytest.mark.parametrize("text", ["[]", "{}", '{"nodes": 3}', '{"nodes": [{"op": "null"}]}', "null", "\u0000"])
def test_json_that_is_no_symbol(tmp_path, text):
    symbol_file, params_file = saved(tmp_path)
    (tmp_path / "net.json").write_text(text)
    with pytest.raises(ModelError, match=r"net\.json"):
        Model.load(symbol_file, params_file)


def test_unknown_operator_is_named(tmp_path):
    symbol_file, params_file = saved(tmp_path)
    (tmp_path / "net.json").write_text((tmp_path / "net.json").read_text().replace('"relu"', '"Hyperspace"'))
    with pytest.raises(ModelError, match=r"r1 \(Hyperspace\)"):
        Model.load(symbol_file, params_file)


def test_params_of_another_network(tmp_path):
    symbol_file, _ = saved(tmp_path)
    other = str(tmp_path / "other.params")
    mx.nd.save(other, {"conv_w": mx.nd.ones((2, 2)), "c0_weight": mx.nd.ones((6, 1, 3, 3))})
    with pytest.raises(ModelError, match=r"other.params has no value for c0_bias.*needed by c0.*conv_w"):
        Model.load(symbol_file, other)


def test_wrong_parameter_shape_is_named(tmp_path):
    names = saved(tmp_path)
    params = mx.nd.load(names[1])
    params["fc1_weight"] = mx.nd.ones((5, 13))
    mx.nd.save(names[1], params)
    with pytest.raises(ModelError, match=r"fc1_weight has shape \(5, 13\).*needs \(5, 12\)"):
        Model.load(*names).prepare(nets.SMALL_SHAPE)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path, bad):
    names = saved(tmp_path)
    params = mx.nd.load(names[1])
    params["c1_weight"][0, 0, 0, 0] = bad
    mx.nd.save(names[1], params)
    with pytest.raises(ModelError, match=r"c1_weight .* 1 values of .* not finite"):
        Model.load(*names)


def test_arrays_without_names(tmp_path):
    names = saved(tmp_path)
    mx.nd.save(names[1], [mx.nd.ones((2, 2))])
    with pytest.raises(ModelError, match="without names"):
        Model.load(*names)
