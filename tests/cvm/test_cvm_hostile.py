"""Mutated files never crash, hang or exhaust memory; sanitizers watch as well."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import large_graphs
import numpy as np
import pytest
from conftest import ROOT
from graphs import GraphWriter, dump, params_bytes
from test_cvm_concurrency import shared_work
from test_cvm_loader import EXAMPLE_PARAMS, example

import cvm_runtime as cvm

HERE = Path(__file__).resolve().parent
MUTATIONS = 10_000
ACCEPTED, LOGIC, RUNTIME = 0, 1, 2


# ---- the files on which the original crashed, hung or was wrong -------------


def changed(change: Callable[[dict[str, Any]], Any]) -> tuple[bytes, bytes]:
    document = example()[1]
    change(document)
    return dump(document), EXAMPLE_PARAMS


def one_operator(name: str, data: tuple[int, ...], out: tuple[int, ...], **attrs: Any) -> tuple[bytes, bytes]:
    g = GraphWriter()
    return g.build([g.op(name, [g.data(data, 8)], out, **attrs)])


def item(*path: Any, value: Any) -> tuple[bytes, bytes]:
    def change(document: dict[str, Any]) -> None:
        target: Any = document
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return changed(change)


FILES: dict[str, tuple[int, tuple[bytes, bytes]]] = {
    # These crashed it.
    "empty node list": (LOGIC, item("nodes", value=[])),
    "head of node 9999": (LOGIC, item("heads", 0, 0, value=9999)),
    "head of node -1": (LOGIC, item("heads", 0, 0, value=-1)),
    "input of node 2^32-1": (LOGIC, item("nodes", 4, "inputs", 0, 0, value=2**32 - 1)),
    "arg_nodes out of range": (LOGIC, item("arg_nodes", 0, value=9999)),
    "empty node_row_ptr": (LOGIC, item("node_row_ptr", value=[])),
    "reshape that divides by zero": (LOGIC, one_operator("reshape", (2, 3, 4), (24,), shape=(-4, -1, 0, -2))),
    # This hung it.
    "storage id 50 million": (LOGIC, item("attrs", "storage_id", 1, 0, value=50_000_000)),
    # These it took for models.
    "JSON without its last byte": (RUNTIME, (dump(example()[1])[:-1], EXAMPLE_PARAMS)),
    "input and weight in one slot": (LOGIC, item("attrs", "storage_id", 1, 1, value=2)),
    "slice of five parts of three axes": (
        LOGIC,
        one_operator("strided_slice", (2, 3, 4), (1, 3, 4), begin=(0,) * 5, end=(1, 3, 4, 1, 1), stride=(1,) * 5),
    ),
    # This it refused by luck.
    "params short by one byte": (RUNTIME, (dump(example()[1]), EXAMPLE_PARAMS[:-1])),
    # And these are models: its own writer leaves stale bytes after params,
    # which models in use have, and inputs are clamped, not checked.
    "bytes after params": (ACCEPTED, (dump(example()[1]), EXAMPLE_PARAMS + bytes(8))),
}


def load_status(symbol: bytes, params: bytes, ctx: cvm.Context) -> int:
    try:
        cvm.load(symbol, params, ctx)
    except cvm.CvmError as e:
        return e.status
    return ACCEPTED


@pytest.mark.parametrize("name", FILES)
def test_files_that_broke_the_original(name: str, ctx: cvm.Context) -> None:
    status, (symbol, params) = FILES[name]
    assert load_status(symbol, params, ctx) == status
    if params == EXAMPLE_PARAMS and status:  # then the fault is in the symbol
        if name == "input and weight in one slot":
            assert cvm.gas(symbol) == 185  # storage is no matter of the cost
        else:
            with pytest.raises(cvm.CvmError) as e:
                cvm.gas(symbol)
            assert e.value.status == status


def test_input_of_minus_128_is_clamped(ctx: cvm.Context) -> None:
    symbol, params = one_operator("negative", (2,), (2,))
    assert cvm.load(symbol, params, ctx).infer(struct.pack("2b", -128, -127)) == bytes([127, 127])


def test_a_golden_network_has_bytes_after_its_params(golden: Path) -> None:
    from hostile import read_params

    params = (golden / "mnist_mlp" / "params").read_bytes()
    assert len(params_bytes({k.decode(): v for k, v in read_params(params).items()})) < len(params)
    cvm.load(golden / "mnist_mlp" / "symbol", params)


# ---- memory -----------------------------------------------------------------

MEMORY = """
import resource, sys
import cvm_runtime as cvm
sys.path.insert(0, "tests/cvm")
from memory import peak_memory
symbol, params = (open(name, "rb").read() for name in sys.argv[1:3])
more = int(sys.argv[3])
try: cvm.load(b"", b"")
except cvm.CvmError: pass
if more:
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)
before, status = peak_memory(), 0
try:
    model = cvm.load(symbol, params, cvm.cpu(threads=1))
