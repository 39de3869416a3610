"""Loading and running models."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np

from . import _lib
from ._text import printable
from .context import Context, cpu

# A path (str or os.PathLike), or the contents (bytes).
Source = Union[str, "os.PathLike[str]", bytes]

_TYPE_CODES = {"i": 0, "u": 1, "f": 2}  # of the C interface


class Tensor(NamedTuple):
    """Shape and precision of a tensor: values lie in -(2^(p-1)-1) .. 2^(p-1)-1."""

    shape: tuple[int, ...]
    precision: int


class Node(NamedTuple):
    """One node of the graph; ``op`` is "null" for a variable, ``inputs`` are the nodes whose outputs it reads.

    ``name`` is the file's, whatever characters are in it.
    """

    index: int
    name: str
    op: str
    outputs: list[Tensor]
    gas: int
    inputs: list[int]


def _contents(source: Source, what: str) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    try:
        return Path(os.fspath(source)).read_bytes()
    except TypeError:
        raise TypeError(f"{what} is a {type(source).__name__}, expected a path or the contents as bytes") from None
    except (OSError, ValueError) as e:  # ValueError: no path at all, as one with a NUL
        name, reason = printable(str(source), 200), getattr(e, "strerror", None) or e
        raise _lib.CvmRuntimeError(f"the {what} file {name} cannot be read: {reason}") from None


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


@functools.lru_cache(maxsize=1024)
def _tensor(record: bytes) -> Tensor:
    info = _lib.TensorInfo.from_buffer_copy(record)
    return Tensor(tuple(info.shape[: info.ndim]), info.precision)


def _tensors(infos: ctypes.Array) -> list[Tensor]:
    """Most of millions are alike, and become one object."""
    return [_tensor(record) for record in np.frombuffer(infos, f"V{ctypes.sizeof(_lib.TensorInfo)}").tolist()]


@functools.lru_cache(maxsize=64)
def _reading(dtype: np.dtype) -> tuple[np.dtype | None, bool]:
    """The type, known to the library, that holds an array's numbers; and whether non-integers could look like integers in it."""
    if dtype.kind == "f" and dtype.itemsize > 8:
        return np.dtype(np.float64), True
    if dtype.kind in "iuf":
        return np.dtype(np.float32) if dtype.itemsize == 2 and dtype.kind == "f" else dtype.newbyteorder("="), False
    return np.dtype(np.uint8) if dtype.kind == "b" else None, False


def _to_array(x: object) -> np.ndarray:
    """``x`` as numpy reads it; MXNet's arrays have a method for that."""
    try:
        return np.asarray(x.asnumpy() if hasattr(x, "asnumpy") else x)
    except (TypeError, ValueError) as e:
        raise _lib.CvmLogicError(f"the input is a {type(x).__name__} that is no array of numbers: {e}") from None


