"""Feeds seeded mutations of valid models to the loader; run as a program.

    python hostile.py COUNT SEED [MOST_GAS]

A crash or a hang of the library kills this process, which the caller notices.
Of every mutant: the executors load it with one status, the cost query agrees,
and when it is accepted, an independent check finds nothing wrong with it and
the executors give the same bytes. Models of more than MOST_GAS are not loaded.

Prints how many were accepted and refused, and the peak memory.
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]

from graphs import IN_PLACE, LIST_MAGIC, TENSOR_MAGIC, dump, int_range  # noqa: E402
from memory import peak_memory  # noqa: E402
from random_operators import RandomGraph  # noqa: E402

import cvm_runtime as cvm  # noqa: E402

SECONDS = 30  # that one mutant may take
MAX_WORK = 1_000_000  # gas of a mutant that is worth running

NUMBERS = [0, 1, -1, 2, 3, 4, 5, 6, 7, 8, 16, 31, 32, 33, 255, 4096, 9999, 2**16, 2**24, 2**24 + 1, 2**30, 50_000_000]
NUMBERS += [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64, -4, -(2**31), -(2**63), -(2**63) - 1]
TEXTS = ["", "0", "-1", "(1,)", "(0, 0)", "(-4, -1, 0, -2)", "()", "(2147483647,)", "None", "True", "conv2d", "transpose"]
TEXTS += ["non_max_suppression", "get_valid_counts", "sum", "where", "relu", "data", "list_int", "cvm_1.1.0", "argmax"]
TEXTS += ["detection", "(0, 0, 0, 0, 0)", "(9223372036854775807, -9223372036854775808)", "x" * 40]


# ---- mutations --------------------------------------------------------------


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


def mutate_any(rng: random.Random, document: dict[str, Any]) -> None:
    *parents, last = rng.choice(places(document))
    target: Any = document
    for key in parents:
        target = target[key]
    if isinstance(target, dict) and rng.random() < 0.1:
        del target[last]
    else:
        target[last] = mutate_value(rng, target[last])


def mutate_edge(rng: random.Random, document: dict[str, Any]) -> None:
    """An input or a head to any node: cycles, forward references, other tensors."""
    entries = [e for node in document["nodes"] for e in node["inputs"]] + document["heads"]
    entry = rng.choice(entries)
    entry[rng.choice([0, 0, 1])] = rng.choice([rng.randrange(len(document["nodes"])), rng.choice(NUMBERS)])


def mutate_storage(rng: random.Random, document: dict[str, Any]) -> None:
    ids = document["attrs"]["storage_id"][1]
    ids[rng.randrange(len(ids))] = rng.choice([rng.choice(ids), rng.choice(ids), rng.choice(NUMBERS)])


def mutate_shapes(rng: random.Random, document: dict[str, Any]) -> None:
    """One extent, or every shape of one rank: what is consistent gets past the shape rules."""
    shapes = document["attrs"]["shape"][1]
    k = rng.randrange(len(shapes))
    axis, value = rng.randrange(len(shapes[k])), rng.choice(NUMBERS)
    if rng.random() < 0.5:
        shapes[k][axis] = value
        return
    old = shapes[k]
    for shape in shapes:
        if shape == old:
            shape[axis] = value


def mutate_order(rng: random.Random, document: dict[str, Any]) -> None:
    nodes = document["nodes"]
    i, j = rng.randrange(len(nodes)), rng.randrange(len(nodes))
    nodes[i], nodes[j] = nodes[j], nodes[i]


def mutate_document(rng: random.Random, symbol: bytes) -> bytes:
    document = json.loads(symbol)
    edits = [mutate_any] * 6 + [mutate_edge] * 2 + [mutate_storage] * 2 + [mutate_shapes] * 2 + [mutate_order]
    try:
        for _ in range(rng.randint(1, 3)):
            rng.choice(edits)(rng, document)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError):
        pass  # an earlier edit took away what this one needs
    return dump(document)


def mutate_text(rng: random.Random, symbol: bytes) -> bytes:
    k = rng.randrange(len(symbol))
    piece = rng.choice([b"[", b"{", b'{"a":', b"]", b"\\", b'"', b"9"]) * rng.choice([1, 2, 30, 50_000])
    return rng.choice([symbol[:k], symbol[:k] + piece + symbol[k:], symbol[:k] + piece, symbol + piece])


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not changed:
            break
        k = rng.randrange(len(changed))
        action = rng.randrange(4)
        if action == 0:
            changed[k] = rng.randrange(256)
        elif action == 1:
            changed[k] ^= 1 << rng.randrange(8)
        elif action == 2:
            del changed[k : k + rng.randint(1, 8)]
        else:
            changed[k:k] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 8)))
    return bytes(changed[: rng.randrange(len(changed))] if changed and rng.random() < 0.1 else changed)


def mutate_params(rng: random.Random, params: bytes) -> bytes:
    """A number of the header or of a tensor's record, or the end."""
    data = bytearray(params)
    starts = [0]
    at = params.find(struct.pack("<Q", TENSOR_MAGIC))
    while at >= 0:
        starts.append(at)
        at = params.find(struct.pack("<Q", TENSOR_MAGIC), at + 1)
    start = rng.choice(starts)
    layout, size = rng.choice([("<q", 8), ("<i", 4), ("<b", 1)])
    place = start + rng.randrange(0, 64, size)
    if rng.random() < 0.8 and place + size <= len(data):
        bound = 2 ** (size * 8 - 1)
        struct.pack_into(layout, data, place, min(max(rng.choice(NUMBERS), -bound), bound - 1))
        return bytes(data)
    return params[: rng.randrange(len(params))] if rng.random() < 0.7 else params + bytes(rng.randint(1, 40))


