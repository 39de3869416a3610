"""Constants far outside the range of the numbers they meet, up to infinity: bounds that never act, masks, fillers."""
import nets
import numpy as np
import pytest
from test_operators import ROWS, Draw, exact, quantized
from test_quantize import integers

from mrt.errors import ModelError, UnsupportedError
from mrt.mxnet_bridge import mx
from mrt.transformer import Model

S = mx.sym
SHAPE = (8, 6)
INFINITE = float("inf")
LEAST = 30  # dB: the layer in front has 8 bits


def some(t, value=1.0):
    """A constant: `value` at some places of every row, 0 elsewhere."""
    places = t.rng.random(SHAPE) < 0.4
    places[:, 0] = False
    return t.constant(values=np.where(places, value, 0.0))


def image(x):
    return S.Reshape(x, shape=(0, 1, 2, 3))


def padded(x, value, right=1):
    return S.Pad(image(x), mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 0, right), constant_value=value)


# functions of (Draw, numbers, V): V is as good as infinity
CASES = {
    "minimum": lambda t, x, V: S.minimum(x, V), "maximum": lambda t, x, V: S.maximum(x, -V),
    "broadcast_maximum": lambda t, x, V: S.broadcast_maximum(x, t.constant(values=[-V, 0.3, -V, -0.2, -V, 0.0])),
    "broadcast_minimum": lambda t, x, V: S.broadcast_minimum(t.constant(values=[V, 0.3, V, -0.2, V, 0.0]), x),
    "clip": lambda t, x, V: S.clip(x, -V, V), "clip_above": lambda t, x, V: S.clip(x, 0, V),
    "clip_below": lambda t, x, V: S.clip(x, -V, 0.5),
    "compare": lambda t, x, V: S.broadcast_lesser(S.concat(x, x * 0.1), t.constant(values=[V] * 5 + [-V] + [V] * 6)) * 0.1,
    "compare_steps": lambda t, x, V: S.concat(*(f(S.trunc(x) * 2) for f in (
        lambda y: y < 40, lambda y: y <= 40, lambda y: y > -40, lambda y: y >= -40, lambda y: y >= 40, lambda y: y > V,
        lambda y: y >= V, lambda y: y < V, lambda y: y >= S.ones_like(y) * 0.5))),
    "compare_number": lambda t, x, V: S.concat(x < V, x > V, x >= -V, x <= -V),
    "mask": lambda t, x, V: S.softmax(x + some(t, -V)),
    "subtracted": lambda t, x, V: S.softmax(x - some(t, V)), "negated": lambda t, x, V: S.softmin(x + some(t, V)),
    "mask_moved": lambda t, x, V: S.softmax(S.transpose(S.Reshape(x + some(t, -V), shape=(0, 2, 3)), axes=(0, 2, 1)), axis=1),
    "mask_and_bias": lambda t, x, V: S.softmax(S.broadcast_add(x + some(t, -V), t.constant(6))),
    "masks": lambda t, x, V: S.softmax(x + some(t, -V) + some(t, -V)),
    "log_softmax": lambda t, x, V: S.log_softmax(x + some(t, -1)),
    "where": lambda t, x, V: S.softmax(S.where(some(t), t.constant(values=np.full(SHAPE, -V)), x)),
    "where_twice": lambda t, x, V: S.softmax(S.where(some(t), t.constant(values=np.full(SHAPE, -V)), S.where(
        some(t), t.constant(values=np.full(SHAPE, -V)), x))),
    "largest": lambda t, x, V: S.max(S.where(some(t), t.constant(values=np.full(SHAPE, -V)), x), axis=1),
    "least": lambda t, x, V: S.min(S.where(some(t), t.constant(values=np.full(SHAPE, V)), x), axis=1),
    "relu": lambda t, x, V: S.relu(S.where(some(t), t.constant(values=np.full(SHAPE, -V)), x)),
    "sigmoid": lambda t, x, V: S.sigmoid(S.where(some(t), t.constant(values=np.full(SHAPE, -V)), x)),
    "tanh": lambda t, x, V: S.tanh(S.where(some(t), t.constant(values=np.full(SHAPE, V)), x)),
    "exp": lambda t, x, V: S.exp(S.where(some(t), t.constant(values=np.full(SHAPE, -V)), x)),
    "clipped": lambda t, x, V: S.clip(x + some(t, -V), -3, 2),
    "kept": lambda t, x, V: S.maximum(S.where(some(t), t.constant(values=np.full(SHAPE, -V)), x), -4),
    "concat": lambda t, x, V: S.softmax(S.concat(x, t.constant(values=np.full(SHAPE, -V)))),
    "stack": lambda t, x, V: S.max(S.stack(x, t.constant(values=np.full(SHAPE, -V)), axis=1), axis=1),
    "pad": lambda t, x, V: S.Pooling(padded(x, -V), kernel=(2, 2), pool_type="max"),
    "outside": lambda t, x, V: S.relu(S.Pooling(image(x), kernel=(1, 2), stride=(4, 1), pooling_convention="full")),
    "outside_padded": lambda t, x, V: S.relu(S.Pooling(image(x), kernel=(1, 1), stride=(2, 4), pooling_convention="full")),
    "pad_softmax": lambda t, x, V: S.softmax(padded(x, -V, 0), axis=2),
}
FINITE = {  # masks that are made of tensors, and one above, which gives no number where it is infinite
    "mask_above": lambda t, x, V: S.softmax(S.broadcast_add(x, t.constant(values=[0, 0, V, 0, 0, 0]))),
    "filled": lambda t, x, V: S.softmax(S.where(some(t), S.ones_like(x) * -V, x)),
    "filled_sum": lambda t, x, V: S.softmax(S.where(some(t), S.zeros_like(x) - V, x)),
    "computed": lambda t, x, V: S.softmax(x + (1 - (S.abs(t.data) > 0.5)) * -V),
    "computed_moved": lambda t, x, V: S.softmax(x + S.Reshape(S.expand_dims(S.abs(t.data) < 0.5, axis=1), shape=(-1, 6)) * -V),
    "concatenated": lambda t, x, V: S.softmax(S.concat(x, S.ones_like(x) * -V)),
}


