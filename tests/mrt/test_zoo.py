"""Whole networks of the gluoncv model zoo, from float to the runtime. Weights are random but seeded, so nothing is downloaded.

`python tests/mrt/test_zoo.py [NAME ...]` prints a table: name, signal-to-noise ratio of the logits, seconds, integer nodes.
"""
import sys
import time

import numpy as np
import pytest

import cvm_runtime as cvm
from mrt import sim_quant_helper as sim
from mrt.compiler import compile_graph
from mrt.mxnet_bridge import mx
from mrt.transformer import Model

# dB; narrow networks of depthwise layers have less
FLOOR = 30
FLOORS = {"mobilenet0.25": 25, "mobilenet0.5": 26, "mobilenetv2_0.25": 25, "mobilenetv2_0.5": 28, "mobilenetv2_1.0": 28,
          "mobilenetv3_small": 24}

# input sizes where the network fixes them; elsewhere small ones, because the layers are the same
SIZES = {"alexnet": 224, "inceptionv3": 299, "googlenet": 224, "squeezenet1.0": 224, "squeezenet1.1": 224, "densenet121": 224,
         "densenet161": 224, "densenet169": 224, "densenet201": 224}
FAST = ["resnet18_v1", "mobilenet0.25", "mobilenetv2_0.25", "mobilenetv3_small", "squeezenet1.1", "cifar_resnet20_v2",
        "resnet18_v2", "shufflenet_v1"]
SWEEP = [
    "alexnet", *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    *(f"resnet{depth}_v{version}" for version in ("1", "2", "1b") for depth in (18, 34, 50, 101, 152)),
    *(f"resnet{depth}_v1{letter}" for letter in "cds" for depth in (50, 101, 152)),
    "resnet18_v1b_0.89", *(f"resnet50_v1d_{share}" for share in (0.11, 0.37, 0.48, 0.86)), "resnet101_v1d_0.73",
    *(f"{se}resnext{size}" for se in ("", "se_") for size in ("50_32x4d", "101_32x4d", "101_64x4d")),
    *(f"se_resnet{depth}_v{version}" for version in (1, 2) for depth in (18, 34, 50, 101, 152)), "senet_154",
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)), "squeezenet1.0", "squeezenet1.1",
    *(f"mobilenet{width}" for width in (0.25, 0.5, 0.75, 1.0)), *(f"mobilenetv2_{width}" for width in (0.25, 0.5, 0.75, 1.0)),
    "mobilenetv3_small", "mobilenetv3_large", "inceptionv3", "googlenet", "xception", "shufflenet_v1", "shufflenet_v2",
    "darknet53", *(f"cifar_resnet{depth}_v{version}" for version in (1, 2) for depth in (20, 56, 110)),
    "resnest14", "dla34", "hrnet_w18_small_v1_c", "nasnet_4_1056", "cifar_residualattentionnet56",
    "cifar_wideresnet16_10", "cifar_wideresnet28_10", "cifar_wideresnet40_8", "cifar_resnext29_16x64d",
]


def network(name, x):
    """The first output of the network as a Model. Its batch normalizations have the statistics of the batch x, so that
    activations have the sizes of a trained network."""
    from gluoncv import model_zoo
    mx.random.seed(0)
    np.random.seed(0)
    net = model_zoo.get_model(name, pretrained=False)
    net.initialize(mx.init.Xavier(magnitude=2))
    net.apply(_forget)
    with mx.autograd.record():
        net(x)
    outputs = net(mx.sym.var("data"))
    symbol = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
    return Model(symbol, {param.name: param.data() for param in net.collect_params().values()})


def _forget(block):
    if isinstance(block, mx.gluon.nn.BatchNorm):
        block._kwargs["momentum"] = 0


def measure(name, folder, executors):
    """(signal-to-noise ratio of the logits in dB, nodes of the integer graph) on samples that calibration has not seen.
    Every executor must give the simulation's bits."""
    size = SIZES.get(name, 32 if name.startswith("cifar") else 96)
    rng = np.random.default_rng(0)
    x, unseen = (mx.nd.array(rng.normal(size=(n, 3, size, size))) for n in (4, 2))
    model = network(name, x)
    real = model.to_graph()(unseen).asnumpy()
    model.fix_original_model(str(folder), "net")  # the zoo's networks use names more than once
    model.prepare(unseen.shape)
    prepared = model.to_graph()(unseen).asnumpy()
    np.testing.assert_allclose(prepared, real, rtol=1e-4, atol=1e-4 * abs(real).max())
    mrt = model.get_mrt()
    mrt.set_data(x)
    mrt.calibrate()
    integers = mrt.quantize()
    codes = sim.load_real_data(unseen, "data", mrt.get_inputs_ext())
    simulated = integers.to_graph()(codes).asnumpy()
    symbol, params = compile_graph(integers.graph, unseen.shape)
    for ctx in executors:
        np.testing.assert_array_equal(cvm.load(symbol.encode(), params, ctx=ctx).run(codes.asnumpy().astype(np.int32))[0],
                                      simulated)
    found = simulated / mrt.get_output_scales()[0]
    return 10 * np.log10((real ** 2).sum() / ((real - found) ** 2).sum()), len(integers.graph.topological())


def check(name, folder, executors):
    pytest.importorskip("gluoncv", reason="gluoncv is an extra: pip install '.[zoo]'")
    found, _ = measure(name, folder, executors)
    assert found > FLOORS.get(name, FLOOR)


@pytest.mark.parametrize("name", FAST)
def test_small_networks(name, tmp_path):
    check(name, tmp_path, [cvm.formal(), cvm.cpu(threads=1), cvm.cpu(threads=2)])


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEP)
def test_all_networks(name, tmp_path):
    check(name, tmp_path, [cvm.cpu(threads=2)])


if __name__ == "__main__":
    import tempfile
    for each in sys.argv[1:] or SWEEP:
        start = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory() as scratch:
                ratio, count = measure(each, scratch, [cvm.cpu(threads=2)])
            result = f"{ratio:6.1f} dB {time.perf_counter() - start:7.1f} s {count:6d} nodes"
        except Exception as error:  # the table goes on; the tests tell more
            result = f"{type(error).__name__}: {error}"
        print(f"{each:22s} {result}", flush=True)
