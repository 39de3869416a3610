"""Where accuracy is lost: the float network beside its integers."""
from mrt.inspect.inspection import inspect

__all__ = ["inspect"]
