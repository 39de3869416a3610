"""Thresholds accumulate over batches, in any order, in constant memory."""
import warnings

import nets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_operators import CASES, exact, network

from mrt.errors import MRTError, MRTWarning, StateError
from mrt.execute import infer_shapes, invoke, to_block
from mrt.graph import Entry, Graph
from mrt.mxnet_bridge import mx
from mrt.ops import OPERATORS
from mrt.quantization import calibrate


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


# --- order and partition

SAMPLE_SHAPE = (1,) + nets.SMALL_SHAPE[1:]
METHODS = [{"method": "absmax"}, {"method": "percentile"}, {"method": "mse"}, {"method": "kl"}, {"lambd": 2.0}]


def one_by_one():
    """The small network prepared for one sample, and samples of very different sizes, the first one all zeros."""
    model = nets.model(nets.small_net(), SAMPLE_SHAPE)
    model.prepare(SAMPLE_SHAPE)
    sizes = np.array([0, 1, 100, 1e-3, 7, 1, 3, 1e-30, 0.5]).reshape(9, 1, 1, 1)
    return model.graph, (nets.batch((9,) + SAMPLE_SHAPE[1:], 5).asnumpy() * sizes).astype(np.float32)


def statistics_of(graph, batches):
    kept = {}
    for batch in batches:
        more = {}
        calibrate.observe(graph, calibrate.units(graph, batch), more, mx.cpu())
        kept = calibrate.merged(kept, more)
    return kept


@given(st.permutations(range(9)), st.sets(st.integers(1, 8)))
@settings(max_examples=15)
def test_thresholds_do_not_depend_on_the_order_of_samples_or_their_batches(order, cuts):
    graph, samples = one_by_one()
    whole, parts = statistics_of(graph, [samples]), statistics_of(graph, np.split(samples[order], sorted(cuts)))
    for name in whole:
        np.testing.assert_array_equal(whole[name].histogram.counts, parts[name].histogram.counts)
    for kwargs in METHODS:
        method, lambd = kwargs.get("method", "lambda"), kwargs.get("lambd")
        assert calibrate.thresholds(graph, whole, method, lambd) == calibrate.thresholds(graph, parts, method, lambd)


@pytest.mark.parametrize("kwargs", METHODS, ids=str)
def test_nor_do_those_of_an_mrt_object(kwargs):
    model = nets.model(nets.small_net(), SAMPLE_SHAPE)
    model.prepare(SAMPLE_SHAPE)
    samples, found = nets.batch((5,) + SAMPLE_SHAPE[1:], 6), []
    for order, cuts in ((range(5), [5]), ((4, 2, 0, 1, 3), (1, 5)), ((3, 1, 4, 0, 2), (2, 4, 5))):
        mrt, begin = model.get_mrt(), 0
        shuffled = mx.nd.array(samples.asnumpy()[list(order)])
        for end in cuts:
            mrt.set_data(shuffled[begin:end])
            mrt.calibrate(**kwargs)
            begin = end
        found.append(mrt.th_dict)
    assert found[0] == found[1] == found[2]


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), min_size=1))
def test_a_histogram_is_the_same_however_its_values_come(parts):
    def filled(values):
        result = calibrate.Histogram()
        for part in values:
            part = np.array(part, np.float32)
            result.update(part, float(np.abs(part).max()))
        return result

    everything = filled([[v for part in parts for v in part]])
    added = calibrate.Histogram()
    for part in parts:
        added = added + filled([part])
    for other in (filled(parts), filled(parts[::-1]), added):
        np.testing.assert_array_equal(other.counts, everything.counts)
        assert other.largest == everything.largest
    assert everything.counts.sum() == sum(map(len, parts))
    if everything.largest > 0:
        assert everything.top / 2 <= everything.largest < everything.top


