"""Small seeded networks for the tests: (symbol, params, shape of data)."""
import numpy as np

from mrt.mxnet_bridge import mx
from mrt.transformer import Model


def model(symbol, shape, seed=0, scale=1.0, **values):
    """A Model of `symbol` with random float32 parameters (variances positive), except those given by name."""
    rng = np.random.default_rng(seed)
    arg_shapes, _, aux_shapes = symbol.infer_shape(data=shape)
    names = list(zip(symbol.list_arguments(), arg_shapes)) + list(zip(symbol.list_auxiliary_states(), aux_shapes))
    params = {}
    for name, size in names:
        if name == "data":
            continue
        value = rng.normal(size=size) * scale
        if name.endswith("_var"):
            value = np.abs(value) + 0.1
        params[name] = np.asarray(values.get(name, value), np.float32).reshape(size)
    return Model(symbol, params)


def batch(shape, seed=1):
    return mx.nd.array(np.random.default_rng(seed).normal(size=shape))


def run(a_model, x):
    y = a_model.to_graph()(x)
    return [v.asnumpy() for v in (y if isinstance(y, (list, tuple)) else [y])]


def conv(x, name, **attrs):
    attrs.setdefault("kernel", (3, 3))
    return mx.sym.Convolution(x, name=name, **attrs)


def small_net():
    """Every operator of the digit networks, with batch normalization in all places it may stand."""
    x = mx.sym.var("data")
    x = conv(x, "c0", num_filter=6)
    x = mx.sym.BatchNorm(x, name="bn0", fix_gamma=False)
    x = mx.sym.Activation(x, act_type="relu", name="r0")
    x = mx.sym.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max", name="p0")
    x = mx.sym.BatchNorm(x, name="bn1", fix_gamma=True)
    x = conv(x, "c1", num_filter=8, num_group=2, no_bias=True, pad=(1, 1))
    x = mx.sym.relu(x, name="r1")
    x = mx.sym.Dropout(mx.sym.Flatten(x, name="f"), p=0.5, name="d")
    x = mx.sym.FullyConnected(x, num_hidden=12, name="fc0")
    x = mx.sym.BatchNorm(x, name="bn2", fix_gamma=False, eps=1e-5)
    x = mx.sym.relu(mx.sym.Reshape(x, shape=(-1, 3, 2, 2), name="rs"), name="r2")
    return mx.sym.FullyConnected(x, num_hidden=5, name="fc1")


SMALL_SHAPE = (2, 1, 12, 12)