# ---- what must hold of an accepted model ------------------------------------


def read_params(data: bytes) -> dict[bytes, np.ndarray]:
    at = 0

    def take(layout: str) -> tuple:
        nonlocal at
        values = struct.unpack_from("<" + layout, data, at)
        at += struct.calcsize("<" + layout)
        return values

    magic, _, count = take("QQQ")
    assert magic == LIST_MAGIC
    names = [take(f"{take('Q')[0]}s")[0] for _ in range(count)]
    assert take("Q") == (count,)
    tensors = {}
    for name in names:
        magic, _, device, _, rank, code, bits, lanes = take("QQiiiBBH")
        assert (magic, device, code, lanes) == (TENSOR_MAGIC, 1, 0, 1)
        shape = take(f"{rank}q")
        (size,) = take("q")
        values = np.frombuffer(take(f"{size}s")[0], {8: "<i1", 32: "<i4"}[bits])
        tensors[name] = values.reshape(shape)
    return tensors


def outputs_of(node: dict[str, Any]) -> int:
    return 2 if function_of(node) == "get_valid_counts" else 1


def function_of(node: dict[str, Any]) -> str:
    name = node.get("attrs", {}).get("func_name", "") if node["op"] != "null" else ""
    head, _, number = name.rpartition("_")
    return head if head and (not number or (number.isascii() and number.isdigit())) else name


def check_values(document: dict[str, Any], first: list[int], tensors: dict[bytes, np.ndarray]) -> None:
    attrs = document["attrs"]
    for k, node in enumerate(document["nodes"]):
        if node["op"] != "null" or node["name"] == "data":
            continue
        values = tensors[node["name"].encode("latin-1")]
        assert list(values.shape) == attrs["shape"][1][first[k]]
        assert np.abs(values.astype(np.int64)).max() <= int_range(attrs["precision"][1][first[k]])


def check_storage(document: dict[str, Any], first: list[int]) -> None:
    """Plays the run in the declared slots: whatever is read must still be there."""
    nodes, ids = document["nodes"], document["attrs"]["storage_id"][1]
    slots: dict[int, int] = {}
    variables = [first[k] for k, node in enumerate(nodes) if node["op"] == "null"]
    for e in variables:
        assert slots.setdefault(ids[e], e) == e, "variables share a slot"
    for k, node in enumerate(nodes):
        read = [first[n] + i for n, i, *_ in node["inputs"]]
        assert all(slots[ids[e]] == e for e in read), "an input was overwritten"
        if node["op"] != "null":
            outputs = range(first[k], first[k] + outputs_of(node))
            assert len({ids[e] for e in outputs}) == len(outputs)
            assert function_of(node) in IN_PLACE or not {ids[e] for e in read} & {ids[e] for e in outputs}
            slots.update((ids[e], e) for e in outputs)
    kept = [first[n] + i for n, i, *_ in document["heads"]]
    kept += [first[k] for k, node in enumerate(nodes) if node["op"] == "null" and node["name"] != "data"]
    assert all(slots[ids[e]] == e for e in kept), "an output or a parameter was overwritten"


