"""Where a model runs."""

from __future__ import annotations

from typing import NamedTuple

CPU, GPU, FORMAL = 0, 1, 2  # device codes of the C interface
NAMES = {CPU: "cpu", GPU: "gpu", FORMAL: "formal"}


class Context(NamedTuple):
    """A device code, which GPU, and the most threads of a run (0: as many as ``max_threads`` says)."""

    device_type: int
    device_id: int = 0
    threads: int = 0

    def __repr__(self) -> str:
        detail = f"threads={self.threads}" if self.threads else str(self.device_id)
        return f"@{NAMES.get(self.device_type, self.device_type)}({detail})"


def cpu(device_id: int = 0, threads: int = 0) -> Context:
    """The fast kernels of the CPU, on at most ``threads`` of the process's ``max_threads``; results do not depend on either."""
    return Context(CPU, device_id, threads)


def gpu(device_id: int = 0) -> Context:
    """GPU number ``device_id``; loading fails where the library has no GPU backend."""
    return Context(GPU, device_id)


def formal() -> Context:
    """The reference kernels, which define what is right: plain loops on one thread."""
    return Context(FORMAL)
