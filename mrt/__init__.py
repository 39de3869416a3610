"""MRT: turns a trained MXNet network into one that computes in integers alone. Start with `mrt.transformer.Model`."""
from cvm_runtime import __version__
from mrt.errors import MRTError

__all__ = ["MRTError", "__version__"]