def check_accepted(symbol: bytes, params: bytes) -> bool:
    """Fails if the model ought to have been refused; whether it could be checked."""
    try:
        text = symbol.decode("latin-1").lstrip()
        document, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except ValueError:
        return False  # the dialect takes some texts that JSON does not, such as +1
    nodes, attrs = document["nodes"], document["attrs"]
    first = [0]
    for node in nodes:
        first.append(first[-1] + outputs_of(node))
    shapes, ids = attrs["shape"][1], attrs["storage_id"][1]
    assert nodes and document["heads"]
    assert all(node["op"] in ("null", "cvm_op") for node in nodes)
    assert len(shapes) == len(ids) == len(attrs["precision"][1]) == first[-1]
    assert all(0 <= i < first[-1] for i in ids)
    sizes: dict[int, int] = {}
    for shape, i in zip(shapes, ids):
        size = int(np.prod(shape, dtype=object))
        assert 1 <= len(shape) <= 6 and all(1 <= d <= 2**24 for d in shape) and size <= 2**30
        sizes[i] = max(sizes.get(i, 0), 4 * size)
    assert sum(sizes.values()) <= 2**32
    for k, node in enumerate([*nodes, {"inputs": document["heads"]}]):
        assert all(0 <= n < k and 0 <= i < outputs_of(nodes[n]) for n, i, *_ in node["inputs"]), "a bad index"
    if document.get("version", "cvm_1.0.0") == "cvm_1.0.0":
        assert document["arg_nodes"] == [k for k, node in enumerate(nodes) if node["op"] == "null"]
        assert document["node_row_ptr"] == first
    check_storage(document, first)
    check_values(document, first, read_params(params))
    return True


# ---- the trial --------------------------------------------------------------


def attempt(call: Any) -> tuple[int, Any]:
    """Status and result."""
    try:
        return 0, call()
    except cvm.CvmError as e:
        assert e.status in (1, 2)
        assert str(e)
        return e.status, str(e)


def try_model(symbol: bytes, params: bytes, most_gas: float) -> str:
    cost_status, gas = attempt(lambda: cvm.gas(symbol))
    if cost_status == 0 and gas > most_gas:
        return "not loaded"
    status, formal = attempt(lambda: cvm.load(symbol, params, cvm.formal()))
    fast_status, fast = attempt(lambda: cvm.load(symbol, params, cvm.cpu(threads=2)))
    assert (status, str(formal)) == (fast_status, str(fast)) or status == fast_status == 0
    if b"\0" not in symbol:  # where the text of the cost query ends
        assert cost_status in (0, status), "the cost query and the load disagree"
    if status:
        return "refused"
    checked = check_accepted(symbol, params)
    if formal.gas <= MAX_WORK:
        data = np.random.default_rng(0).integers(-128, 128, formal.input_length, np.int64).astype(np.int8).tobytes()
        results = [attempt(lambda model=model: model.infer(data)) for model in (formal, fast)]
        assert results[0] == results[1], "the executors differ"
    return "accepted" if checked else "accepted unchecked"


def seeds() -> list[tuple[bytes, bytes]]:
    models = []
    for k in range(40):
        symbol, params, _ = RandomGraph(1000 + k).build(4 + k % 9)
        if k % 4 == 3:
            document = json.loads(symbol)
            document.update(version="cvm_1.1.0", postprocess=["", "argmax", "detection"][k % 3])
            symbol = dump(document)
        models.append((symbol, params))
    return [m for m in models if sum(map(len, m)) < 60_000]


def main(count: int, seed: int, most_gas: float = float("inf")) -> None:
    models = seeds()
    outcomes = dict.fromkeys(["accepted", "accepted unchecked", "refused", "not loaded"], 0)
    for index in range(count):
        rng = random.Random(f"{seed} {index}")
        symbol, params = rng.choice(models)
        kind = rng.randrange(20)
        if kind < 13:
            symbol = mutate_document(rng, symbol)
        elif kind < 15:
            symbol = mutate_text(rng, symbol)
        elif kind < 16:
            symbol = mutate_bytes(rng, symbol)
        elif kind < 18:
            params = mutate_bytes(rng, params)
        else:
            params = mutate_params(rng, params)
        signal.alarm(SECONDS)
        try:
            outcomes[try_model(symbol, params, most_gas)] += 1
        except BaseException:
            print(f"mutant {index} of seed {seed}:\n{symbol[:3000]!r}\n{params[:300]!r}", file=sys.stderr)
            raise
        signal.alarm(0)
    peak = peak_memory() >> 20
    print(", ".join(f"{n} {what}" for what, n in outcomes.items()) + f"; peak memory {peak} MiB")


def run_apart(count: int, seed: int, most_gas: str = "inf", **environment: str) -> str:
    """What this program prints, in a process of its own."""
    command = [sys.executable, __file__, str(count), str(seed), most_gas]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:]))
