"""Every operator MRT knows; importing this package fills the table `OPERATORS`."""
from mrt.ops import (  # noqa: F401
    broadcast,
    deconvolution,
    elemwise,
    integer,
    layers,
    norm,
    pooling,
    rearrange,
    reduce,
    refused,
    resize,
    rows,
    select,
    softmax,
    table,
    transform,
)
from mrt.ops.base import OPERATORS, Operator, is_layer, operator_of, register

__all__ = ["OPERATORS", "Operator", "is_layer", "operator_of", "register"]
