"""The inner loops of each instruction set against the plainest loops: kernels.cc, which these tests build."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.build
ROOT = Path(__file__).resolve().parents[2]


CROSS = (
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
    "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
    "-DCMAKE_EXE_LINKER_FLAGS=-static",
)


def build(directory: Path, *options: str) -> Path:
    if not shutil.which("cmake") or not shutil.which("ninja"):
        pytest.skip("cmake and ninja are needed to build the test program")
    options = ("-DCVM_TESTS=1", f"-DCVM_WERROR={os.environ.get('CVM_WERROR', '0')}", *options)
    subprocess.run(["cmake", "-G", "Ninja", "-S", str(ROOT), "-B", str(directory), *options], check=True)
    subprocess.run(["cmake", "--build", str(directory), "--target", "test_kernels", "bench_kernels"], check=True)
    return directory / "test_kernels"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("kernels"))


def run(program: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, arguments)]
    env = {k: v for k, v in os.environ.items() if k != "CVM_ISA"}
    return subprocess.run(command, capture_output=True, text=True, env={**env, **environment})


def check(program: Path, seed: int, count: int) -> list[str]:
    done = run(program, seed, count)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[0] == "scalar"
    return done.stdout.split()


def test_pieces(program: Path) -> None:
    check(program, 1, 20_000)


def test_pieces_under_sanitizers(tmp_path: Path) -> None:
    check(build(tmp_path, "-DCVM_SANITIZE=address,undefined", "-DCMAKE_CXX_FLAGS_RELEASE=-O1"), 2, 3000)


@pytest.mark.slow
def test_pieces_long(program: Path) -> None:
    for seed in range(3, 23):
        check(program, seed, 50_000)


def test_choice(program: Path) -> None:
    names = check(program, 0, 0)
    best = run(program).stdout.strip()
    assert best in names
    assert run(program, CVM_ISA="").stdout.strip() == best
    assert run(program, CVM_ISA="scalar").stdout == "scalar\n"
    assert run(program, CVM_ISA=best).stdout.strip() == best
    done = run(program, CVM_ISA="sse")
    assert done.returncode == 1
    assert all(word in done.stdout for word in ("CVM_ISA", "'sse'", "scalar", best)), done.stdout


@pytest.mark.slow
def test_aarch64(tmp_path: Path) -> None:
    """Cross-compiled, on emulated processors with and without dot products."""
    emulator = Path("qemu-aarch64")
    for tool in ("aarch64-linux-gnu-g++", emulator):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is needed to test the inner loops of AArch64")
    program = build(tmp_path, *CROSS)
    for processor, names in {"max": ["scalar", "neon", "dotprod"], "cortex-a53": ["scalar", "neon"]}.items():
        done = run(emulator, "-cpu", processor, program, 4, 20_000)
        assert done.stdout.split() == names, done.stdout + done.stderr
        for name in names:
            assert run(emulator, "-cpu", processor, program, CVM_ISA=name).stdout == name + "\n"
        assert run(emulator, "-cpu", processor, program).stdout == names[-1] + "\n"
    assert run(emulator, "-cpu", "cortex-a53", program, CVM_ISA="dotprod").returncode == 1
