"""Whatever the quantizer chooses fits the runtime's 32 bits: random networks of layers, constants, sums and concatenations."""
import nets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cvm_runtime as cvm
from mrt import sim_quant_helper as sim
from mrt.compiler import compile_graph
from mrt.errors import MRTError
from mrt.mxnet_bridge import mx
from mrt.quantization.quantize import quantize_graph
from mrt.transformer import Model

LAYERS = ("Convolution", "FullyConnected")


def dense_then_constant(width=1024):
    x = mx.sym.relu(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=width, name="a"), name="r")
    return mx.sym.broadcast_add(mx.sym.FullyConnected(x, num_hidden=2, no_bias=True, name="b"), mx.sym.var("c", shape=(1, 2)),
                                name="y")


def random_net(rng):
    """(symbol, parameters, shape): layers of various widths, whose results meet constants of various sizes and each other."""
    channels, shape = int(rng.integers(1, 6)), (2, int(rng.integers(1, 6)), 5, 5)
    params, found = {}, [(mx.sym.var("data"), shape[1])]

    def parameter(name, value):
        params[name] = np.asarray(value, np.float32)
        return mx.sym.var(name, shape=params[name].shape)

    for k in range(int(rng.integers(2, 9))):
        x, width = found[-1 if rng.random() < 0.7 else rng.integers(len(found))]
        size = 10.0 ** rng.uniform(-4, 4) if rng.random() < 0.5 else 0.1
        kind = rng.choice(["conv", "conv", "wide", "add", "sub", "mul", "scalar", "relu", "sum", "concat", "negative"])
        if kind == "conv":
            groups = width if rng.random() < 0.2 else 1
            weight = parameter(f"w{k}", rng.normal(size=(channels * groups, width // groups, 3, 3)) * size)
            bias = rng.normal(size=channels * groups) * 10.0 ** rng.uniform(-4, 4)
            bias = [] if rng.random() < 0.5 else [parameter(f"b{k}", bias)]
            x, width = mx.sym.Convolution(x, weight, *bias, kernel=(3, 3), pad=(1, 1), num_filter=channels * groups,
                                          num_group=groups, no_bias=not bias, name=f"n{k}"), channels * groups
        elif kind == "wide":
            many = int(rng.choice([256, 2048]))
            x = mx.sym.tile(x, reps=(1, -(-many // width), 1, 1), name=f"t{k}")
            many = -(-many // width) * width
            weight = parameter(f"w{k}", rng.normal(size=(channels, many, 3, 3)) * size)
            x, width = mx.sym.Convolution(x, weight, kernel=(3, 3), pad=(1, 1), num_filter=channels, no_bias=True,
                                          name=f"n{k}"), channels
        elif kind in ("add", "sub", "mul"):
            form = [(1,), (1, width, 1, 1), (1, 1, 5, 5)][rng.integers(3)]
            operands = [x, parameter(f"c{k}", rng.normal(size=form) * size)]
            operands = operands if rng.random() < 0.7 else operands[::-1]
            x = getattr(mx.sym, f"broadcast_{kind}")(*operands, name=f"n{k}")
        elif kind == "scalar":
            x = x * float(size * rng.choice([-1, 1]))
        elif kind in ("sum", "concat"):
            y, other = found[rng.integers(len(found))]
            if kind == "concat":
                x, width = mx.sym.Concat(x, y, dim=1, name=f"n{k}"), width + other
            elif other in (1, width):
                x = mx.sym.broadcast_add(x, y, name=f"n{k}")
        else:
            x = getattr(mx.sym, kind)(x, name=f"n{k}")
        found.append((x, width))
    return found[-1][0], params, shape


def compiles(model, shape, settings, seed=0):
    """Quantize, compile, verify and run; the runtime's integers are those of the simulation."""
    mrt = model.get_mrt()
    settings(mrt)
    x = nets.batch(shape, seed)
    mrt.set_data(x)
    mrt.calibrate()
    quantized = mrt.quantize()
    codes = sim.load_real_data(x, "data", mrt.get_inputs_ext())
    compiled = cvm.load(*(part.encode() if isinstance(part, str) else part for part in compile_graph(quantized.graph, shape)))
    for a, b in zip(compiled.run(codes.asnumpy().astype(np.int32)), nets.run(quantized, codes)):
        np.testing.assert_array_equal(a, b.astype(np.int64))


def check(seed):
    rng = np.random.default_rng(seed)
    symbol, params, shape = random_net(rng)
    model = Model(symbol, params)
    model.prepare(shape)
    for budget in (0, 0.02, 1, 100):
        compiles(model, shape, lambda mrt, budget=budget: mrt.set_techniques(two_part_budget=budget), seed)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.integers(0, 10 ** 6))
def test_random_networks_fit_with_every_budget(seed):
    check(seed)


def test_a_wide_layer_with_a_large_bias_on_an_input_that_is_never_negative():
    check(271)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 400, 40))
def test_many_random_networks_fit_with_every_budget(first):
    for seed in range(first, first + 40):
        check(seed)


@pytest.mark.parametrize("budget", [0, 0.02, 1])
@pytest.mark.parametrize("bits", [None, 8, 15])
def test_a_layer_in_two_parts_then_a_constant(budget, bits):
    model = nets.model(dense_then_constant(), (8, 64), scale=0.1)
    model.prepare((8, 64))
    layer = [node.name for node in model.graph.topological() if node.op in LAYERS][-1]

    def settings(mrt):
        mrt.set_techniques(two_part_budget=budget)
        if bits:
            mrt.set_operand_prec(layer, bits)

    compiles(model, (8, 64), settings)


@pytest.mark.parametrize("width", [9000, 20000])
@pytest.mark.parametrize("operand", ["relu", "broadcast_add", "broadcast_sub", "broadcast_mul", "broadcast_maximum",
                                     "broadcast_greater"])
def test_what_follows_the_widest_layers(width, operand):
    """Sums of 31 bits and a bias: something that cannot be folded into the layer is done to them."""
    y = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="wide")
    if operand == "relu":
        symbol = mx.sym.Group([mx.sym.relu(y, name="r"), y])
    else:
        symbol = mx.sym.Group([getattr(mx.sym, operand)(y, mx.sym.var("c", shape=(1, 4)), name="o"), y])
    model = nets.model(symbol, (2, width), c=[[1.0, -2.0, 3.0, -4.0]])
    model.prepare((2, width))
    compiles(model, (2, width), lambda mrt: None)


@pytest.mark.parametrize("width", [9, 4000, 30000])
def test_the_message_says_how_many_bits_fit(width):
    """Weights of one sign and inputs of one size: sums near their proven bound."""
    model = nets.model(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="y"), (2, width),
                       y_weight=np.ones((2, width)), y_bias=[1.0, -1.0])
    model.prepare((2, width))

    def quantize(bits):
        mrt = model.get_mrt()
        mrt.set_input_prec(16)
        mrt.set_operand_prec("y", bits)
        x = mx.nd.ones((2, width))
        mrt.set_data(x)
        mrt.calibrate()
        graph = mrt.quantize().graph
        cvm.load(*(part.encode() if isinstance(part, str) else part for part in compile_graph(graph, (2, width))))

    try:
        quantize(15)
    except MRTError as error:
        fit = int(str(error).split("; ")[1].split()[0])
        assert width > 9 and 8 <= fit < 15 and "node y (FullyConnected) cannot take its input in 15" in str(error)
        quantize(fit)
        if fit < 14:
            with pytest.raises(MRTError, match=f"{fit} bits fit"):
                quantize(fit + 1)
    else:
        assert width == 9


@pytest.mark.parametrize("budget", [0.02, 0.2, 1])
@pytest.mark.parametrize("loud", ["c0", "c1", "fc"])
def test_the_budget_holds_gas_and_bytes(budget, loud):
    """Layers that are cheap in time but dear in bytes, and the reverse, whose errors matter very much."""
    x = mx.sym.relu(nets.conv(mx.sym.var("data"), "c0", num_filter=8))
    x = mx.sym.relu(nets.conv(x, "c1", num_filter=8))
    x = mx.sym.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="max")
    symbol = mx.sym.FullyConnected(x, num_hidden=1000, name="fc")
    shape = (1, 3, 48, 48)
    model = nets.model(symbol, shape)
    model.prepare(shape)
    found = {}
    for share in (0, budget):
        mrt = model.get_mrt()
        mrt.set_techniques(two_part_budget=share)
        mrt.set_data(nets.batch((4, *shape[1:])))
        mrt.calibrate()
        known = {name: [one._replace(weight=one.weight * (1e6 if name == loud else 1)) for one in measured]
                 for name, measured in mrt.sensitivities.items()}
        kind, options = mrt.quantizer()
        graph = quantize_graph(model.graph, mrt.th_dict, mrt.channels, options, known, kind).graph
        symbol, params = compile_graph(graph, shape)
        found[share] = cvm.load(symbol.encode(), params).gas, len(params)
    for spent, before in zip(found[budget], found[0]):
        assert spent <= (1 + budget) * before + 1000  # names and shapes of new parameters
    if budget == 1 and loud == "fc":
        assert found[budget][1] > 1.4 * found[0][1]


@pytest.mark.parametrize("op", ["broadcast_add", "broadcast_sub", "broadcast_mul"])
@pytest.mark.parametrize("form", [(1,), (1, 4, 1, 1)])
@pytest.mark.parametrize("layer", ["conv", "no_bias", "dense", "shared"])
@pytest.mark.parametrize("first", [False, True])
def test_constants_fold_into_the_layer_before(op, form, layer, first):
    data = mx.sym.var("data")
    if layer == "dense":
        form, shape = form[:2], (2, 6)
        y = mx.sym.FullyConnected(data, num_hidden=4, name="y")
    else:
        shape = (2, 3, 5, 5)
        y = nets.conv(data, "y", num_filter=4, no_bias=layer == "no_bias")
    constant = mx.sym.var("c", shape=form)
    symbol = getattr(mx.sym, op)(*((constant, y) if first else (y, constant)), name="folded")
    if layer == "shared":
        symbol = mx.sym.Group([symbol, y])
    model, x = nets.model(symbol, shape), nets.batch(shape)
    before = nets.run(model, x)
    model.prepare(shape)
    for a, b in zip(nets.run(model, x), before):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    operators = [node.op for node in model.graph.topological() if not node.is_variable]
    assert len(operators) == (2 if layer == "shared" else 1) and model.output_names()[0] == "folded"


def test_a_chain_of_constants_folds_whole():
    y = nets.conv(mx.sym.var("data"), "y", num_filter=4)
    y = mx.sym.broadcast_add((3 - y) * 0.5, mx.sym.var("c", shape=(1, 4, 1, 1)))
    symbol = mx.sym.BatchNorm(y, fix_gamma=False, name="bn")
    model, x = nets.model(symbol, (2, 3, 5, 5)), nets.batch((2, 3, 5, 5))
    before = nets.run(model, x)[0]
    model.prepare((2, 3, 5, 5))
    np.testing.assert_allclose(nets.run(model, x)[0], before, rtol=1e-5, atol=1e-5)
    assert [node.op for node in model.graph.topological() if not node.is_variable] == ["Convolution"]
