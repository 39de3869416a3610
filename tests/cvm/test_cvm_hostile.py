"""Mutated files never crash, hang or exhaust memory; sanitizers watch as well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

HERE = Path(__file__).resolve().parent
MUTATIONS = 4000


def run_hostile(count: int, seed: int, **environment: str) -> str:
    command = [sys.executable, str(HERE / "hostile.py"), str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("seed", [1, 2])
def test_mutations(seed: int) -> None:
    accepted = int(run_hostile(MUTATIONS // 2, seed).split()[0])
    assert 0 < accepted < MUTATIONS // 2  # the mutations reach beyond the parser


def build_with(sanitizers: str, directory: Path) -> Path:
    if not shutil.which("cmake") or not shutil.which("ninja"):
        pytest.skip("cmake and ninja are needed to build with sanitizers")
    options = [f"-DCVM_SANITIZE={sanitizers}", "-DCVM_WERROR=ON", "-DCMAKE_CXX_FLAGS_RELEASE=-O1"]
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


def test_address_and_undefined(address: dict[str, str]) -> None:
    run_hostile(600, 3, **address)
    pytest_with(address, "test_cvm_loader.py", "test_cvm_operators.py")


@pytest.mark.slow
def test_address_and_undefined_long(address: dict[str, str]) -> None:
    run_hostile(20_000, 4, **address)
    pytest_with(address, "test_cvm_golden.py", "test_cvm_random.py", "test_cvm_array.py")


def test_threads(tmp_path: Path) -> None:
    environment = sanitized("thread", "libtsan.so", tmp_path)
    pytest_with(environment, "test_cvm_concurrency.py")
