"""Empirical bias correction: the means of the integer network's layers become those of the float network."""
import nets
import numpy as np
import pytest

from mrt import sim_quant_helper as sim
from mrt.compiler import compile_graph
from mrt.errors import MRTError
from mrt.inspect.inspection import inspect
from mrt.mxnet_bridge import mx
from mrt.transformer import MRT

SHAPE = (4, 3, 10, 10)


def network(dense=True):
    """Grouped and plain convolutions and a dense layer, whose second layer saturates its input when its threshold is low."""
    x = mx.sym.relu(nets.conv(mx.sym.var("data"), "a", num_filter=6), name="r")
    x = nets.conv(x, "b", num_filter=6, num_group=3, no_bias=True, pad=(1, 1))
    return mx.sym.FullyConnected(mx.sym.relu(x, name="s"), num_hidden=5, name="c", no_bias=True) if dense else x


def calibrated(correction, dense=True, batches=3, **techniques):
    model = nets.model(network(dense), SHAPE)
    real = [nets.run(model, nets.batch(SHAPE, seed))[0] for seed in range(batches)]
    model.prepare(SHAPE)
    mrt = model.get_mrt()
    mrt.set_techniques(bias_correction=correction, **techniques)
    for seed in range(batches):
        mrt.set_data(nets.batch(SHAPE, seed))
        mrt.calibrate()
    mrt.set_threshold("r", mrt.th_dict["r"] / 3)  # so that much is clipped, of which analytic correction knows nothing
    mrt.set_output_prec(16)
    return mrt, np.concatenate(real)


def mean_error(correction, **how):
    mrt, real = calibrated(correction, **how)
    graph = mrt.quantize().graph
    codes = [sim.load_real_data(nets.batch(SHAPE, seed), "data", mrt.get_inputs_ext()) for seed in range(3)]
    found = np.concatenate([nets.run(mrt.current_model, part)[0] for part in codes]) / mrt.get_output_scales()[0]
    compile_graph(graph)
    over = (0,) + tuple(range(2, real.ndim))
    return abs((found - real).mean(axis=over)).max() / real.std()


@pytest.mark.parametrize("how", [{"dense": False}, {"dense": True}, {"dense": True, "two_part_budget": 1}], ids=str)
def test_means_of_the_outputs_are_those_of_the_float_network(how):
    assert mean_error("empirical", **how) < mean_error("analytic", **how) / 10
    assert mean_error("empirical", **how) < 0.01


def test_every_layer_is_corrected_with_those_before_it():
    """The report compares both networks node by node on the same samples."""
    mrt, _ = calibrated("empirical")
    before = inspect(mrt, [nets.batch(SHAPE, seed) for seed in range(3)])
    mrt.techniques["bias_correction"] = "analytic"
    after = inspect(mrt, [nets.batch(SHAPE, seed) for seed in range(3)])
    snr = [{row.name: row.snr_db for row in report.rows} for report in (before, after)]
    assert snr[0]["b"] > snr[1]["b"] and snr[0]["c"] > snr[1]["c"]


def test_it_must_be_chosen_before_calibration():
    mrt, _ = calibrated("analytic")
    assert not mrt.samples
    mrt.set_techniques(bias_correction="empirical")
    with pytest.raises(MRTError, match="needs samples, and none were kept; choose it"):
        mrt.quantize()


def test_the_first_samples_are_kept_and_no_more(monkeypatch):
    monkeypatch.setattr("mrt.transformer.MAX_SAMPLES", 10)
    mrt, _ = calibrated("empirical", batches=5)
    assert [len(batch) for batch in mrt.samples] == [4, 4, 2]


def test_the_same_bytes_again_and_from_a_checkpoint(tmp_path):
    made = []
    for save in (False, False, True):
        mrt, _ = calibrated("empirical")
        if save:
            mrt.save("net.mrt", str(tmp_path))
            mrt = MRT.load("net.mrt", str(tmp_path))
        made.append(compile_graph(mrt.quantize().graph))
    assert made[0] == made[1] == made[2]
    assert compile_graph(calibrated("analytic")[0].quantize().graph) != made[0]