def test_sums_are_finite_where_float32_is_too_small():
    statistics = calibrate.Statistics()
    statistics.update(np.full((1, 2, 3), 3e38, np.float32))
    assert statistics.threshold("lambda", 0.1) == pytest.approx(3e38) and np.isfinite(statistics.channels().square).all()


# --- what is measured

def test_every_node_is_measured_as_mxnet_computes_it():
    model, x = prepared(), nets.batch(nets.SMALL_SHAPE)
    mrt = model.get_mrt()
    mrt.set_data(x)
    found = mrt.calibrate()
    for node in model.graph.topological():
        if not node.is_variable:
            part = to_block(Graph([Entry(node, 0)], model.graph.params), "float32")
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
    with pytest.raises(MRTError, match="calibrate_method is 'kurtosis', expected 'absmax' or 'lambda'"):
        mrt.calibrate(method="kurtosis")
    with pytest.raises(MRTError, match="one context"):
        mrt.calibrate(ctx=[mx.cpu(0), mx.cpu(1)])
    mrt.calibrate()
    with pytest.raises(MRTError, match="no such node"):
        mrt.set_threshold("nowhere", 1.0)
    with pytest.raises(MRTError, match=r"thresholds of data is -1\.0, expected a number of at least 0"):
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
    calibrate.observe(model.graph, [x], statistics, mx.cpu())
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
    calibrate.observe(model.graph, [data], statistics, mx.cpu())
    assert calibrate.sensitivities(model.graph, data, statistics, 0, mx.cpu()) == {}


# --- gradients

def prepared_with(op):
    """A prepared graph that holds a core operator."""
    for layout, other, k in CASES:
        if other == op:
            model, shape = network(layout, op, k, 1)
            model.prepare(shape)
            if any(node.kind == op for node in model.graph.topological()):
                return model.graph
    raise AssertionError(f"no case of {op} prepares to a network that holds it")


def test_every_core_operator_says_whether_it_has_a_gradient():
    undecided = [name for name, operator in OPERATORS.items() if operator.is_core and operator.differentiable is None]
    assert not undecided, f"set `differentiable` of {', '.join(undecided)} in mrt/ops"


@pytest.mark.parametrize("op", sorted(name for name, operator in OPERATORS.items() if operator.differentiable))
def test_a_gradient_is_what_mxnet_computes(op):
    graph, rng = prepared_with(op), np.random.default_rng(0)
    node, shapes = next(node for node in graph.topological() if node.kind == op), infer_shapes(graph)
    arrays = [graph.params[e.node.name] if graph.is_param(e.node) else np.abs(rng.normal(size=shapes[e.node][0])) + 0.3
              for e in node.inputs]
    arrays = [mx.nd.array(values) for values in arrays]
    i = len(arrays) - 1 if op == "where" else 0
    arrays[i].attach_grad()
    with mx.autograd.record(train_mode=False):
        result = invoke(node, arrays)[0]
    direction, step = rng.normal(size=result.shape), rng.normal(size=arrays[i].shape)
    result.backward(mx.nd.array(direction))
    expected = (arrays[i].grad.asnumpy() * step).sum()

    def along(length):
        moved = arrays[:i] + [arrays[i] + mx.nd.array(step * length)] + arrays[i + 1:]
        return (invoke(node, moved)[0].asnumpy().astype(np.float64) * direction).sum()

    assert (along(1e-3) - along(-1e-3)) / 2e-3 == pytest.approx(expected, rel=0.02, abs=0.02)


@pytest.mark.parametrize("head", [mx.sym.log_softmax, mx.sym.hard_sigmoid, lambda f: mx.sym.log(mx.sym.abs(f)),
                                  lambda f: mx.sym.where(f > 0, f, f * 0.1), lambda f: mx.sym.rsqrt(mx.sym.abs(f) + 1)])