except cvm.CvmError as e: status = e.status
print(status, peak_memory() - before)
"""


def load_measured(directory: Path, symbol: bytes, params: bytes, more: int = 0) -> list[int]:
    """Loads in a process of its own, which may get so many bytes: status, bytes that raised its peak."""
    (directory / "symbol").write_bytes(symbol)
    (directory / "params").write_bytes(params)
    files = [str(directory / name) for name in ("symbol", "params")]
    command = [sys.executable, "-c", MEMORY, *files, str(more)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(map(int, done.stdout.split()))


def huge_activations() -> tuple[bytes, bytes]:
    """The whole storage limit, 2^32 bytes, of activations in a file of some hundred bytes."""
    g = GraphWriter()
    x = g.data((2**15, 2**14), 8)
    return g.build([g.op("negative", [x], x.shape)])


def test_activations_take_no_memory_until_they_are_written(tmp_path: Path) -> None:
    status, grown = load_measured(tmp_path, *huge_activations())
    assert status == ACCEPTED
    assert grown < 16 << 20


def test_lack_of_memory_is_a_runtime_error(tmp_path: Path) -> None:
    assert load_measured(tmp_path, *huge_activations(), more=2 << 30)[0] == RUNTIME


def test_parameters_take_memory_only_for_bytes_that_are_there(tmp_path: Path) -> None:
    g = GraphWriter()
    x, w = g.data((1,), 8), g.param("w", np.zeros(1, np.int8), 8)
    y = g.op("broadcast_add", [x, w], (1,))
    symbol, params = g.build([y])
    large = symbol.replace(b"[1], [1], [1]", b"[1], [16777216], [16777216]")
    announced = params[:-17] + struct.pack("<qq", 2**24, 2**24) + params[-1:]
    assert large != symbol
    for p, expected in ((params, LOGIC), (announced, RUNTIME)):
        status, grown = load_measured(tmp_path, large, p)
        assert status == expected
        assert grown < 16 << 20


TIMES = 64  # bytes of memory for a byte of a file
DENSE_TEXT: dict[str, tuple[bytes, bytes, bytes]] = {
    "nodes": (b'{"nodes": [', b'{"op":"null","name":"","inputs":[]},', b"{}]}"),
    "strings": (b'{"nodes":[],"attrs":{"op_attrs":["list_str",[', b'"",', b'""]]}}'),
    "shapes": (b'{"nodes":[],"attrs":{"shape":["list_shape",[', b"[],", b"[]]]}}"),
    "numbers": (b'{"nodes":[],"arg_nodes":[', b"1,", b"1]}"),
    "entries": (b'{"nodes":[{"inputs":[', b"[0,0],", b"[0,0]]}]}"),
    "brackets": (b'{"heads":', b"[", b""),
}


@pytest.mark.parametrize("name", [*DENSE_TEXT, "params"])
def test_parsing_takes_memory_in_proportion_to_the_file(tmp_path: Path, name: str) -> None:
    size = 2_000_000
    if name == "params":  # nameless tensors
        header = struct.pack("<QQQ", 0xF7E58D4F05049CB7, 0, size // 8)
        status, grown = load_measured(tmp_path, dump(example()[1]), header + bytes(size))
    else:
        head, piece, tail = DENSE_TEXT[name]
        status, grown = load_measured(tmp_path, head + piece * (size // len(piece)) + tail, b"x")
    assert status in (LOGIC, RUNTIME)
    assert grown < TIMES * size


def test_a_node_of_many_inputs_takes_memory_in_proportion(tmp_path: Path) -> None:
    """The densest model there is: six extents for every few bytes of text."""
    count = 100_000
    g = GraphWriter()
    x = g.data((1,) * 6, 8)
    symbol, params = g.build([g.op("concatenate", [x], (count, 1, 1, 1, 1, 1), axis=0)])
    inputs = b'"inputs": [' + b",".join([b"[0,0]"] * count) + b"]"
    symbol = symbol.replace(b'"inputs": [[0, 0, 0]]', inputs)
    status, grown = load_measured(tmp_path, symbol, params)
    assert status == ACCEPTED
    assert grown < TIMES * len(symbol)


NODES = 10_000


@pytest.mark.parametrize("name", large_graphs.BUILDERS)
def test_planning_takes_time_and_memory_in_proportion(name: str) -> None:
    """CPU time, which other processes do not count in; a planner of quadratic time needs tens of seconds."""
    command = [sys.executable, str(HERE / "large_graphs.py"), name, str(NODES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    size, formal, cpu, grown = map(float, done.stdout.split())
    assert cpu < 10 * formal + 1
    assert grown < TIMES * size


# ---- mutations --------------------------------------------------------------


def run_hostile(count: int, seed: int, most_gas: str = "inf", **environment: str) -> str:
    command = [sys.executable, str(HERE / "hostile.py"), str(count), str(seed), most_gas]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def check_hostile(count: int, seed: int) -> None:
    out = run_hostile(count, seed)
    assert 0 < int(out.split()[0]) < count // 2, out  # the mutations reach beyond the parser
    assert int(out.split()[-2]) < 400, out  # MiB of the whole process


@pytest.mark.parametrize("seed", [1, 2])
def test_mutations(seed: int) -> None:
    check_hostile(MUTATIONS // 2, seed)


@pytest.mark.slow
def test_mutations_long() -> None:
    check_hostile(200_000, 11)


# ---- sanitizers -------------------------------------------------------------


def build_with(sanitizers: str, directory: Path) -> Path:
    if not shutil.which("cmake") or not shutil.which("ninja"):
        pytest.skip("cmake and ninja are needed to build with sanitizers")
    strict = f"-DCVM_WERROR={os.environ.get('CVM_WERROR', '0')}"
    options = [f"-DCVM_SANITIZE={sanitizers}", strict, "-DCMAKE_CXX_FLAGS_RELEASE=-O1"]
    # The inner loops of all instruction sets are templates of one text. Sanitizers see little of vector
    # instructions, but take minutes to compile them: the plain ones are enough.
    options += [f"-DCVM_TAKES_{isa}=0" for isa in ("AVX2", "AVXVNNI", "AVX512", "AVX512VNNI")]
    subprocess.run(["cmake", "-G", "Ninja", "-S", str(ROOT), "-B", str(directory), *options], check=True)
    subprocess.run(["cmake", "--build", str(directory), "--target", "cvm_runtime"], check=True)
    return directory / "libcvm_runtime.so"


def sanitizer_library(name: str) -> str:
    """The sanitizer's own library, which Python must load before ours."""
    found = subprocess.run([os.environ.get("CXX", "c++"), f"-print-file-name={name}"], capture_output=True, text=True)
    path = found.stdout.strip()
    if not os.path.isabs(path):
        pytest.skip(f"the compiler has no {name}")
    return path


