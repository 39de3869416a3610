"""Small models that many tests run, and changes to the files of one."""

from __future__ import annotations

from typing import Any, Callable, Dict

import numpy as np
from graphs import GraphWriter, random_values

import cvm_runtime as cvm

ACCEPTED, LOGIC, RUNTIME = 0, 1, 2

# Section 9 of the format specification, byte for byte.
EXAMPLE_PARAMS = bytes.fromhex(
    "b79c04054f8de5f7" + "0000000000000000" + "0200000000000000"
    "0900000000000000" + b"fc_weight".hex() + "0700000000000000" + b"fc_bias".hex() + "0200000000000000"
    "3fa1b496f0405edd" + "0000000000000000" + "010000000000000002000000" + "00080100"
    "0300000000000000" + "0400000000000000" + "0c00000000000000" + "01020304fffefdfc7f000081"
    "3fa1b496f0405edd" + "0000000000000000" + "010000000000000001000000" + "00200100"
    "0300000000000000" + "0c00000000000000" + "640000009cffffffe8030000"
)


def example() -> tuple[GraphWriter, dict[str, Any]]:
    g = GraphWriter()
    x = g.data((1, 4), 8)
    w = g.param("fc_weight", np.array([[1, 2, 3, 4], [-1, -2, -3, -4], [127, 0, 0, -127]]), 8)
    b = g.param("fc_bias", np.array([100, -100, 1000]), 12)
    y = g.op("dense", [x, w, b], (1, 3), units=3, use_bias=True)
    y = g.op("cvm_right_shift", [y], (1, 3), precision=8, shift_bit=6)
    y = g.op("relu", [y], (1, 3))
    document = g.document([y])
    document["attrs"]["storage_id"] = ["list_int", [2, 3, 4, 0, 1, 0]]
    return g, document


def relu_of(precision: int) -> cvm.Model:
    g = GraphWriter()
    x = g.data((1, 4), precision)
    return cvm.load(*g.build([g.op("relu", [x], (1, 4))]))


Change = Callable[[Dict[str, Any]], Any]


def lists(d: dict[str, Any], key: str) -> list[Any]:
    return d["attrs"][key][1]


def func(d: dict[str, Any], node: int, name: str) -> None:
    d["nodes"][node]["attrs"]["func_name"] = name


def status_of(symbol: bytes, params: bytes = EXAMPLE_PARAMS) -> tuple[int, str]:
    try:
        cvm.load(symbol, params, cvm.formal())
    except cvm.CvmError as e:
        return e.status, str(e)
    return 0, ""


def shared_work() -> tuple[bytes, bytes, list[np.ndarray]]:
    """A graph whose every step is cut into pieces for the threads, and inputs."""
    rng = np.random.default_rng(0)
    g = GraphWriter()
    x = g.data((1, 16, 40, 40), 8)
    w, b = (g.param(n, random_values(rng, s, p), p) for n, s, p in (("w", (32, 16, 3, 3), 8), ("b", (32,), 16)))
    shape = (1, 32, 40, 40)
    y = g.op("conv2d", [x, w, b], shape, channels=32, kernel_size=(3, 3), padding=(1, 1))
    y = g.op("cvm_right_shift", [y], shape, precision=8, shift_bit=9)
    d = g.param("d", random_values(rng, (32, 1, 3, 3), 8), 8)
    z = g.op("conv2d", [y, d], shape, channels=32, kernel_size=(3, 3), padding=(1, 1), groups=32, use_bias=False)
    z = g.op("cvm_right_shift", [z], shape, precision=8, shift_bit=5)
    y = g.op("elemwise_add", [y, z], shape)
    y = g.op("broadcast_mul", [y, g.param("m", random_values(rng, (32, 1, 1), 8), 8)], shape)
    y = g.op("transpose", [y], (1, 40, 40, 32), axes=(0, 2, 3, 1))
    s = g.op("sum", [y], (1, 40, 32), axis=(1,))
    y = g.op("concatenate", [y, y], (1, 40, 40, 64), axis=3)
    y = g.op("max_pool2d", [y], (1, 40, 20, 32), pool_size=(2, 2), strides=(2, 2))
    s = g.op("transpose", [s], (1, 32, 40), axes=(0, 2, 1))
    y = g.op("reshape", [y], (1, 32, 800), shape=(1, 32, 800))  # rows to put beside those of s
    inputs = [random_values(rng, x.shape, 8) for _ in range(8)]
    return *g.build([s, y]), inputs


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(u, v) for u, v in zip(a, b))
