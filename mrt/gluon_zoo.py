"""Pretrained networks of the gluoncv model zoo, as MRT checkpoints."""
import os

from mrt import conf
from mrt.errors import MRTError
from mrt.files import extend_fname
from mrt.mxnet_bridge import mx
from mrt.transformer import Model

__all__ = ["get_model", "save_model"]


def get_model(name, ctx=None, **kwargs):
    """The pretrained gluoncv network `name` as a gluon block; `kwargs` go to gluoncv (`pretrained=False` for random weights)."""
    try:
        from gluoncv import model_zoo
    except ImportError as error:
        raise MRTError(f"the network {name} can be fetched only with gluoncv, which does not import here ({error}); "
                       "install it: pip install '.[zoo]' in the checkout") from error
    kwargs.setdefault("pretrained", True)
    try:
        return model_zoo.get_model(name, ctx=ctx or mx.cpu(), **kwargs)
    except ValueError as error:
        raise MRTError(f"the gluoncv model zoo has no network {name!r}: {error}") from error
    except OSError as error:
        raise MRTError(f"the weights of {name} cannot be downloaded: {error}") from error


def save_model(name, data_dir=None, ctx=None, **kwargs):
    """Write data_dir/name.json and .params (data_dir: the model folder of `mrt.conf` by default); returns both paths.
    A network with several outputs becomes one symbol with all of them."""
    block = get_model(name, ctx, **kwargs)
    outputs = block(mx.sym.var("data"))
    symbol = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
    files = extend_fname(os.path.join(os.path.expanduser(data_dir or conf.MRT_MODEL_ROOT), name))
    Model(symbol, {param.name: param.data().as_in_context(mx.cpu()) for param in block.collect_params().values()}).save(*files)
    return files
