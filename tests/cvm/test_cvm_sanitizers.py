"""The runtime under the sanitizers of the compiler, which watch tests of loading, operators and threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from examples import shared_work
from hostile import run_apart

HERE = Path(__file__).resolve().parent


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


OPERATORS = [f"test_cvm_{name}.py" for name in ("operators", "nn", "transform", "vision", "edges")]

LOADING = [f"test_cvm_{name}.py" for name in ("graph", "verify", "model", "context", "runtime")]

POINTERS = "test_cvm_c_api.py::test_null_pointers_and_untouched_results"

LOADED = "3e8"  # gas: the sanitizer pays for every byte that is allocated


def run_networks(count: int, seed: int, **environment: str) -> None:
    command = [sys.executable, str(HERE / "random_graphs.py"), str(count), str(seed), "--networks", "--isas"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{count:,} graphs" in done.stdout


@pytest.mark.build
def test_address_and_undefined(address: dict[str, str]) -> None:
    run_apart(600, 3, LOADED, **address)
    run_networks(60, 0, **address)
    pytest_with(address, *LOADING, POINTERS, *OPERATORS)


@pytest.mark.slow
def test_address_and_undefined_long(address: dict[str, str]) -> None:
    run_apart(60_000, 4, LOADED, **address)
    run_networks(3_000, 100, **address)
    more = [f"test_cvm_{name}.py" for name in ("golden", "random", "plan", "c_api")]
    pytest_with(address, *more)


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