def sanitized(sanitizers: str, runtime: str, directory: Path) -> dict[str, str]:
    # libstdc++ as well: the sanitizer looks for its functions when Python starts.
    preload = [sanitizer_library(runtime), sanitizer_library("libstdc++.so")]
    return {
        "LD_PRELOAD": " ".join(preload),
        "CVM_LIBRARY": str(build_with(sanitizers, directory)),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own allocations
        "TSAN_OPTIONS": "halt_on_error=1",
    }


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return sanitized("address,undefined", "libasan.so", tmp_path_factory.mktemp("address"))


def pytest_with(environment: dict[str, str], *files: str) -> None:
    paths = [str(HERE / name) for name in files]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


LOADED = "3e8"  # gas: the sanitizer pays for every byte that is allocated


def run_networks(count: int, seed: int, **environment: str) -> None:
    command = [sys.executable, str(HERE / "random_graphs.py"), str(count), str(seed), "--networks", "--isas"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{count:,} graphs" in done.stdout


@pytest.mark.build
def test_address_and_undefined(address: dict[str, str]) -> None:
    run_hostile(600, 3, LOADED, **address)
    run_networks(60, 0, **address)
    pytest_with(address, "test_cvm_loader.py", "test_cvm_operators.py")


@pytest.mark.slow
def test_address_and_undefined_long(address: dict[str, str]) -> None:
    run_hostile(60_000, 4, LOADED, **address)
    run_networks(3_000, 100, **address)
    pytest_with(address, "test_cvm_golden.py", "test_cvm_random.py", "test_cvm_array.py")


@pytest.mark.build
def test_threads(tmp_path: Path) -> None:
    environment = sanitized("thread", "libtsan.so", tmp_path)
    pytest_with(environment, "test_cvm_concurrency.py")
    check_races(tmp_path, Path(environment["CVM_LIBRARY"]))


def check_races(directory: Path, library: Path) -> None:
    """race.cc on a graph whose steps are shared among threads."""
    symbol, params, inputs = shared_work()
    files = {"symbol": symbol, "params": params, "data": inputs[0].astype(np.int8).tobytes()}
    for name, data in files.items():
        (directory / name).write_bytes(data)
    program = directory / "race"
    flags = ["-std=c++17", "-O1", "-g", "-fsanitize=thread", "-Wall", "-Wextra", f"-I{ROOT / 'src'}"]
    link = [str(library), f"-Wl,-rpath,{library.parent}", "-pthread"]
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, *flags, str(HERE / "race.cc"), *link, "-o", str(program)], check=True)
    command = [str(program), *(str(directory / name) for name in files)]
    # By default ThreadSanitizer ends a child that starts threads.
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1 die_after_fork=0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "240 runs, 10 children\n"), done.stderr[-3000:]