def numbers():
    """Inputs that are not near +-0.5, where a comparison in 8 bits might go either way."""
    values = np.random.default_rng(0).normal(size=SHAPE)
    return mx.nd.array(np.where(abs(abs(values) - 0.5) < 0.05, 0, values))


def check(build, value):
    t = Draw(0, ROWS)
    x = numbers()
    layer = S.FullyConnected(t.data, num_hidden=SHAPE[1], name="fc")
    model = nets.model(build(t, layer, value), SHAPE, **t.values)
    wanted = nets.run(model, x)[0]
    mrt, _ = quantized(model, x)
    found = exact(mrt, x)[0] / mrt.get_output_scales()[0]
    assert ((found - wanted) ** 2).sum() <= 10 ** (-LEAST / 10) * (wanted ** 2).sum()


@pytest.mark.parametrize("value", [1e9, 3e4, 3.4e38, INFINITE])
@pytest.mark.parametrize("case", CASES)
def test_constants_meant_as_infinity(case, value):
    check(CASES[case], value)


@pytest.mark.parametrize("value", [1e9, 3e4])
@pytest.mark.parametrize("case", FINITE)
def test_large_constants(case, value):
    check(FINITE[case], value)


@pytest.mark.parametrize("build", [
    lambda x: S.softmax(S.broadcast_add(x, S.var("c", shape=(1, 6)))), lambda x: S.broadcast_add(x, S.var("c", shape=(1, 6))),
    lambda x: S.max(S.broadcast_add(x, S.var("c", shape=(1, 6))), axis=1)])
def test_large_constants_that_are_meant_stay(build):
    """Logits of very different sizes, and outputs that are large themselves."""
    x, c = nets.batch(SHAPE), np.array([[0, 20, 40, 60, 90, 100]])
    model = nets.model(build(S.FullyConnected(S.var("data"), num_hidden=6, name="fc")), SHAPE, c=c)
    wanted = nets.run(model, x)[0]
    mrt, _ = quantized(model, x)
    found = exact(mrt, x)[0] / mrt.get_output_scales()[0]
    assert ((found - wanted) ** 2).sum() <= 10 ** (-LEAST / 10) * (wanted ** 2).sum()


