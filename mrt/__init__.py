"""MRT: turns a trained MXNet network into one that computes in integers alone. Start with `mrt.transformer.Model`."""
from mrt.errors import MRTError

__version__ = "0.1.0"
__all__ = ["MRTError", "__version__"]
