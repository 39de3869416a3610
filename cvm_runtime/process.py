"""What all models of this process share."""

from __future__ import annotations

import ctypes

from . import _lib


def max_threads() -> int:
    """Most threads that compute at once in this process."""
    return _get("CVMGetMaxThreads")


def set_max_threads(count: int) -> None:
    """Bounds the threads that compute at once in this process; 0 sets one per processor, more than 256 count as 256.

    All models share them: each caller computes on its own thread, and gets help from what is left. Without a call the
    environment variable CVM_MAX_THREADS decides. Results do not depend on it.
    """
    _lib.call("CVMSetMaxThreads", _lib.c_count(count, "the number of threads"))


def idle_contexts() -> int:
    """For how many runs a model keeps working memory while nothing runs it."""
    return _get("CVMGetIdleContexts")


def set_idle_contexts(count: int) -> None:
    """Sets for how many runs a model keeps working memory while nothing runs it: 1 by default, or what the environment variable
    CVM_IDLE_CONTEXTS says. While runs are under way, it keeps as much again as they use."""
    _lib.call("CVMSetIdleContexts", _lib.c_count(count, "the number of contexts"))


def _get(name: str) -> int:
    out = ctypes.c_int()
    _lib.call(name, ctypes.byref(out))
    return out.value
