"""Thresholds accumulate over batches, in any order, in constant memory."""
import nets
import numpy as np
import pytest

from mrt import calibrate
from mrt.errors import MRTError, StateError
from mrt.graph import Entry, Graph
from mrt.mxnet_bridge import mx


def prepared():
    model = nets.model(nets.small_net(), nets.SMALL_SHAPE)
    model.prepare(nets.SMALL_SHAPE)
    return model


def thresholds(batches, **kwargs):
    mrt = prepared().get_mrt()
    for x in batches:
        mrt.set_data(x)
        mrt.calibrate(**kwargs)
    return mrt.th_dict


def test_the_threshold_is_the_largest_absolute_value_of_all_batches():
    first, second = nets.batch(nets.SMALL_SHAPE, 1), nets.batch(nets.SMALL_SHAPE, 2)
    both = thresholds([first, second])
    a, b = thresholds([first]), thresholds([second])
    assert both == {name: max(a[name], b[name]) for name in both}
    assert both["data"] == max(abs(first.asnumpy()).max(), abs(second.asnumpy()).max())
    assert any(a[n] > b[n] for n in both) and any(b[n] > a[n] for n in both)


@pytest.mark.parametrize("kwargs", [{}, {"lambd": 2.0}])
def test_the_order_of_batches_does_not_matter(kwargs):
    batches = [nets.batch(nets.SMALL_SHAPE, seed) for seed in range(3)]
    a, b = thresholds(batches, **kwargs), thresholds(batches[::-1], **kwargs)
    assert a.keys() == b.keys()
    np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-12)


def test_every_node_is_measured_as_mxnet_computes_it():
    model, x = prepared(), nets.batch(nets.SMALL_SHAPE)
    mrt = model.get_mrt()
    mrt.set_data(x)
    found = mrt.calibrate()
    for node in model.graph.topological():
        if not node.is_variable:
            part = Graph([Entry(node, 0)], model.graph.params).to_block("float32")
            np.testing.assert_allclose(found[node.name], abs(part(x).asnumpy()).max(), rtol=1e-5)


def test_lambda_is_mean_plus_deviations_below_the_maximum():
    statistics = calibrate.Statistics()
    values = np.random.default_rng(0).normal(0.5, 1, 10000).astype(np.float32)
    for part in np.split(values, 10):
        statistics.update(part)
    wanted = abs(values.mean(dtype=np.float64)) + 2 * values.std(dtype=np.float64)
    np.testing.assert_allclose(statistics.threshold("lambda", 2.0), wanted, rtol=1e-6)
    assert statistics.threshold("lambda", 100.0) == abs(values).max() == statistics.threshold("absmax", None)


def test_parameters_are_bounded_by_their_absolute_maximum_whatever_lambda():
    model = prepared()
    found = thresholds([nets.batch(nets.SMALL_SHAPE)], lambd=0.5)
    for name, value in model.graph.params.items():
        assert found[name] == abs(value).max()


def test_old_thresholds_are_merged_by_maximum():
    base = thresholds([nets.batch(nets.SMALL_SHAPE)])
    merged = thresholds([nets.batch(nets.SMALL_SHAPE)], old_ths={"c0_weight": 0.0, "r1": 1e6})
    assert merged["r1"] == 1e6
    assert all(merged[n] == base[n] for n in base if n != "r1")


def test_states_and_values_are_checked():
    mrt = prepared().get_mrt()
    with pytest.raises(StateError, match="set_data"):
        mrt.calibrate()
    with pytest.raises(MRTError, match="call calibrate first"):
        mrt.set_threshold("data", 1.0)
    mrt.set_data(nets.batch(nets.SMALL_SHAPE) * np.nan)
    with pytest.raises(MRTError, match="the calibration data holds values that are not finite"):
        mrt.calibrate()
    mrt = prepared().get_mrt()
    mrt.set_data(nets.batch(nets.SMALL_SHAPE))
    with pytest.raises(MRTError, match="unknown calibration method 'kurtosis'; known are absmax"):
        mrt.calibrate(method="kurtosis")
    with pytest.raises(MRTError, match="one context"):
        mrt.calibrate(ctx=[mx.cpu(0), mx.cpu(1)])
    mrt.calibrate()
    with pytest.raises(MRTError, match="no such node"):
        mrt.set_threshold("nowhere", 1.0)
    with pytest.raises(MRTError, match=">= 0"):
        mrt.set_threshold("data", -1.0)
