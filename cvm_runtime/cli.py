"""The commands of ``python -m cvm_runtime``.

Each takes a directory with the files ``symbol`` and ``params``, prints for a
reader or, with --json, for a program, and exits with 0, with 1 when the answer
is no (verify), or with 2 after an error, which is one line on stderr. What is
not printable in the texts of a file is escaped, as a stranger may have written
it; tables and errors shorten long ones.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable, NoReturn

import numpy as np

from . import CvmError, Model, Node, Tensor, __version__, cpu, formal, gas, gpu, load_folder, max_threads, set_max_threads
from ._text import printable
from .context import Context
from .folder import read_folder

FAILED, ERROR = 1, 2
LONGEST_NAME, LONGEST_ERROR = 60, 1000  # characters


class UserError(Exception):
    """A fault in the arguments or files of the command."""


def _load(args: argparse.Namespace, ctx: Context | None = None) -> Model:
    return load_folder(args.dir, ctx or _context(args))


def _context(args: argparse.Namespace) -> Context:
    if args.device == "formal":
        return formal()
    set_max_threads(max(max_threads(), args.threads))  # who asks for threads gets them
    return gpu() if args.device == "gpu" else cpu(threads=args.threads)


def _inputs(args: argparse.Namespace, model: Model) -> np.ndarray:
    """Inputs along the first axis: those of --input, else one of seeded values of the model's precision."""
    if args.input is None:
        bound = 2 ** (model.input_precision - 1) - 1
        rng = np.random.default_rng(args.seed)
        return rng.integers(-bound, bound, (1, *model.input_shape), np.int64, endpoint=True).astype(np.int32)
    try:
        x = np.load(args.input, allow_pickle=False)
    except Exception as e:  # a file that is none makes numpy fail in any way
        raise UserError(f"{args.input} cannot be read as an .npy file: {e}") from None
    if not isinstance(x, np.ndarray):
        raise UserError(f"{args.input} holds several arrays, expected one")
    if x.shape == model.input_shape:
        return x[None]
    if x.shape[1:] == model.input_shape and len(x):
        return x
    shape = ", ".join(map(str, model.input_shape))
    raise UserError(f"{args.input} has shape {x.shape}, expected {model.input_shape}, or (n, {shape}) for n inputs")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))  # all others that are not printable are escaped already


def _table(header: list[str], rows: list[list[Any]]) -> str:
    """Columns of text; numbers are right-aligned."""
    cells = [header] + [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
    right = [bool(rows) and isinstance(rows[0][k], int) for k in range(len(header))]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = []
    for row in cells:
        line = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right))
        lines.append("  ".join(line).rstrip())
    return "\n".join(lines)


def _name(text: str) -> str:
    return printable(text, LONGEST_NAME)


def _tensor(t: Tensor) -> dict[str, Any]:
    return {"shape": list(t.shape), "precision": t.precision}


def _shapes(tensors: list[Tensor]) -> str:
    return " ".join(str(t.shape) for t in tensors)


def info(args: argparse.Namespace) -> int:
    model = _load(args)
    if args.json:
        _print_json(
            {
                "version": model.version,
                "postprocess": model.postprocess,
                "input": _tensor(Tensor(model.input_shape, model.input_precision)),
                "outputs": [_tensor(t) for t in model.outputs],
                "gas": model.gas,
                "storage_bytes": model.storage_bytes,
                "arena_bytes": model.arena_bytes,
                "nodes": [
                    {"name": n.name, "op": n.op, "outputs": [_tensor(t) for t in n.outputs], "gas": n.gas} for n in model.nodes
                ],
            }
        )
        return 0
    rows = [
        [n.index, n.op, _name(n.name), _shapes(n.outputs), " ".join(str(t.precision) for t in n.outputs), n.gas]
        for n in model.nodes
    ]
    print(_table(["#", "operator", "name", "shape", "bits", "gas"], rows))
    print(f"\nversion {model.version}, postprocess {_name(model.postprocess) or 'none'}")
    print(f"input   {model.input_shape}, {model.input_precision} bits")
    for k, t in enumerate(model.outputs):
        print(f"output {k} {t.shape}, {t.precision} bits")
    print(f"gas {model.gas:,}, storage {model.storage_bytes:,} bytes, working memory {model.arena_bytes:,} bytes")
    return 0


