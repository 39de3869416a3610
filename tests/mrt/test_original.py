"""The preset that quantizes like the original MRT: its numbers, and that its files run bit-exactly."""
import nets
import pytest
from test_operators import IMAGE, IMAGES, exact, network

from mrt.errors import MRTError
from mrt.mxnet_bridge import mx
from mrt.quantization.original import integer_float
from mrt.transformer import MRT


def calibrated(model, x):
    model.prepare(x.shape)
    mrt = model.get_mrt()
    mrt.set_data(x)
    mrt.calibrate()
    return mrt


@pytest.mark.parametrize("value, width, expected", [(0.3, 12, (1229, -12)), (0.3, 4, (5, -4)), (0.3, 2, (1, -2)),
                                                    (1.9, 2, (1, 0)), (1.5, 3, (3, -1)), (4, 24, (1, 2)), (0, 8, (0, 0)),
                                                    (0.9, 1, (1, -1))])
def test_integer_float(value, width, expected):
    assert integer_float(value, width) == expected


def test_layers_are_rescaled_by_powers_of_two():
    """Thresholds for which the numbers are easily computed by hand."""
    x = nets.conv(mx.sym.var("data"), "c0", num_filter=4)
    model = nets.model(nets.conv(x, "c1", num_filter=2, no_bias=True), (1, 3, 8, 8))
    mrt = calibrated(model, nets.batch((1, 3, 8, 8)))
    mrt.set_th_dict({**mrt.th_dict, "data": 4.0, "c0_weight": 0.5, "c0_bias": 2.0, "c0": 6.0, "c1_weight": 1.0})
    mrt.set_preset("original")
    mrt.quantize()
    assert mrt.scales["data"] == 31.75
    assert mrt.scales["c0"] == 31.75 * 254
    assert mrt.precs["c0"]["out_key"] == 17  # 6.0 * 8064.5 is 48387
    assert mrt.scales["c1"] == 31.75 * 254 / 2 ** 9 * 127  # 15.75: the largest integer is 94.5, not 127
    shifts = [node.int("shift_bit") for node in mrt.current_model.graph.topological() if node.kind == "cvm_right_shift"]
    assert shifts == [9]
    assert not any(node.op == "broadcast_mul" for node in mrt.current_model.graph.topological())


def noise(mrt, x, real, preset):
    """Power of the error of the integer network, which runs bit-exactly on the runtime."""
    mrt.set_preset(preset)
    mrt.quantize()
    found = exact(mrt, x)[0] / mrt.get_output_scales()[0]
    return ((found - real) ** 2).sum()


def depthwise():
    x = mx.sym.var("data")
    for k in range(3):
        x = nets.conv(x, f"d{k}", num_filter=8, num_group=1 if k == 0 else 8, pad=(1, 1), no_bias=True)
        x = mx.sym.relu(mx.sym.BatchNorm(x, fix_gamma=False))
        x = nets.conv(x, f"p{k}", num_filter=8, kernel=(1, 1))
    return mx.sym.FullyConnected(mx.sym.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1)), num_hidden=4)


@pytest.mark.parametrize("symbol, shape", [(nets.small_net, nets.SMALL_SHAPE), (depthwise, (4, 3, 12, 12))])
def test_it_is_no_better_than_the_default(symbol, shape, tmp_path):
    model, x = nets.model(symbol(), shape), nets.batch(shape)
    real = nets.run(model, x)[0]
    calibrated(model, x).save("net", str(tmp_path))
    default, original = (noise(MRT.load("net", str(tmp_path)), x, real, preset) for preset in ("default", "original"))
    assert default < original < 0.1 * (real ** 2).sum()


def test_it_takes_no_techniques(tmp_path):
    model, x = nets.model(nets.small_net(), nets.SMALL_SHAPE), nets.batch(nets.SMALL_SHAPE)
    mrt = calibrated(model, x)
    with pytest.raises(MRTError, match="preset is 'best', expected 'default' or 'original'"):
        mrt.set_preset("best")
    mrt.set_preset("original")
    mrt.save("net", str(tmp_path))
    assert MRT.load("net", str(tmp_path)).preset == "original"
    mrt.set_operand_prec("fc1", 12)
    with pytest.raises(MRTError, match="inputs of layers at 8 bits; fc1 is set to 12"):
        mrt.quantize()
    mrt.set_techniques(equalize=False)
    with pytest.raises(MRTError, match="preset original has none of the techniques equalize"):
        mrt.quantize()


@pytest.mark.parametrize("op", sorted(IMAGES))
def test_every_operator_runs(op):
    model, shape = network(IMAGE, op, 0, 5)
    mrt = calibrated(model, nets.batch(shape) + 1)
    mrt.set_preset("original")
    mrt.quantize()
    exact(mrt, nets.batch(shape, 6) + 1)
    exact(mrt, nets.batch(shape, 6) * 1e3)
