"""Loading and running models."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np

from . import _lib
from .context import Context, cpu

# A path (str or os.PathLike), or the contents (bytes).
Source = Union[str, "os.PathLike[str]", bytes]

_INT32 = np.iinfo(np.int32)


class Tensor(NamedTuple):
    """Shape and precision of a tensor: values lie in -(2^(p-1)-1) .. 2^(p-1)-1."""

    shape: tuple[int, ...]
    precision: int


class Node(NamedTuple):
    """One node of the graph; ``op`` is "null" for a variable."""

    index: int
    name: str
    op: str
    outputs: list[Tensor]
    gas: int


def _contents(source: Source, what: str) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    try:
        return Path(os.fspath(source)).read_bytes()
    except TypeError:
        raise TypeError(f"{what} is a {type(source).__name__}, expected a path or the contents as bytes") from None
    except OSError as e:
        raise _lib.CvmRuntimeError(f"the {what} file {source} cannot be read: {e.strerror}") from None


def load(symbol: Source, params: Source, ctx: Context | None = None) -> Model:
    """Loads and verifies a model.

    ``symbol`` and ``params`` are paths (``str`` or ``os.PathLike``) or the
    contents (``bytes``). Raises CvmLogicError or CvmRuntimeError with the place
    of the fault in its text.
    """
    return Model(_contents(symbol, "symbol"), _contents(params, "params"), ctx or cpu())


def gas(symbol: Source) -> int:
    """Cost of one inference, from the symbol alone."""
    out = ctypes.c_ulonglong()
    _lib.call("CVMAPIGetGasFromGraphFile", _contents(symbol, "symbol"), ctypes.byref(out))
    return out.value


def _tensor(info: _lib.TensorInfo) -> Tensor:
    return Tensor(tuple(info.shape[: info.ndim]), info.precision)


class Model:
    """A loaded model. May be run from several threads at once."""

    def __init__(self, symbol: bytes, params: bytes, ctx: Context) -> None:
        self._handle = ctypes.c_void_p()
        handle = ctypes.c_void_p()
        _lib.call(
            "CVMAPILoadModel",
            symbol,
            len(symbol),
            params,
            len(params),
            ctypes.byref(handle),
            ctx.device_type,
            ctx.device_id,
        )
        self._handle = handle
        self.ctx = ctx
        if ctx.threads:
            _lib.call("CVMModelSetThreads", handle, ctx.threads)
        data = _lib.TensorInfo()
        _lib.call("CVMModelGetInput", handle, ctypes.byref(data))
        self.input_shape, self.input_precision = _tensor(data)
        self.outputs = [self._output(k) for k in range(_lib.get_int("CVMModelGetNumOutputs", handle))]
        self.storage_bytes = _lib.get_size("CVMAPIGetStorageSize", handle)
        self.arena_bytes = _lib.get_size("CVMModelGetArenaSize", handle)
        self.input_length = _lib.get_size("CVMAPIGetInputLength", handle)
        self.output_length = _lib.get_size("CVMAPIGetOutputLength", handle)
        self.input_type_size = _lib.get_size("CVMAPIGetInputTypeSize", handle)
        self.output_type_size = _lib.get_size("CVMAPIGetOutputTypeSize", handle)
        self.version = self._text("CVMAPIGetVersion")
        self.postprocess = self._text("CVMAPIGetPreprocessMethod")

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            _lib.call("CVMAPIFreeModel", self._handle)
            self._handle = None

    @property
    def gas(self) -> int:
        """Cost of one inference; CvmLogicError where it exceeds the limit of 2^40, which does not stop the model from running."""
        return _lib.get_size("CVMAPIGetGasFromModel", self._handle)

    def __repr__(self) -> str:
        return f"<cvm_runtime.Model {self.input_shape} -> {[t.shape for t in self.outputs]} {self.ctx}>"

    def _output(self, index: int) -> Tensor:
        info = _lib.TensorInfo()
        _lib.call("CVMModelGetOutput", self._handle, index, ctypes.byref(info))
        return _tensor(info)

    def _text(self, function: str) -> str:
        text = ctypes.create_string_buffer(34)
        _lib.call(function, self._handle, text)
        return text.value.decode(errors="replace")

    @property
    def threads(self) -> int:
        """Threads of each run; results do not depend on it. Assigning 0 takes one per processor."""
        return _lib.get_int("CVMModelGetThreads", self._handle)

    @threads.setter
    def threads(self, count: int) -> None:
        _lib.call("CVMModelSetThreads", self._handle, count)

    @property
    def nodes(self) -> list[Node]:
        """All nodes in order, with inferred precisions and costs."""
        return [self._node(i) for i in range(_lib.get_int("CVMModelGetNumNodes", self._handle))]

    def _node(self, index: int) -> Node:
        node = _lib.NodeInfo()
        _lib.call("CVMModelGetNode", self._handle, index, ctypes.byref(node))
        outputs = []
        for k in range(node.num_outputs):
            info = _lib.TensorInfo()
            _lib.call("CVMModelGetNodeOutput", self._handle, index, k, ctypes.byref(info))
            outputs.append(_tensor(info))
        return Node(index, node.name.decode(errors="replace"), node.op.decode(), outputs, node.gas)

    def run(self, x: np.ndarray) -> list[np.ndarray]:
        """Runs the model on an integer array of ``input_shape``; one int32 array per output.

        Values outside the input's precision are clamped to it, as in ``infer``.
        """
        return self._run(x, None)

    def profile(self, x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """``run``, and the seconds that each node took."""
        seconds = np.zeros(_lib.get_int("CVMModelGetNumNodes", self._handle))
        return self._run(x, seconds.ctypes.data_as(ctypes.POINTER(ctypes.c_double))), seconds

    def _run(self, x: np.ndarray, seconds: object) -> list[np.ndarray]:
        data = self._input(x)
        outputs = [np.empty(t.shape, np.int32) for t in self.outputs]
        buffers = (ctypes.c_void_p * len(outputs))(*[y.ctypes.data for y in outputs])
        _lib.call("CVMModelRun", self._handle, data.ctypes.data, data.size, buffers, seconds)
        return outputs

    def _input(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        if x.shape != self.input_shape:
            raise _lib.CvmLogicError(f"the input has shape {x.shape}, expected {self.input_shape}")
        if x.dtype.kind == "f":
            if not np.array_equal(x, np.trunc(x)):
                raise _lib.CvmLogicError(f"the input is a {x.dtype} array that holds non-integers, expected integers")
        elif x.dtype.kind not in "iub":
            raise _lib.CvmLogicError(f"the input is a {x.dtype} array, expected integers")
        if x.dtype.itemsize >= 4 and x.dtype != np.int32:
            # The model clamps further; here only what int32 cannot hold.
            if x.dtype.kind == "f":
                x = x.astype(np.float64)
            x = np.clip(x, None if x.dtype.kind == "u" else _INT32.min, _INT32.max)
        return np.ascontiguousarray(x, dtype=np.int32)

    def infer(self, data: bytes) -> bytes:
        """CVMAPIInference: ``input_length`` bytes in, ``output_length`` bytes out."""
        output = ctypes.create_string_buffer(max(self.output_length, 1))
        _lib.call("CVMAPIInference", self._handle, bytes(data), len(data), output)
        return output.raw[: self.output_length]
