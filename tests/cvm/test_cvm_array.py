"""The C interface itself: a plain C program, exported symbols, arrays and params files."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int64, c_void_p
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from graphs import dump, params_bytes
from test_cvm_loader import EXAMPLE_PARAMS, example

import cvm_runtime as cvm
from cvm_runtime import _lib

ORIGINAL = [
    "CVMAPILoadModel", "CVMAPIFreeModel", "CVMAPIInference", "CVMAPIGetVersion", "CVMAPIGetPreprocessMethod",
    "CVMAPIGetInputLength", "CVMAPIGetOutputLength", "CVMAPIGetInputTypeSize", "CVMAPIGetOutputTypeSize",
    "CVMAPIGetStorageSize", "CVMAPIGetGasFromModel", "CVMAPIGetGasFromGraphFile", "CVMArrayAlloc", "CVMArrayFree",
    "CVMArrayCopyFromBytes", "CVMArrayCopyToBytes", "CVMArrayCopyFromTo", "CVMSaveParamsDict", "CVMLoadParamsDict",
    "CVMAssignAllScalar", "CVMAssignAllND", "CVMAssignSliceScalar", "CVMAssignSliceND",
]  # fmt: skip


def test_c_program(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    library = cvm.library_path().resolve()
    program = tmp_path / "classic"
    source = Path(__file__).with_name("classic.c")
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{ROOT / 'src'}"]
    link = [str(library), f"-Wl,-rpath,{library.parent}"]
    subprocess.run([compiler, *flags, str(source), *link, "-o", str(program)], check=True)
    for name, data in (("s", dump(example()[1])), ("p", EXAMPLE_PARAMS), ("x", bytes([10, 20, 30, 40]))):
        (tmp_path / name).write_bytes(data)
    done = subprocess.run([str(program), "s", "p", "x"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "cvm_1.0.0 [] 4 3 1 1 100 185 185: 6 0 0\n")
    (tmp_path / "s").write_bytes(b"{}")
    done = subprocess.run([str(program), "s", "p", "x"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_exported_symbols() -> None:
    if not shutil.which("nm"):
        pytest.skip("no nm")
    done = subprocess.run(["nm", "-D", "--defined-only", str(cvm.library_path())], capture_output=True, text=True)
    names = {line.split()[-1].split("@")[0] for line in done.stdout.splitlines()}
    assert set(ORIGINAL) <= names
    assert set(_lib._FUNCTIONS) <= names
    assert not [n for n in names if "cvm" in n and not n.startswith("CVM")], "only the C interface is visible"


class Array:
    """A CVMArray of the library."""

    def __init__(self, values: np.ndarray, device: int = 1) -> None:
        self.values = np.ascontiguousarray(values)
        self.handle = c_void_p()
        shape = (c_int64 * values.ndim)(*values.shape)
        code = {"i": 0, "u": 1, "f": 2}[values.dtype.kind]
        bits = values.dtype.itemsize * 8
        call("CVMArrayAlloc", shape, values.ndim, code, bits, 1, device, 0, byref(self.handle))
        call("CVMArrayCopyFromBytes", self.handle, c_void_p(self.values.ctypes.data), ctypes.c_uint64(values.nbytes))

    def get(self) -> np.ndarray:
        out = np.empty_like(self.values)
        call("CVMArrayCopyToBytes", self.handle, c_void_p(out.ctypes.data), ctypes.c_uint64(out.nbytes))
        return out

    def __del__(self) -> None:
        call("CVMArrayFree", self.handle)


def status(name: str, *args: object) -> int:
    return getattr(_lib.library(), name)(*args)


def call(name: str, *args: object) -> None:
    assert status(name, *args) == 0, _lib.library().CVMGetLastError()


class ByteArray(ctypes.Structure):
    _fields_ = [("data", POINTER(ctypes.c_char)), ("size", ctypes.c_uint64)]


def save(arrays: dict[str, Array]) -> bytes:
    flat: list[object] = []
    for name, a in arrays.items():
        flat += [ctypes.cast(c_char_p(name.encode()), c_void_p), a.handle]
    out = ByteArray()
    call("CVMSaveParamsDict", (c_void_p * len(flat))(*[f.value for f in flat]), len(flat), byref(out))
    return out.data[: out.size]


def test_params_dictionary_round_trip() -> None:
    arrays = {
        "fc_weight": Array(np.array([[1, 2, 3, 4], [-1, -2, -3, -4], [127, 0, 0, -127]], np.int8)),
        "fc_bias": Array(np.array([100, -100, 1000], np.int32)),
    }
    large = save({"x": Array(np.zeros(1000, np.int32))})
    assert len(large) > 4000
    assert save(arrays) == EXAMPLE_PARAMS  # exact, without stale bytes of the larger one
    assert save({}) == params_bytes({})
    num, names, values = c_int(), POINTER(c_char_p)(), POINTER(c_void_p)()
    call("CVMLoadParamsDict", EXAMPLE_PARAMS, len(EXAMPLE_PARAMS), byref(num), byref(names), byref(values))
    assert [names[k] for k in range(num.value)] == [b"fc_weight", b"fc_bias"]
    copies = dict(arrays)
    for k, name in enumerate(arrays):
        copies[name] = Array(np.zeros_like(arrays[name].values))
        call("CVMArrayCopyFromTo", c_void_p(values[k]), copies[name].handle, None)
        call("CVMArrayFree", c_void_p(values[k]))
    assert save(copies) == EXAMPLE_PARAMS
    assert status("CVMLoadParamsDict", b"x", 1, byref(num), byref(names), byref(values)) == 1
    assert status("CVMSaveParamsDict", None, 1, byref(ByteArray())) == 2


def test_assign() -> None:
    a = Array(np.arange(12, dtype=np.int32).reshape(3, 4))
    call("CVMAssignSliceScalar", a.handle, (c_int * 8)(2, 1, -1, 4, -2, 2, 2, 2), c_double(-7.0))
    expected = a.values.copy()
    expected[2::-2, 1:4:2] = -7
    assert np.array_equal(a.get(), expected)
    b = Array(np.array([[1.5, 2.9], [1e20, np.nan]]))
    call("CVMAssignSliceND", a.handle, (c_int * 8)(0, 0, 2, 2, 1, 1, 2, 2), b.handle)
    expected[:2, :2] = [[1, 2], [2**31 - 1, 0]]
    assert np.array_equal(a.get(), expected)
    c = Array(np.zeros((3, 4), np.int32), device=3)
    call("CVMAssignAllND", c.handle, a.handle)
    assert np.array_equal(c.get(), expected)
    call("CVMAssignAllScalar", c.handle, c_double(5))
    assert (c.get() == 5).all()
    assert status("CVMAssignAllND", b.handle, a.handle) == 1  # type
    assert status("CVMAssignAllND", Array(np.zeros(3, np.int32)).handle, a.handle) == 2  # size
    assert status("CVMAssignSliceScalar", a.handle, (c_int * 8)(0, 0, 4, 4, 1, 1, 4, 4), c_double(0)) == 1


def test_array_faults() -> None:
    out = c_void_p()
    shape = (c_int64 * 2)(2**40, 2**40)
    for arguments in (
        (shape, 2, 0, 32, 1, 1, 0),
        ((c_int64 * 1)(-1), 1, 0, 32, 1, 1, 0),
        ((c_int64 * 1)(1), 1, 0, 7, 1, 1, 0),
        ((c_int64 * 1)(1), 1, 0, 32, 1, 2, 0),
    ):
        assert status("CVMArrayAlloc", *arguments, byref(out)) == 2
    a = Array(np.zeros(4, np.int32))
    assert status("CVMArrayCopyToBytes", a.handle, None, ctypes.c_uint64(15)) == 2
    assert status("CVMArrayCopyFromTo", a.handle, Array(np.zeros(3, np.int32)).handle, None) == 2
    assert status("CVMArrayFree", None) == 0