def test_sensitivities_are_known_whatever_the_network_ends_in(head):
    x = mx.sym.FullyConnected(mx.sym.relu(nets.conv(mx.sym.var("data"), "c", num_filter=4)), num_hidden=5, name="f")
    model = nets.model(head(x), (1, 2, 6, 6))
    model.prepare((1, 2, 6, 6))
    mrt = model.get_mrt()
    mrt.set_data(nets.batch((3, 2, 6, 6)))
    mrt.calibrate()
    assert set(mrt.sensitivities) == {"c", "f"}


@pytest.mark.parametrize("layout, op, k", [case for case in CASES if not OPERATORS[case[1]].is_core and case[2] < 2])
def test_rewritten_operators_are_finite_where_mxnet_is(layout, op, k):
    model, shape = network(layout, op, k, 1)
    for size in (0, 100, 1e4):
        x = mx.nd.array(nets.batch(shape) * size)
        real = nets.run(model, x)
        if size == 0:
            prepared = type(model).of(model.graph)
            prepared.prepare(shape)
        for a, b in zip(real, nets.run(prepared, x)):
            assert np.isfinite(b[np.isfinite(a)]).all()


@pytest.mark.parametrize("axis, temperature", [(1, None), (-1, None), (1, 0.5)])
def test_log_softmax_of_logits_far_apart(axis, temperature):
    x = mx.nd.array([[0, 50, 120], [1, 2, 3], [-300, 0, 0]])
    model = nets.model(mx.sym.log_softmax(mx.sym.var("data"), axis=axis, temperature=temperature), (1, 3))
    real = nets.run(model, x)[0]
    model.prepare((1, 3))
    np.testing.assert_allclose(nets.run(model, x)[0], real, rtol=1e-5, atol=1e-5)
    mrt = model.get_mrt()
    mrt.set_input_prec(16)
    mrt.set_data(x)
    mrt.calibrate()
    mrt.quantize()
    codes = exact(mrt, x)[0]
    np.testing.assert_allclose(codes / mrt.get_output_scales()[0], real, atol=0.002 * abs(real).max())


# --- batches that are no batches

def calibrated_once():
    mrt = prepared().get_mrt()
    mrt.set_techniques(rounding="adaptive", bias_correction="empirical")
    mrt.set_data(nets.batch(nets.SMALL_SHAPE))
    mrt.calibrate()
    return mrt


def state(mrt):
    return {name: [(value.count, value.absmax.tolist(), value.histogram.counts.tolist()) for value in mrt._statistics.values()]
            if name == "_statistics" else repr(value) for name, value in vars(mrt).items() if name not in ("_data", "_observed")}


def test_a_batch_that_is_refused_changes_nothing(monkeypatch):
    mrt, good = calibrated_once(), nets.batch(nets.SMALL_SHAPE, 9)
    before = state(mrt)
    bad = good.asnumpy().copy()
    bad[1, 0, 3, 3] = np.nan
    for data in (bad, bad * 0 + np.inf):
        mrt.set_data(data)
        with pytest.raises(MRTError, match="holds values that are not finite"):
            mrt.calibrate()
        assert state(mrt) == before
    mrt.set_data(good)
    for broken in ("sensitivities", "thresholds", "channels"):
        def fail(*args):
            raise KeyboardInterrupt
        with monkeypatch.context() as patch:
            patch.setattr(calibrate, broken, fail)
            with pytest.raises(KeyboardInterrupt):
                mrt.calibrate()
        assert state(mrt) == before
    with pytest.raises(MRTError, match="needs a value of lambd"):
        mrt.calibrate(method="lambda")
    assert state(mrt) == before
    mrt.calibrate()
    other = prepared().get_mrt()
    for x in (nets.batch(nets.SMALL_SHAPE), good):
        other.set_data(x)
        other.calibrate()
    assert mrt.th_dict == other.th_dict


