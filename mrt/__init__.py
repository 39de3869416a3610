"""MRT: turns a trained MXNet network into one that computes in integers alone. Start with `mrt.transformer.Model`."""
from mrt.errors import MRTError

__all__ = ["MRTError", "__version__"]


def __getattr__(name):
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cvm_runtime import __version__  # only now: the runtime takes a moment to import
    return __version__