class Model:
    """A loaded model. May be run from several threads at once."""

    def __init__(self, symbol: bytes, params: bytes, ctx: Context) -> None:
        self._handle = ctypes.c_void_p()
        handle = ctypes.c_void_p()
        _lib.call(
            "CVMAPILoadModel",
            symbol,
            _lib.c_count(len(symbol), "the length of the symbol"),
            params,
            _lib.c_count(len(params), "the length of the params"),
            ctypes.byref(handle),
            ctx.device_type,
            ctx.device_id,
        )
        self._handle = handle
        self.ctx = ctx
        # No cached_property: its lock, held by another thread when this process forks, would block the child for ever.
        self._outputs: list[Tensor] | None = None
        if ctx.threads:
            self.threads = ctx.threads
        data = (_lib.TensorInfo * 1)()
        _lib.call("CVMModelGetInput", handle, data)
        self.input_shape, self.input_precision = _tensors(data)[0]
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
        most = 8
        shapes = ", ".join(str(t.shape) for t in self.outputs[:most]) + (", ..." if len(self.outputs) > most else "")
        return f"<cvm_runtime.Model {self.input_shape} -> [{shapes}] {self.ctx}>"

    @property
    def outputs(self) -> list[Tensor]:
        """Shape and precision of each output."""
        if self._outputs is None:  # made when first asked for, as a file can list millions
            infos = (_lib.TensorInfo * _lib.get_int("CVMModelGetNumOutputs", self._handle))()
            _lib.call("CVMModelGetOutputs", self._handle, infos)
            self._outputs = _tensors(infos)
        return self._outputs

    def _text(self, function: str) -> str:
        text = ctypes.create_string_buffer(34)
        _lib.call(function, self._handle, text)
        return text.value.decode(errors="replace")

    @property
    def threads(self) -> int:
        """Most threads of each run; results do not depend on it. Assigning 0 takes as many as ``max_threads`` says."""
        return _lib.get_int("CVMModelGetThreads", self._handle)

    @threads.setter
    def threads(self, count: int) -> None:
        _lib.call("CVMModelSetThreads", self._handle, _lib.c_count(count, "the number of threads"))

    @property
    def nodes(self) -> list[Node]:
        """All nodes in order, with inferred precisions and costs."""
        infos = (_lib.NodeInfo * _lib.get_int("CVMModelGetNumNodes", self._handle))()
        _lib.call("CVMModelGetNodes", self._handle, infos)
        tensors = (_lib.TensorInfo * sum(info.num_outputs for info in infos))()
        _lib.call("CVMModelGetNodeOutputs", self._handle, tensors)
        read = (ctypes.c_int32 * max(sum(info.num_inputs for info in infos), 1))()
        _lib.call("CVMModelGetNodeInputs", self._handle, read)
        outputs, inputs = iter(_tensors(tensors)), iter(read)
        return [
            Node(
                index,
                info.name.decode(errors="replace"),
                info.op.decode(),
                list(itertools.islice(outputs, info.num_outputs)),
                info.gas,
                list(itertools.islice(inputs, info.num_inputs)),
            )
            for index, info in enumerate(infos)
        ]

    def run(self, x: np.ndarray) -> list[np.ndarray]:
        """Runs the model on an array of ``input_shape``; one int32 array per output.

        ``x`` holds integers, in any integer or floating-point type; an MXNet NDArray will do. Values outside the input's
        precision are clamped to it, as in ``infer``. Raises CvmLogicError for any other shape, type or value.
        """
        return self._run(x, None)

    def profile(self, x: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """``run``, and the seconds that each node took."""
        seconds = np.zeros(_lib.get_int("CVMModelGetNumNodes", self._handle))
        return self._run(x, seconds.ctypes.data_as(ctypes.POINTER(ctypes.c_double))), seconds

    def _run(self, x: object, seconds: object) -> list[np.ndarray]:
        data = self._input(x)
        outputs = [np.empty(t.shape, np.int32) for t in self.outputs]
        buffers = (ctypes.c_void_p * len(outputs))(*[y.__array_interface__["data"][0] for y in outputs])
        code, bits = _TYPE_CODES[data.dtype.kind], 8 * data.dtype.itemsize
        _lib.call("CVMModelRunTyped", self._handle, data.ctypes.data, code, bits, data.size, buffers, seconds)
        return outputs

    def _input(self, x: object) -> np.ndarray:
        """``x`` in a type that the library reads, without a copy where it can."""
        x = _to_array(x)
        if x.shape != self.input_shape:
            raise _lib.CvmLogicError(f"the input has shape {x.shape}, expected {self.input_shape}")
        dtype, check = _reading(x.dtype)
        if dtype is None:
            raise _lib.CvmLogicError(f"the input is a {printable(str(x.dtype), 60)} array, expected integers")
        if check and not (x == np.trunc(x)).all():
            raise _lib.CvmLogicError(f"the input is a {x.dtype} array that holds others, expected integers")
        return np.ascontiguousarray(x, dtype)

    def infer(self, data: object) -> bytes:
        """CVMAPIInference: ``input_length`` bytes in, ``output_length`` bytes out.

        ``data`` is the bytes, in anything that has the buffer protocol; or an array of the very type, int8 where
        ``input_type_size`` is 1, else little-endian int32, that has ``input_shape`` or is flat. Raises CvmLogicError for
        anything else: nothing is converted.
        """
        data = self._input_bytes(data)
        length = _lib.c_count(data.nbytes, "the length of the input")
        output = np.empty(self.output_length, np.uint8)
        _lib.call("CVMAPIInference", self._handle, data.ctypes.data, length, output.ctypes.data)
        return output.tobytes()

    def _input_bytes(self, data: object) -> np.ndarray:
        if not hasattr(data, "__array__") and not hasattr(data, "asnumpy"):
            try:
                data = memoryview(data)  # type: ignore[arg-type]
            except TypeError:
                raise _lib.CvmLogicError(f"the input is a {type(data).__name__}, expected bytes or an array") from None
            if data.format in ("B", "b", "c"):
                return np.ascontiguousarray(data)
        x = _to_array(data)
        expected = np.dtype("<i4" if self.input_type_size == 4 else "i1")
        if x.dtype != expected:
            found = printable(str(x.dtype), 60)
            raise _lib.CvmLogicError(f"the input is a {found} array, expected {expected} (or the bytes: x.tobytes())")
        if x.shape not in (self.input_shape, (math.prod(self.input_shape),)):
            raise _lib.CvmLogicError(f"the input has shape {x.shape}, expected {self.input_shape}, or as many in a row")
        return np.ascontiguousarray(x)
