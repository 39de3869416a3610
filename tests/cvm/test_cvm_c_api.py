"""The C interface itself: a plain C program, exported symbols, arrays and params files."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from conftest import ROOT
from examples import EXAMPLE_PARAMS, LOGIC, RUNTIME, example
from graphs import dump, params_bytes

import cvm_runtime as cvm
from cvm_runtime import _lib

ORIGINAL = [
    "CVMAPILoadModel", "CVMAPIFreeModel", "CVMAPIInference", "CVMAPIGetVersion", "CVMAPIGetPreprocessMethod",
    "CVMAPIGetInputLength", "CVMAPIGetOutputLength", "CVMAPIGetInputTypeSize", "CVMAPIGetOutputTypeSize",
    "CVMAPIGetStorageSize", "CVMAPIGetGasFromModel", "CVMAPIGetGasFromGraphFile", "CVMArrayAlloc", "CVMArrayFree",
    "CVMArrayCopyFromBytes", "CVMArrayCopyToBytes", "CVMArrayCopyFromTo", "CVMSaveParamsDict", "CVMLoadParamsDict",
    "CVMAssignAllScalar", "CVMAssignAllND", "CVMAssignSliceScalar", "CVMAssignSliceND",
]  # fmt: skip


ANSWER = "cvm_1.0.0 [] 4 3 1 1 100 185 185: 6 0 0\n"


def compiled(directory: Path, source: str, *link: str) -> Path:
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    program = directory / Path(source).stem
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{ROOT / 'src'}"]
    subprocess.run([compiler, *flags, str(Path(__file__).with_name(source)), *link, "-o", str(program)], check=True)
    return program


def write_example(directory: Path) -> list[Path]:
    files = {"symbol": dump(example()[1]), "params": EXAMPLE_PARAMS, "data": bytes([10, 20, 30, 40])}
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return [directory / name for name in files]


def output_of(*command: object, **environment: str) -> tuple[int, str, str]:
    line = list(map(str, command))
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, **environment})
    return done.returncode, done.stdout, done.stderr


def library_directory(directory: Path) -> Path:
    """One that holds the library under the name that a linker looks for."""
    (directory / _lib.FILE_NAME).symlink_to(cvm.library_path().resolve())
    return directory


def linked(directory: Path) -> Callable[..., tuple[int, str, str]]:
    place = library_directory(directory)
    program = compiled(directory, "classic.c", f"-L{place}", "-lcvm_runtime")
    return functools.partial(output_of, program, LD_LIBRARY_PATH=str(place))


def test_c_program(tmp_path: Path) -> None:
    run = linked(tmp_path)
    files = write_example(tmp_path)
    assert run(*files) == (0, ANSWER, "")
    files[0].write_bytes(b"{}")
    assert run(*files) == (1, "", "")


def test_c_program_on_golden_networks(tmp_path: Path, golden: Path) -> None:
    run = linked(tmp_path)
    for name in ("mnist_lenet", "cifar_resnet20_v1"):
        directory = golden / name
        (tmp_path / "data").write_bytes(np.load(directory / "data.npy")[0].astype(np.int8).tobytes())
        status, text, _ = run(directory / "symbol", directory / "params", tmp_path / "data")
        assert status == 0
        assert text.split(":")[1].split() == [str(v) for v in np.load(directory / "output.npy")[0].ravel()]


def test_program_that_opens_the_library_at_run_time(tmp_path: Path) -> None:
    program = compiled(tmp_path, "opened.c", "-ldl")
    files = write_example(tmp_path)
    assert output_of(program, cvm.library_path().resolve(), *files) == (0, ANSWER, "")
    assert output_of(program, tmp_path / "nothing.so", *files)[0] == 2


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
    d = Array(np.zeros(3, np.int32))
    assert status("CVMAssignAllND", d.handle, a.handle) == 2  # size
    assert status("CVMAssignSliceScalar", a.handle, (c_int * 8)(0, 0, 4, 4, 1, 1, 4, 4), c_double(0)) == 1


def test_slices_of_many_elements() -> None:
    """An axis of step 0 can be of any size: here of up to 2^310 elements, all of them one or two."""
    rank, most = 10, 2**31 - 1
    one, empty = Array(np.zeros(1, np.int32)), Array(np.zeros(0, np.int32))
    shape = (1,) * (rank - 1) + (2,)
    for last, expected in ((0, [7, 0]), (1, [7, 7])):
        a = Array(np.zeros(shape, np.int32))
        sizes = [most] * (rank - 1) + [2 if last else most]
        indices = (c_int * (4 * rank))(*[0] * rank, *[0] * rank, *[0] * (rank - 1), last, *sizes)
        call("CVMAssignSliceScalar", a.handle, indices, c_double(7))
        assert a.get().ravel().tolist() == expected
        for source in (one, empty):
            assert status("CVMAssignSliceND", a.handle, indices, source.handle) == 1
        assert b"too many elements" in _lib.library().CVMGetLastError()
    # 2^32 * 2^32 = 0 modulo 2^64, as many as an empty source has.
    sizes = [2**16] * 4 + [1] * 6
    indices = (c_int * (4 * rank))(*[0] * (3 * rank), *sizes)
    assert status("CVMAssignSliceND", a.handle, indices, empty.handle) == 1
    indices[3 * rank] = 0  # and none at all where one axis is empty
    call("CVMAssignSliceND", a.handle, indices, empty.handle)
    call("CVMAssignSliceScalar", a.handle, indices, c_double(8))
    assert a.get().ravel().tolist() == [7, 7]
    indices[3 * rank] = -1
    assert status("CVMAssignSliceScalar", a.handle, indices, c_double(8)) == 1


def test_slice_that_repeats() -> None:
    a, b = Array(np.zeros(2, np.int32)), Array(np.array([5, 6, 7], np.int32))
    call("CVMAssignSliceND", a.handle, (c_int * 4)(1, 0, 0, 3), b.handle)
    assert a.get().tolist() == [0, 7]  # in order: the last one stays


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
    a, b = Array(np.zeros(4, np.int32)), Array(np.zeros(3, np.int32))
    assert status("CVMArrayCopyToBytes", a.handle, None, ctypes.c_uint64(15)) == 2
    assert status("CVMArrayCopyFromTo", a.handle, b.handle, None) == 2
    assert status("CVMArrayFree", None) == 0


def test_null_pointers_and_untouched_results() -> None:
    lib = _lib.library()
    out = ctypes.c_ulonglong(77)
    assert lib.CVMAPIFreeModel(None) == 0
    assert lib.CVMAPIGetGasFromModel(None, ctypes.byref(out)) == RUNTIME
    assert lib.CVMAPIGetGasFromGraphFile(b"{}", ctypes.byref(out)) == LOGIC
    assert lib.CVMAPIGetGasFromGraphFile(None, ctypes.byref(out)) == RUNTIME
    handle = ctypes.c_void_p(5)
    assert lib.CVMAPILoadModel(b"", -1, b"", 0, ctypes.byref(handle), 0, 0) == RUNTIME
    assert lib.CVMAPILoadModel(None, 0, b"", 0, ctypes.byref(handle), 0, 0) == RUNTIME
    assert (out.value, handle.value) == (77, 5)
    net = cvm.load(dump(example()[1]), EXAMPLE_PARAMS)
    assert lib.CVMAPIInference(net._handle, None, 4, None) == RUNTIME
