"""The C library: where it is, its functions, its errors."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import operator
import os
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any

from ._text import printable
from ._version import __version__

FILE_NAME = "libcvm_runtime.so"


class CvmError(Exception):
    """A failure of the runtime; ``status`` is the code of the C interface."""

    status = 2


class CvmLogicError(CvmError):
    """The model or the request is wrong; every node fails alike."""

    status = 1


class CvmRuntimeError(CvmError):
    """This machine, or a file that cannot be read at all."""

    status = 2


class CvmLibraryError(CvmRuntimeError, ImportError):
    """The C library is missing or does not belong to this package."""


class TensorInfo(ctypes.Structure):
    _fields_ = [("ndim", c_int32), ("precision", c_int32), ("shape", c_int64 * 6)]


class NodeInfo(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        ("op", c_char_p),
        ("gas", c_ulonglong),
        ("num_inputs", c_int32),
        ("num_outputs", c_int32),
    ]


_SIZE = POINTER(c_ulonglong)

# Argument types in the order of src/c_api.h. All of these return a status.
_FUNCTIONS = {
    "CVMAPILoadModel": [c_char_p, c_int, c_char_p, c_int, POINTER(c_void_p), c_int, c_int],
    "CVMAPIFreeModel": [c_void_p],
    "CVMAPIInference": [c_void_p, c_void_p, c_int, c_void_p],
    "CVMAPIGetVersion": [c_void_p, c_char_p],
    "CVMAPIGetPreprocessMethod": [c_void_p, c_char_p],
    "CVMAPIGetInputLength": [c_void_p, _SIZE],
    "CVMAPIGetOutputLength": [c_void_p, _SIZE],
    "CVMAPIGetInputTypeSize": [c_void_p, _SIZE],
    "CVMAPIGetOutputTypeSize": [c_void_p, _SIZE],
    "CVMAPIGetStorageSize": [c_void_p, _SIZE],
    "CVMAPIGetGasFromModel": [c_void_p, _SIZE],
    "CVMAPIGetGasFromGraphFile": [c_char_p, _SIZE],
    "CVMModelGetInput": [c_void_p, POINTER(TensorInfo)],
    "CVMModelGetNumOutputs": [c_void_p, POINTER(c_int)],
    "CVMModelGetOutput": [c_void_p, c_int, POINTER(TensorInfo)],
    "CVMModelGetNumNodes": [c_void_p, POINTER(c_int)],
    "CVMModelGetNode": [c_void_p, c_int, POINTER(NodeInfo)],
    "CVMModelGetNodeOutput": [c_void_p, c_int, c_int, POINTER(TensorInfo)],
    "CVMModelGetOutputs": [c_void_p, POINTER(TensorInfo)],
    "CVMModelGetNodes": [c_void_p, POINTER(NodeInfo)],
    "CVMModelGetNodeOutputs": [c_void_p, POINTER(TensorInfo)],
    "CVMModelGetNodeInputs": [c_void_p, POINTER(c_int32)],
    "CVMModelGetArenaSize": [c_void_p, _SIZE],
    "CVMModelRun": [c_void_p, c_void_p, ctypes.c_uint64, POINTER(c_void_p), POINTER(c_double)],
    "CVMModelRunTyped": [c_void_p, c_void_p, c_int, c_int, ctypes.c_uint64, POINTER(c_void_p), POINTER(c_double)],
    "CVMModelSetThreads": [c_void_p, c_int],
    "CVMModelGetThreads": [c_void_p, POINTER(c_int)],
    "CVMSetMaxThreads": [c_int],
    "CVMGetMaxThreads": [POINTER(c_int)],
    "CVMSetIdleContexts": [c_int],
    "CVMGetIdleContexts": [POINTER(c_int)],
}


def _candidates() -> list[Path]:
    override = os.environ.get("CVM_LIBRARY")
    if override:
        return [Path(override)]
    found = [Path(__file__).with_name(FILE_NAME)]
    # Run from a checkout after a plain `pip install .`, this package is the
    # checkout's and the library lies in the installed one. A distribution of
    # that name may also be the checkout's own egg-info: all are looked at.
    for distribution in importlib.metadata.distributions(name="mrt-cvm"):
        found.append(Path(str(distribution.locate_file(f"cvm_runtime/{FILE_NAME}"))).absolute())
    return list(dict.fromkeys(found))


def library_path() -> Path:
    """The C library that is used; raises CvmLibraryError when there is none."""
    candidates = _candidates()
    for path in candidates:
        if path.is_file():
            return path
    places = " or ".join(str(path) for path in candidates)
    raise CvmLibraryError(f"the C library is not at {places}; build it with 'pip install .' in the checkout")


def _function(lib: ctypes.CDLL, name: str) -> Any:
    try:
        return getattr(lib, name)
    except AttributeError:
        text = f"{lib._name} has no function {name}; it is no CVM runtime of this package"
        raise CvmLibraryError(text) from None


@functools.lru_cache(maxsize=None)
def library() -> ctypes.CDLL:
    """The loaded library, with all signatures declared."""
    path = library_path()
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as e:
        raise CvmLibraryError(f"the C library {path} cannot be loaded: {e}") from None
    for name in ("CVMGetLastError", "CVMGetLibraryVersion"):
        function = _function(lib, name)
        function.argtypes = []
        function.restype = c_char_p
    version = lib.CVMGetLibraryVersion().decode()
    if version != __version__:
        raise CvmLibraryError(
            f"the C library {path} has version {version}, this package has {__version__}; "
            "rebuild it with 'pip install .' in the checkout"
        )
    for name, argtypes in _FUNCTIONS.items():
        function = _function(lib, name)
        function.argtypes = argtypes
        function.restype = c_int
    return lib


def call(name: str, *args: object) -> None:
    """Calls a function of the library; raises the error class of its status."""
    lib = library()
    status = getattr(lib, name)(*args)
    if status == 0:
        return
    text = lib.CVMGetLastError().decode(errors="replace") or f"{name} failed with status {status}"
    raise (CvmLogicError if status == CvmLogicError.status else CvmRuntimeError)(text)


def c_count(value: object, what: str) -> int:
    """``value`` as an int of C that is not negative; without this, ctypes would drop the high bits of a larger one."""
    most = 2**31 - 1
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise CvmLogicError(f"{what} is {printable(repr(value), 60)}, expected an integer from 0 to {most}") from None
    if not 0 <= number <= most:
        raise CvmLogicError(f"{what} is {number:.4g}, expected an integer from 0 to {most}")
    return number


def get_size(name: str, handle: c_void_p) -> int:
    """The result of a function with one unsigned long long out-parameter."""
    out = c_ulonglong()
    call(name, handle, ctypes.byref(out))
    return out.value


def get_int(name: str, handle: c_void_p) -> int:
    """The result of a function with one int out-parameter."""
    out = c_int()
    call(name, handle, ctypes.byref(out))
    return out.value
