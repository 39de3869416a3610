"""The functions of the original binding, under their names.

Handles are opaque; every failure raises a CvmError with the status.
"""

from __future__ import annotations

import numpy as np

from .context import Context
from .model import Model, load

__all__ = [
    "CVMAPIFreeModel",
    "CVMAPIGetGasFromModel",
    "CVMAPIGetInputLength",
    "CVMAPIGetInputTypeSize",
    "CVMAPIGetOutputLength",
    "CVMAPIGetOutputTypeSize",
    "CVMAPIGetStorageSize",
    "CVMAPIInference",
    "CVMAPILoadModel",
]


def CVMAPILoadModel(json_str: str | bytes, param_bytes: bytes, ctx: Context | None = None) -> Model:
    """Loads a model from the contents of its files; the CPU by default."""
    symbol = json_str.encode() if isinstance(json_str, str) else json_str
    return load(symbol, param_bytes, ctx)


def CVMAPIFreeModel(net: Model) -> None:
    """Releases the model's memory; the handle must not be used again."""
    net.__del__()


def CVMAPIGetInputLength(net: Model) -> int:
    """Bytes of one input."""
    return net.input_length


def CVMAPIGetInputTypeSize(net: Model) -> int:
    """Bytes per input element, 1 or 4."""
    return net.input_type_size


def CVMAPIGetOutputLength(net: Model) -> int:
    """Bytes of one output."""
    return net.output_length


def CVMAPIGetOutputTypeSize(net: Model) -> int:
    """Bytes per output element, 1 or 4."""
    return net.output_type_size


def CVMAPIGetStorageSize(net: Model) -> int:
    """Bytes of all storage slots."""
    return net.storage_bytes


def CVMAPIGetGasFromModel(net: Model) -> int:
    """Cost of one inference."""
    return net.gas


def CVMAPIInference(net: Model, input_data: bytes) -> list[int]:
    """Runs the model; the output as a flat list of integers."""
    dtype = np.int8 if net.output_type_size == 1 else np.dtype("<i4")
    return np.frombuffer(net.infer(input_data), dtype).tolist()
