"""Feeds seeded mutations of valid models to the loader; run as a program.

    python hostile.py COUNT SEED

Prints how many mutants were accepted and refused. A crash or a hang of the
library is a crash or a hang of this process, which the caller notices. Every
accepted mutant must run alike on the reference and on the fast kernels.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]

from random_graphs import RandomGraph  # noqa: E402

import cvm_runtime as cvm  # noqa: E402

NUMBERS = [0, 1, -1, 2, 3, 4, 5, 6, 7, 8, 16, 31, 32, 33, 255, 4096, 2**16, 2**24, 2**30, 2**31 - 1, 2**31, 2**32 - 1]
NUMBERS += [-4, -(2**31), 2**40, 2**63 - 1]
TEXTS = ["", "0", "-1", "(1,)", "(0, 0)", "(-4, -1, 0)", "()", "(2147483647,)", "None", "True", "conv2d", "transpose"]
TEXTS += ["non_max_suppression", "get_valid_counts", "sum", "data", "list_int", "cvm_1.1.0", "argmax", "detection"]
MAX_WORK = 3_000_000  # gas of a mutant that is worth running


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Paths to all values of a JSON document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def mutate_value(rng: random.Random, value: Any) -> Any:
    if isinstance(value, int):
        return rng.choice([rng.choice(NUMBERS), value + rng.choice([-1, 1]), -value])
    if isinstance(value, str):
        if value.startswith("{"):  # an op_attrs string
            attrs = json.loads(value)
            if attrs and rng.random() < 0.9:
                attrs[rng.choice(sorted(attrs))] = rng.choice([str(rng.choice(NUMBERS)), rng.choice(TEXTS)])
            return json.dumps(attrs)
        return rng.choice(TEXTS)
    if isinstance(value, list) and value:
        value = list(value)
        k = rng.randrange(len(value))
        action = rng.randrange(3)
        if action == 0:
            del value[k]
        elif action == 1:
            value.insert(k, value[rng.randrange(len(value))])
        else:
            rng.shuffle(value)
    return value


def mutate_document(rng: random.Random, symbol: bytes) -> bytes:
    document = json.loads(symbol)
    for _ in range(rng.randint(1, 3)):
        paths = places(document)
        *parents, last = rng.choice(paths)
        target = document
        for key in parents:
            target = target[key]
        if isinstance(target, dict) and rng.random() < 0.1:
            del target[last]
        else:
            target[last] = mutate_value(rng, target[last])
    return json.dumps(document).encode()


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        k = rng.randrange(len(data))
        action = rng.randrange(4)
        if action == 0:
            data[k] = rng.randrange(256)
        elif action == 1:
            data[k] ^= 1 << rng.randrange(8)
        elif action == 2:
            del data[k : k + rng.randint(1, 8)]
        else:
            data[k:k] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 8)))
    return bytes(data[: rng.randrange(len(data))] if data and rng.random() < 0.1 else data)


def try_model(symbol: bytes, params: bytes) -> bool:
    """Loads and, when that works, runs on both executors; whether it loaded."""
    try:
        if cvm.gas(symbol) > MAX_WORK:
            return False
        formal = cvm.load(symbol, params, cvm.formal())
    except cvm.CvmError as e:
        assert e.status in (1, 2)
        assert str(e)
        return False
    fast = cvm.load(symbol, params, cvm.cpu(threads=2))
    data = np.random.default_rng(0).integers(-128, 128, formal.input_length, np.int64).astype(np.int8).tobytes()
    results = []
    for model in (formal, fast):
        try:
            results.append(model.infer(data))
        except cvm.CvmLogicError as e:
            results.append(str(e).encode())
    assert results[0] == results[1], "the executors differ"
    return True


def main(count: int, seed: int) -> None:
    rng = random.Random(seed)
    accepted = 0
    models = [RandomGraph(1000 + k).build(12)[:2] for k in range(12)]
    for _ in range(count):
        symbol, params = rng.choice(models)
        kind = rng.randrange(10)
        if kind < 7:
            symbol = mutate_document(rng, symbol)
        elif kind < 8:
            symbol = mutate_bytes(rng, symbol)
        else:
            params = mutate_bytes(rng, params)
        accepted += try_model(symbol, params)
    print(f"{accepted} accepted, {count - accepted} refused")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
