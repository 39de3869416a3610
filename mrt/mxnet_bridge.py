"""The one place where this package imports MXNet:

    from mrt.mxnet_bridge import mx

`mrt.mxnet_import` says what MXNet needs on the Python and numpy of today, and supplies it.
"""
import os
import re
import sys
import warnings

from mrt import mxnet_import

__all__ = ["first_line", "mx"]


def _import_mxnet():
    if "mxnet" not in sys.modules:
        for name in [name for name in sys.modules if name.startswith("mxnet.")]:
            del sys.modules[name]  # left by an import that failed before the finder was there
    elif "MXNET_MKLDNN_ENABLED" not in os.environ:
        os.environ.update(mxnet_import.ENVIRONMENT)  # which MXNet reads when it computes for the first time
        warnings.warn("MXNet was imported first, and mrt is not installed in this environment: what MXNet has computed so "
                      "far may be wrong, because its MKLDNN kernels were on; import mrt first, or install it",
                      RuntimeWarning, stacklevel=3)
    mxnet_import.install()
    try:
        import mxnet
    except OSError as error:
        raise ImportError(
            f"MXNet is installed but its library does not load ({error}). MXNet 1.9.1 has wheels for x86-64 Linux; "
            "on other systems build MXNet from source and install it into this environment.") from error
    return mxnet


mx = _import_mxnet()


def first_line(error):
    """What an MXNetError says, without places in its sources and stack traces."""
    text = re.sub(r"\[\d\d:\d\d:\d\d\] \S+?:\d+: ", "", str(error).strip())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("Stack", "  [bt]"))]
    lines = [line for line in lines if line != "MXNetError:" and not line.startswith(("Traceback", 'File "'))]
    return re.sub(r"^(MXNetError: )+", "", lines[0]) if lines else "unknown MXNet error"