def test_an_output_keeps_what_fills_it():
    check(lambda t, x, V: S.where(some(t), t.constant(values=np.full(SHAPE, -V)), x), 1e9)


@pytest.mark.parametrize("low, high", [(1, -1), (0.3, -0.4), (2, 1), (-1, -2), (1e9, 0), (0, -1e9), (float("nan"), 0.5),
                                       (-0.5, float("nan")), (float("nan"),) * 2, (-INFINITE, INFINITE), (-INFINITE, 0.5),
                                       (-0.5, INFINITE), (3, INFINITE), (50, 60), (-1e9, -1e8), (0.5, 0.5)])
def test_clip_with_any_bounds(low, high):
    """As MXNet clips: above the upper bound it is that, even if it lies below the lower one."""
    x = nets.batch(SHAPE)
    model = nets.model(S.clip(S.var("data"), low, high), SHAPE)
    wanted = nets.run(model, x)[0]
    mrt, _ = quantized(model, x)
    found = integers(mrt, x)[0] / mrt.get_output_scales()[0]
    input_step = abs(x.asnumpy()).max() / 127
    step = max(input_step, abs(wanted).max() / 2 ** 13)
    near = abs(x.asnumpy() - high) <= input_step if low > high else np.zeros(SHAPE, bool)  # there it may go either way
    assert (abs(found - wanted) <= step)[~near].all() and near.mean() < 0.1


@pytest.mark.parametrize("build, reason", [
    (lambda x: x * INFINITE, "scalar=inf; write a finite number"), (lambda x: x + float("nan"), "scalar=nan; write a finite"),
    (lambda x: S.maximum(x, float("nan")), "scalar=nan"), (lambda x: S.clip(x, INFINITE, 1), "leave nothing finite"),
    (lambda x: S.LeakyReLU(x, slope=-INFINITE), "slope=-inf"), (lambda x: x ** INFINITE, "scalar=inf"),
    (lambda x: S.Pad(image(x), mode="constant", pad_width=(0,) * 6 + (1, 1), constant_value=float("nan")), "constant_value=nan")])
def test_numbers_that_are_not_finite_where_they_have_no_meaning(build, reason):
    with pytest.raises(UnsupportedError, match=reason):
        nets.model(build(S.var("data")), SHAPE).prepare(SHAPE)


@pytest.mark.parametrize("build, value", [
    (lambda x, c: S.broadcast_mul(x, c), INFINITE), (lambda x, c: S.broadcast_add(x, c), np.nan),
    (lambda x, c: S.FullyConnected(x, S.tile(S.Reshape(c, shape=(1, 6)), reps=(2, 1)), num_hidden=2, no_bias=True), -INFINITE),
    (lambda x, c: S.Group([x, c * 1.0]), INFINITE)])
def test_constants_that_are_not_finite_where_they_have_no_meaning(build, value):
    model = Model(build(S.var("data"), S.var("c", shape=(6,))), {"c": np.array([1, 2, value, 3, 4, 5], np.float32)})
    with pytest.raises(ModelError, match="not finite"):
        model.prepare(SHAPE)


def test_a_file_may_hold_an_infinite_mask(tmp_path):
    files = str(tmp_path / "net.json"), str(tmp_path / "net.params")
    S.softmax(S.broadcast_add(S.var("data"), S.var("mask", shape=(1, 6)))).save(files[0])
    mx.nd.save(files[1], {"mask": mx.nd.array([[0, 0, -INFINITE, 0, -INFINITE, 0]])})
    model = Model.load(*files)
    wanted = nets.run(model, numbers())[0]
    mrt, _ = quantized(model, numbers())
    assert abs(exact(mrt, numbers())[0] / mrt.get_output_scales()[0] - wanted).max() < 0.01
