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
    for part in np.split(values.reshape(100, 100), 10):
        statistics.update(part)
    wanted = abs(values.mean(dtype=np.float64)) + 2 * values.std(dtype=np.float64)
    np.testing.assert_allclose(statistics.threshold("lambda", 2.0), wanted, rtol=1e-5)
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
    with pytest.raises(MRTError, match=r"method must be 'absmax' or .* found 'kurtosis'"):
        mrt.calibrate(method="kurtosis")
    with pytest.raises(MRTError, match="one context"):
        mrt.calibrate(ctx=[mx.cpu(0), mx.cpu(1)])
    mrt.calibrate()
    with pytest.raises(MRTError, match="no such node"):
        mrt.set_threshold("nowhere", 1.0)
    with pytest.raises(MRTError, match="at least 0"):
        mrt.set_threshold("data", -1.0)


# --- histograms

def heavy_tailed(seed=0, count=200000):
    return np.random.default_rng(seed).standard_t(3, count).astype(np.float32)


def histogram(values, parts=1):
    found = calibrate.Histogram()
    for part in np.array_split(values, parts):
        found.update(part, float(np.abs(part).max()))
    return found


def quantization_error(values, bound, limit=127):
    return ((values - np.clip(np.rint(values * limit / bound), -limit, limit) * bound / limit) ** 2).mean()


def test_a_histogram_counts_everything_whatever_the_range_was_at_first():
    values = heavy_tailed()
    found = histogram(values, parts=50)
    assert found.counts.sum() == values.size and len(found.counts) == calibrate.BINS
    assert found.top >= np.abs(values).max() > found.top / 4
    for share in (50, 90, 99.9):
        wanted = np.percentile(np.abs(values), share)
        assert abs(found.percentile(share) - wanted) <= 2 * found.top / calibrate.BINS


def test_the_mse_bound_is_near_the_best_there_is():
    values = heavy_tailed()
    bound = histogram(values).mse(127)
    best = min(quantization_error(values, b) for b in np.linspace(0.02, 1, 50) * np.abs(values).max())
    assert quantization_error(values, bound) < 1.1 * best
    assert quantization_error(values, bound) < 0.7 * quantization_error(values, np.abs(values).max())


def test_no_method_clips_what_has_no_tail():
    values = np.random.default_rng(0).uniform(-1, 1, 100000).astype(np.float32)
    found = histogram(values)
    assert found.mse(127) > 0.97 and found.percentile(99.99) > 0.98 and found.kl() > 0.9


def test_kl_clips_a_tail():
    values = heavy_tailed()
    assert np.percentile(np.abs(values), 90) < histogram(values).kl() < np.abs(values).max()


@pytest.mark.parametrize("method", ["percentile", "mse", "kl"])
def test_every_method_gives_bounds_no_larger_than_the_maximum(method):
    largest, found = thresholds([nets.batch(nets.SMALL_SHAPE)]), thresholds([nets.batch(nets.SMALL_SHAPE)], method=method)
    assert found.keys() == largest.keys()
    assert all(0 < found[name] <= largest[name] for name in found)


@pytest.mark.parametrize("op", ["dense", "conv", "depthwise"])
def test_sensitivities_say_how_errors_reach_the_outputs(op):
    """Against the derivatives themselves; 300 random directions leave an error of some percent."""
    data = mx.sym.var("data")
    layer = {"dense": lambda: mx.sym.FullyConnected(data, num_hidden=5, name="y"),
             "conv": lambda: mx.sym.Convolution(data, kernel=(3, 3), num_filter=5, num_group=1, name="y"),
             "depthwise": lambda: mx.sym.Convolution(data, kernel=(3, 3), num_filter=4, num_group=4, name="y")}[op]()
    shape = (1, 4) if op == "dense" else (1, 4, 6, 6)
    model, rng = nets.model(mx.sym.relu(layer), shape), np.random.default_rng(0)
    x = rng.normal(size=shape) + 1
    model.prepare(shape)
    statistics = {}
    calibrate.observe(model.graph, x, statistics, mx.cpu())
    statistics["data"].sums = statistics["data"].sums * 0  # as if the means were 0: all of the input counts
    found = [calibrate.sensitivities(model.graph, x, statistics, seed, mx.cpu())["y"] for seed in range(300)]
    per_input, per_weight, per_weight_inputs = (np.mean(values, axis=0) for values in zip(*found))

    weight = model.graph.params["y_weight"].copy()
    right = nets.run(model, mx.nd.array(x))[0].astype(np.float64)

    def power(name, place, step=1e-2):
        """Of the derivative of the outputs by one number, relative to the outputs."""
        values = {"data": x.copy(), "y_weight": weight.copy()}
        values[name].flat[place] += step
        model.graph.params["y_weight"] = values["y_weight"]
        return (((nets.run(model, mx.nd.array(values["data"]))[0] - right) / step) ** 2).sum() / (right ** 2).sum()

    of_data = np.array([power("data", i) for i in range(x.size)]).reshape(4, -1).sum(axis=1)
    of_weight = np.array([power("y_weight", i) for i in range(weight.size)]).reshape(len(weight), -1).sum(axis=1)
    np.testing.assert_allclose(per_input, of_data, rtol=0.25)
    np.testing.assert_allclose(per_weight, of_weight, rtol=0.25)
    assert per_weight_inputs.sum() == pytest.approx(per_weight.sum())


def test_a_network_without_gradients_has_no_sensitivities():
    x = nets.conv(mx.sym.var("data"), "c", num_filter=3)
    model = nets.model(mx.sym.argmax(x, axis=1), (1, 2, 5, 5))
    statistics, data = {}, np.ones((1, 2, 5, 5), np.float32)
    calibrate.observe(model.graph, data, statistics, mx.cpu())
    assert calibrate.sensitivities(model.graph, data, statistics, 0, mx.cpu()) == {}
