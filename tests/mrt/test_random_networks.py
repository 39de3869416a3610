"""Whatever `mrt check` accepts can be quantized, compiled, verified and run: random networks over the whole table of operators.

`-m slow` takes MANY of them through all of SETTINGS, the default FEW through one after the other.
"""
import numpy as np
import pytest
from random_networks import COVERING, SUPPORTED, Network

import cvm_runtime as cvm
from mrt import sim_quant_helper as sim
from mrt.compiler import compile_graph
from mrt.pipeline import check

FEW, MANY, AT_ONCE = 24, 2000, 50
EXACT = 120.0
OUTPUTS, BUDGETS = (None, 8, 16, 30), (None, 0, 1)  # bits of the outputs; two_part_budget; None leaves either as it is
SETTINGS = [(output, budget) for output in OUTPUTS for budget in BUDGETS]


def quantized(network, output=None, budget=None):
    """The MRT of a network after quantization, which `mrt check` must have accepted."""
    model = network.model
    shapes = {name: network.shapes[name] for name in model.input_names()}
    assert check.findings(model.graph, shapes) == []
    model.prepare(shapes)
    mrt = model.get_mrt()
    if budget is not None:
        mrt.set_techniques(two_part_budget=budget)
    for k in (0, 1):
        mrt.set_data(network.data(k)[1])
        mrt.calibrate()
    if output is not None:
        mrt.set_output_prec(output)
    mrt.quantize()
    return mrt


def ratios(network, output=None, budget=None):
    """Signal-to-noise ratio of every output in dB, at most EXACT, on a batch that calibration has seen; the runtime must verify
    the network and have the simulation's bits."""
    mrt, whole = quantized(network, output, budget), network.data(1)[1]
    codes = sim.load_real_data(whole, "data", mrt.get_inputs_ext())
    simulated = mrt.current_model.to_graph()(codes)
    simulated = [v.asnumpy() for v in (simulated if isinstance(simulated, (list, tuple)) else [simulated])]
    symbol, params = compile_graph(mrt.current_model.graph)
    for ctx in (cvm.formal(), cvm.cpu(threads=1)):
        for ran, wanted in zip(cvm.load(symbol.encode(), params, ctx=ctx).run(codes.asnumpy().astype(np.int32)), simulated):
            np.testing.assert_array_equal(ran, wanted)
    found = []
    for codes, scale, real in zip(simulated, mrt.get_output_scales(), network.outputs(1)):
        noise, power = ((codes / scale - real) ** 2).sum(), (real ** 2).sum()
        found.append(EXACT if noise <= 10 ** (-EXACT / 10) * power else 10 * np.log10(max(power, 1e-30) / noise))
    return found


def test_they_hold_every_operator():
    assert set().union(*(Network(seed).kinds() for seed in range(COVERING))) >= set(SUPPORTED)


def test_the_seed_decides():
    for seed in (0, 1):
        one, two, uneven = Network(seed), Network(seed), Network(seed, spread=100)
        assert one.symbol.tojson() == two.symbol.tojson() == uneven.symbol.tojson()
        for name, values in one.values.items():
            np.testing.assert_array_equal(values, two.values[name])
            np.testing.assert_array_equal(values, uneven.even[name])
        np.testing.assert_array_equal(one.data(3)[1].asnumpy(), two.data(3)[1].asnumpy())


@pytest.mark.parametrize("seed", range(FEW))
def test_what_is_accepted_runs(seed):
    ratios(Network(seed), *SETTINGS[seed % len(SETTINGS)])


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, MANY, AT_ONCE))
@pytest.mark.parametrize("output, budget", SETTINGS)
def test_what_is_accepted_runs_always(first, output, budget):
    for seed in range(first, min(first + AT_ONCE, MANY)):
        try:
            ratios(Network(seed), output, budget)
        except Exception as error:
            raise AssertionError(f"network {seed}") from error


@pytest.mark.slow
def test_smooth_networks_keep_their_accuracy():
    """The noise of 8 bits in layers, whatever stands between them."""
    found = [min(ratios(Network(seed, smooth=True))) for seed in range(200)]
    assert np.median(found) > 35 and np.mean(np.array(found) < 20) < 0.05, sorted(found)[:20]
