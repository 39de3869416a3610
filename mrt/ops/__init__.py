"""Every operator MRT knows; importing this package fills the table `OPERATORS`."""
from mrt.ops import broadcast, elemwise, integer, nn, reduce, softmax, table, transform  # noqa: F401
from mrt.ops.base import OPERATORS, Operator, operator_of, register

__all__ = ["OPERATORS", "Operator", "operator_of", "register"]