def _output_paths(path: Path, count: int) -> list[Path]:
    """y.npy, or y_0.npy, y_1.npy, ... for several outputs."""
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}_{k}{path.suffix}") for k in range(count)]


def _write(path: Path, array: np.ndarray) -> None:
    """Writes under another name first, so that no half-written file is ever seen."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as f:
                np.save(f, array)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as e:
        raise UserError(f"{path} cannot be written: {e.strerror}") from None


def run(args: argparse.Namespace) -> int:
    model = _load(args)
    inputs = _inputs(args, model)
    runs = [model.run(x) for x in inputs]
    # Several inputs give outputs with one more axis in front.
    outputs = [np.stack(y) for y in zip(*runs)] if len(runs) > 1 else runs[0]
    paths = _output_paths(args.output, len(outputs)) if args.output else []
    for path, y in zip(paths, outputs):
        _write(path, y)
    if args.json:
        report: dict[str, Any] = {"files": [str(p) for p in paths]}
        if not paths:
            report = {"outputs": [y.tolist() for y in outputs]}
        _print_json(report)
    elif paths:
        for path, y in zip(paths, outputs):
            print(f"{printable(str(path))}: {y.shape} int32")
    else:
        for y in outputs:
            print(y)
    return 0


def print_gas(args: argparse.Namespace) -> int:
    value = gas(*read_folder(args.dir, "symbol"))
    if args.json:
        _print_json({"gas": value})
    else:
        print(value)
    return 0


def _executors() -> list[Context]:
    """Every executor of this library: formal, and the CPU with some thread counts."""
    counts = sorted({1, 2, 3, max_threads()})
    set_max_threads(counts[-1])
    return [formal()] + [cpu(threads=n) for n in counts] + [gpu()]


def verify(args: argparse.Namespace) -> int:
    hashes = {}
    for ctx in _executors():
        try:
            model = _load(args, ctx)
        except CvmError as e:
            if ctx == gpu() and e.status == 2:
                continue  # not built in, or no device: nothing to compare
            raise
        digest = hashlib.sha256()
        for x in _inputs(args, model):
            for y in model.run(x):
                digest.update(y.tobytes())
        hashes[repr(ctx)] = digest.hexdigest()
    same = len(set(hashes.values())) == 1
    if args.json:
        _print_json({"same": same, "sha256": hashes})
    else:
        for name, value in hashes.items():
            print(f"{value}  {name}")
        print("all executors agree" if same else "the executors DIFFER")
    return 0 if same else FAILED


def _steps(seconds: np.ndarray, nodes: list[Node]) -> list[dict[str, Any]]:
    """The steps that the library timed, in order: {"name", "ops", "ms", "macs"}.

    Nodes that the library runs as one step are timed together, at one of them. So a node without time belongs to the step of
    the first timed node that follows from it, and the step has the multiply-adds of all its nodes.
    """
    owner = [k if t > 0 else len(nodes) for k, t in enumerate(seconds)]
    for k in reversed(range(len(nodes))):
        for j in nodes[k].inputs:
            if seconds[j] <= 0:
                owner[j] = min(owner[j], owner[k])
    steps = {k: {"name": nodes[k].name, "ops": [], "ms": float(t) * 1e3, "macs": 0} for k, t in enumerate(seconds) if t > 0}
    for node in nodes:
        if node.op == "null" or owner[node.index] not in steps:
            continue
        step = steps[owner[node.index]]
        step["ops"].append(node.op)
        if node.op in ("conv2d", "dense"):  # each output is a sum over all but the first axis of the weight
            weight = nodes[node.inputs[1]].outputs[0]
            step["macs"] += math.prod(node.outputs[0].shape) * math.prod(weight.shape[1:])
            step["name"] = node.name
    return list(steps.values())


def _ops(names: list[str]) -> str:
    """conv2d, relu, relu -> conv2d relu(2)"""
    return " ".join(name if n == 1 else f"{name}({n})" for name, n in Counter(names).items())


def bench(args: argparse.Namespace) -> int:
    model = _load(args)
    x = _inputs(args, model)[0]
    model.run(x)  # the first run touches the memory
    totals, runs = np.empty(args.repeat), []
    for k in range(args.repeat):
        start = time.perf_counter()
        runs.append(model.profile(x)[1])
        totals[k] = time.perf_counter() - start
    seconds = np.median(runs, axis=0)
    whole = float(np.median(totals))
    nodes = model.nodes
    by_op: dict[str, float] = {}
    for node, t in zip(nodes, seconds):
        if node.op != "null":
            by_op[node.op] = by_op.get(node.op, 0.0) + float(t) * 1e3
    by_op = dict(sorted(by_op.items(), key=lambda item: -item[1]))
    steps = _steps(seconds, nodes) if args.layers else []
    if args.json:
        report: dict[str, Any] = {
            "threads": model.threads,
            "repeat": args.repeat,
            "median_ms": whole * 1e3,
            "min_ms": float(totals.min()) * 1e3,
            "operators_ms": by_op,
        }
        if args.layers:
            report["steps"] = steps
        _print_json(report)
        return 0
    print(f"{args.device}, {model.threads} threads, {args.repeat} runs")
    print(f"median {whole * 1e3:.3f} ms, min {totals.min() * 1e3:.3f} ms")

    def row(name: str, ms: float) -> list[str]:
        return [name, f"{ms:9.3f} ms", f"{ms / whole / 1e3:6.1%}"]

    outside = row("(outside the steps)", (whole - float(seconds.sum())) * 1e3)
    if not args.layers:
        print(_table(["operator", "   median", " share"], [row(op, ms) for op, ms in by_op.items()] + [outside]))
        return 0
    rows = []
    for step in steps:
        speed = f"{step['macs'] / step['ms'] / 1e6:7.1f}" if step["macs"] else ""
        rows.append([*row(_name(step["name"]), step["ms"]), speed, _ops(step["ops"])])
    print(_table(["step", "   median", " share", " GMAC/s", "operators"], [*rows, [*outside, "", ""]]))
    return 0


def _count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"'{text}', expected an integer of at least {least}")
        return value

    return parse


def _directory(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is no directory; expected one with the files 'symbol' and 'params'")
    return Path(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m cvm_runtime", description="Runs and inspects CVM models.")
    parser.add_argument("--version", action="version", version=__version__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("dir", type=_directory, metavar="DIR", help="directory with the files symbol and params")
    common.add_argument("--json", action="store_true", help="print JSON")
    device = argparse.ArgumentParser(add_help=False)
    device.add_argument("--device", choices=["cpu", "formal", "gpu"], default="cpu")
    device.add_argument("--threads", type=_count(0), default=0, metavar="N", help="most threads of a run; 0: one per processor")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--input", type=Path, metavar="X.npy", help="one input, or n of them; default: seeded random values")
    data.add_argument("--seed", type=_count(0), default=0, metavar="N", help="seed of the random values")

    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, function: Any, text: str, parents: list[argparse.ArgumentParser]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, parents=[common, *parents])
        command.set_defaults(function=function)
        return command

    add("info", info, "print the graph, its precisions and costs", [device])
    command = add("run", run, "run the model once", [device, data])
    command.add_argument("--output", type=Path, metavar="Y.npy", help="default: print the outputs")
    add("gas", print_gas, "print the cost of one inference", [])
    add("verify", verify, "compare all executors and thread counts bit for bit", [data])
    command = add("bench", bench, "measure the time of one inference", [device, data])
    command.add_argument("--repeat", type=_count(1), default=20, metavar="N", help="number of runs")
    command.add_argument("--layers", action="store_true", help="the time of each step, not of each operator")
    return parser


def _fail(text: object) -> int:
    if sys.stderr is not None:
        print(f"error: {printable(str(text), LONGEST_ERROR)}", file=sys.stderr)
    return ERROR


def _drop_output() -> None:
    """Leaves nothing for the interpreter to write, and fail at, when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: list[str] | None = None) -> int:
    if sys.stdout is None:
        return _fail("the output cannot be written: standard output is closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for letters that the terminal's encoding lacks
    try:
        try:
            args = _parser().parse_args(argv)
            return args.function(args)
        finally:
            sys.stdout.flush()  # here, where its failure can be told
    except (CvmError, UserError) as e:
        return _fail(e)
    except BrokenPipeError:  # the reader of stdout left, as head does
        _drop_output()
    except OSError as e:
        _drop_output()
        return _fail(f"the output cannot be written: {e.strerror}")
    except MemoryError:
        return _fail("out of memory")
    except KeyboardInterrupt:
        return _fail("interrupted")
    return ERROR