@pytest.mark.parametrize("data, hint", [
    (np.ones((3, 8, 8)), "add an axis for the batch, data[None]"),
    (np.ones((8, 8)), "it has 2 axes and not 4"),
    (np.ones((2, 8, 8, 3)), "its axes stand in another order, transpose it"),
    (np.ones((1, 1, 8, 8)), "axis 1 has 1 entries (channels, in a picture) and not 3"),
    (np.ones((2, 4, 8, 8)), "axis 1 has 4 entries"),
    (np.ones((0, 3, 8, 8)), "it holds no samples"),
    (np.ones((1, 3, 20, 20)), "resize the samples, or prepare the network for their size"),
    (np.ones((1, 3, 8, 20)), "resize the samples"),
    (np.ones((1, 1, 3, 8, 8)), "it has 5 axes and not 4"),
    ([np.ones((3, 8, 8))] * 4, "is a list of 4 items, expected one array (NDArray or numpy) of shape (1, 3, 8, 8)"),
    (None, "is a NoneType"), (3.0, "is a float"), (np.array([["a"]]), "holds values of type <U1, expected numbers"),
])
def test_data_of_another_shape_is_refused_in_one_sentence(data, hint):
    model = nets.model(nets.conv(mx.sym.var("data"), "c", num_filter=4), (1, 3, 8, 8))
    model.prepare((1, 3, 8, 8))
    mrt = model.get_mrt()
    for value in (data, mx.nd.array(data)) if isinstance(data, np.ndarray) and data.size and data.dtype.kind == "f" else (data,):
        with pytest.raises(MRTError) as caught:
            mrt.set_data(value)
        assert hint in str(caught.value) and "the calibration data" in str(caught.value) and "\n" not in str(caught.value)


def test_samples_may_lie_along_another_axis():
    """As where texts are columns: (38, n)."""
    x = mx.sym.transpose(mx.sym.Embedding(mx.sym.var("data"), input_dim=9, output_dim=4), axes=(1, 2, 0))
    model = nets.model(mx.sym.FullyConnected(mx.sym.max(x, axis=2), num_hidden=3), (6, 1))
    model.prepare((6, 1))
    ids = np.random.default_rng(0).integers(0, 9, (6, 5))
    found = []
    for batches in ([ids], [ids[:, :2], ids[:, 2:]], [ids[:, i:i + 1] for i in (4, 2, 0, 1, 3)]):
        mrt = model.get_mrt()
        for batch in batches:
            mrt.set_data(batch)
            mrt.calibrate()
        found.append(mrt.th_dict)
    assert found[0] == found[1] == found[2]
    with pytest.raises(MRTError, match="expected"):
        mrt.set_data(ids[:5])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_samples_whatever_the_network_was_prepared_for(count):
    mrt = prepared().get_mrt()
    mrt.set_data(nets.batch((count,) + nets.SMALL_SHAPE[1:]))
    mrt.calibrate()
    assert mrt._statistics["data"].samples == count


def test_a_network_that_holds_on_to_its_batch_takes_multiples_of_it():
    halves = mx.sym.concat(*mx.sym.split(mx.sym.var("data"), num_outputs=2, axis=0))
    fixed = mx.sym.Reshape(mx.sym.var("data"), shape=(2, 3, 1))
    for symbol, message in ((halves, "the network takes multiples of 2"),
                            (fixed, r"prepared for \(2, 3\), on .* \(3, 3\): Check")):
        model = nets.model(symbol, (2, 3))
        model.prepare((2, 3))
        mrt = model.get_mrt()
        mrt.set_data(nets.batch((4, 3)))
        mrt.calibrate()
        with pytest.raises(MRTError, match=message):
            mrt.set_data(nets.batch((3, 3)))
            mrt.calibrate()


def test_zeros_are_warned_of():
    mrt = prepared().get_mrt()
    mrt.set_data(nets.batch(nets.SMALL_SHAPE) * 0)
    with pytest.warns(MRTWarning, match="holds nothing but zeros"):
        mrt.calibrate()
    mrt.set_data(nets.batch(nets.SMALL_SHAPE))
    with warnings.catch_warnings():
        warnings.simplefilter("error", MRTWarning)
        mrt.calibrate()
