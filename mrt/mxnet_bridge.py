"""Import MXNet 1.9.1 on the Python and numpy of today.

MXNet's last release expects two things that have since gone: the alias `numpy.bool` (removed in numpy 1.24) and the
standard library's `distutils` (removed in Python 3.12, where MXNet compares version numbers with it while it is being
imported). Both are supplied here, in one place, and every module of this package gets MXNet from here:

    from mrt.mxnet_bridge import mx

`numpy.bool` becomes `numpy.bool_`, the meaning numpy 2 gives that name itself, and stays, because MXNet reads it at run
time too. The stand-in for `distutils` is withdrawn as soon as MXNet is imported.

MXNet's MKLDNN kernels are switched off unless the environment says otherwise: with them, wrong first batches and crashes
have been seen on networks that its plain kernels compute correctly, and calibration must be repeatable.
"""
import importlib.util
import os
import sys
import types
import warnings

import numpy as np

__all__ = ["mx"]


def _version_key(text):
    parts = []
    for part in str(text).replace("-", ".").replace("+", ".").split("."):
        digits = "".join(c for c in part if c.isdigit())
        parts.append(int(digits) if digits else 0)
    return tuple(parts)


class _Version:
    """As much of distutils.version.StrictVersion and LooseVersion as MXNet uses: ordering of numpy's own numbers."""

    def __init__(self, text):
        self.key = _version_key(text)

    def _other(self, other):
        return other.key if isinstance(other, _Version) else _version_key(other)

    def __lt__(self, other):
        return self.key < self._other(other)

    def __le__(self, other):
        return self.key <= self._other(other)

    def __gt__(self, other):
        return self.key > self._other(other)

    def __ge__(self, other):
        return self.key >= self._other(other)

    def __eq__(self, other):
        return self.key == self._other(other)

    __hash__ = None


def _import_mxnet():
    if "bool" not in vars(np):
        np.bool = np.bool_
    os.environ.setdefault("MXNET_MKLDNN_ENABLED", "0")
    os.environ.setdefault("MXNET_STORAGE_FALLBACK_LOG_VERBOSE", "0")  # MXNet would log every operator that lacks MKLDNN
    stand_ins = []
    if "distutils" not in sys.modules and importlib.util.find_spec("distutils") is None:
        package, version = types.ModuleType("distutils"), types.ModuleType("distutils.version")
        package.version = version
        version.StrictVersion = version.LooseVersion = _Version
        sys.modules["distutils"], sys.modules["distutils.version"] = package, version
        stand_ins = ["distutils", "distutils.version"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about numpy functions that MXNet looks for and does without
            import mxnet
    except OSError as error:
        raise ImportError(
            f"MXNet is installed but its library does not load ({error}). MXNet 1.9.1 has wheels for x86-64 Linux; "
            "on other systems build MXNet from source and install it into this environment.") from error
    finally:
        for name in stand_ins:
            del sys.modules[name]
    return mxnet


mx = _import_mxnet()
