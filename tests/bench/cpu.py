#!/usr/bin/env python3
"""Speed on the CPU: our engine, the int8 of ONNX Runtime and OpenVINO, and the limit of this processor, interleaved in one run.

    python tests/bench/cpu.py --peers-models OUT                                    # ours and the limit
    python tests/bench/cpu.py --peers-models OUT --peers-python PEERS/bin/python --json cpu.json --svg cpu.svg
    python tests/bench/cpu.py --peers-models OUT --net resnet50_v1 --threads 2 --isa avx2

OUT is the folder that peers.py exports to (NAME-symbol.json, NAME-0000.params) and quantizes in (NAME.int8.onnx). The CVM files
are made from the former by MRT when they are not there, and kept in OUT/cvm/batchB/NAME: delete them to have them made again.

Every engine has a process of its own and one turn in each round; a turn warms up and then counts its fastest run, because what
others do on the machine can only add time. Figures are the median of the rounds, [quartiles] beside it. The ratio is formed
within each round. The roof is the multiply-adds per second of one thread that issues dot products alone, times the threads.
Without VNNI it is that of 16-bit pairs, which bytes can exceed where weights cannot saturate.
Load time is that of model and engine without imports; peak memory is that of the whole process after one run, Python included.
"""
import argparse
import contextlib
import html
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from mrt.files import atomic_write  # noqa: E402

NETS = ["resnet18_v1", "resnet50_v1", "mobilenet1.0", "mobilenetv2_1.0", "squeezenet1.0", "vgg16", "densenet121"]
TITLES = {"ours": "ours", "ort8": "ONNX Runtime int8", "ov8": "OpenVINO int8"}
PEERS = ("ort8", "ov8")
ROUNDS = 12


class Missing(Exception):
    """What cannot be measured here, and why."""


# ---- processes -------------------------------------------------------------------------------------------------------

class Worker:
    """A process that answers each line it is sent with a line; `greeting` is its first one. Use as a context manager."""

    def __init__(self, command, env=None):
        with contextlib.ExitStack() as stack:
            self._errors = stack.enter_context(tempfile.TemporaryFile("w+"))
            self._process = stack.enter_context(subprocess.Popen(
                list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=env))
            self.greeting = self._answer()
            self._stack = stack.pop_all()

    def ask(self, line):
        with contextlib.suppress(BrokenPipeError):  # its death shows in the answer
            print(line, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if line:
            return line
        status = self._process.wait()
        self._errors.seek(0)
        raise Missing(complaint(self._errors.read(), status))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(BrokenPipeError):
            self._stack.close()


def output(command, env=None):
    """What a command prints; Missing with its complaint when it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=env)
    if done.returncode:
        raise Missing(complaint(done.stderr, done.returncode))
    return done.stdout


def complaint(text, status):
    """The line of a program's stderr that says what is wrong: a compiler's first error, else the last line."""
    lines = text.strip().splitlines() or [f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"]
    return next((line for line in lines if "error: " in line), lines[-1])


class Engine(Worker):
    """cpu_worker.py with one network loaded; `facts`: load_s, first_ms, peak_mb."""

    def __init__(self, python, *arguments, env=None):
        super().__init__([python, HERE / "cpu_worker.py", *arguments], env)
        self.facts = json.loads(self.greeting)

    def turn(self, seconds):
        """Milliseconds of the fastest run."""
        return min(json.loads(self.ask(seconds)))


class Roof(Worker):
    """roofline.cc, compiled. `names`: the instruction sets this processor has, best first; `isa`: the one that limits us."""

    def __init__(self, folder, isa):
        compiler = next(filter(None, map(shutil.which, [os.environ.get("CXX", ""), "c++", "g++", "clang++"])), None)
        if not compiler:
            raise Missing("no C++ compiler found (c++, g++, clang++, or the one named by CXX) to build the probe")
        program = Path(folder) / "roofline"
        output([compiler, "-std=c++17", "-O2", "-o", program, HERE / "roofline.cc"])
        super().__init__([program])
        self.names = self.greeting.split()
        if not self.names:
            self.__exit__()
            raise Missing("the probe knows no dot products of this processor")
        self.isa = isa if isa in self.names else self.names[0]

    def rate(self, isa=None):
        """Multiply-adds per second of one thread."""
        return float(self.ask(isa or self.isa))


# ---- networks --------------------------------------------------------------------------------------------------------

def network(models, name, batch):
    """The folder with the CVM files of a network; makes them first if need be."""
    folder = models / "cvm" / f"batch{batch}" / name
    if not (folder / "symbol").is_file():
        for end in ("-symbol.json", "-0000.params"):
            if not (models / (name + end)).is_file():
                raise Missing(f"no file {models / (name + end)}; make it with 'peers.py export {models}'")
        print(f"{name}: MRT quantizes it, once", file=sys.stderr, flush=True)
        output([sys.executable, HERE / "cpu_models.py", models / name, folder, batch])
    return folder


def steps(folder, options, env):
    """The steps of our engine with their times, as `python -m cvm_runtime bench --layers` has them."""
    command = [sys.executable, "-m", "cvm_runtime", "bench", folder, "--layers", "--json", "--threads", options.threads,
               "--input", folder / "data.npy"]
    return json.loads(output(command, env))["steps"]


# ---- measuring -------------------------------------------------------------------------------------------------------

def spread(values):
    """{"median", "q1", "q3"}"""
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "q1": float(q1), "q3": float(q3)}


def measure(name, options, roof, peers, missing):
    """All figures of one network; what is not there is added to `missing`."""
    folder = network(options.peers_models, name, options.batch)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    if options.isa:
        env["CVM_ISA"] = options.isa
    clock = "process_time" if options.processor_time else "perf_counter"
    with contextlib.ExitStack() as stack:
        engines = {"ours": stack.enter_context(Engine(sys.executable, "ours", folder, clock, options.threads, env=env))}
        for peer in peers:
            model = options.peers_models / f"{name}.int8.onnx"
            try:
                if not model.is_file():
                    raise Missing(f"no file {model}; make it with 'peers.py quantize {options.peers_models}'")
                engines[peer] = stack.enter_context(Engine(options.peers_python, peer, model, clock, options.threads,
                                                           options.batch, options.peers_script))
            except Missing as reason:
                missing.append(f"{TITLES[peer]} on {name}: {reason}")
        turns, rates, order = {engine: [] for engine in engines}, [], list(engines)
        for k in range(ROUNDS):
            first = k % len(order)  # nobody always follows the same one
            for engine in order[first:] + order[:first]:
                turns[engine].append(engines[engine].turn(options.seconds / ROUNDS))
            if roof:
                rates.append(roof.rate())
        facts = {engine: worker.facts for engine, worker in engines.items()}
    found = steps(folder, options, env)
    result = {"macs": sum(step["macs"] for step in found), "steps": found,
              "engines": {engine: {"ms": spread(ms), "rounds_ms": ms, **facts[engine]} for engine, ms in turns.items()}}
    rivals = [engine for engine in engines if engine != "ours"]
    if rivals:
        best = min(rivals, key=lambda engine: np.median(turns[engine]))
        result.update(better_peer=best, ratio=spread(np.divide(turns["ours"], turns[best])))
    if rates and result["macs"]:
        limit = float(np.median(rates)) * options.threads
        result.update(roof_macs_per_s=limit, roof_ms=result["macs"] / limit * 1e3)
    return result


# ---- tables ----------------------------------------------------------------------------------------------------------

def share(macs, ms, result):
    return f"{macs / (ms / 1e3) / result['roof_macs_per_s']:.1%}" if "roof_macs_per_s" in result and macs else "-"


def range_of(value, digits=2):
    return f"{value['median']:.{digits}f} [{value['q1']:.{digits}f} {value['q3']:.{digits}f}]"


HEAD = (f"{'network':<16} {'engine':<18} {'ms':>24} {'GMAC/s':>8} {'of roof':>7} {'load s':>7} {'peak MB':>8}"
        "  ours / better peer")


def rows(name, result):
    """Lines of the table for one network."""
    if "roof_ms" in result:
        yield f"{name:<16} {'roof':<18} {result['roof_ms']:>24.2f} {result['roof_macs_per_s'] / 1e9:8.1f}"
    for engine, e in result["engines"].items():
        ms = e["ms"]["median"]
        ratio = f"  {range_of(result['ratio'])}, {result['better_peer']}" if engine == "ours" and "ratio" in result else ""
        yield (f"{name:<16} {TITLES[engine]:<18} {range_of(e['ms']):>24} {result['macs'] / ms / 1e6:8.1f} "
               f"{share(result['macs'], ms, result):>7} {e['load_s']:7.2f} {e['peak_mb']:8.0f}{ratio}")


def layer_rows(name, result, count):
    """Lines with the slowest steps of one network."""
    whole = sum(step["ms"] for step in result["steps"])
    yield f"\n{name}: the slowest of {len(result['steps'])} steps, {whole:.2f} ms in all"
    yield f"  {'step':<28} {'ms':>9} {'share':>6} {'GMAC/s':>8} {'of roof':>7}  operators"
    for step in sorted(result["steps"], key=lambda step: -step["ms"])[:count]:
        rate = f"{step['macs'] / step['ms'] / 1e6:8.1f}" if step["macs"] else "       -"
        yield (f"  {step['name']:<28} {step['ms']:9.3f} {step['ms'] / whole:6.1%} {rate} "
               f"{share(step['macs'], step['ms'], result):>7}  {' '.join(dict.fromkeys(step['ops']))}")


# ---- the plot --------------------------------------------------------------------------------------------------------

COLOURS = {"ours": "#c2410c", "ort8": "#1d4ed8", "ov8": "#0f766e"}


def plot(report):
    """An SVG: one row per network, milliseconds on a logarithmic axis, a dot with quartiles per engine, the roof as a bar."""
    nets = report["nets"]
    values = [v for r in nets.values() for e in r["engines"].values() for v in (e["ms"]["q1"], e["ms"]["q3"])]
    values += [r["roof_ms"] for r in nets.values() if "roof_ms" in r]
    low, high = math.log10(min(values) / 1.2), math.log10(max(values) * 1.2)
    left, width, top, row = 140, 620, 70, 46
    bottom = top + row * len(nets)

    def x(ms):
        return left + width * (math.log10(ms) - low) / (high - low)

    def text(at, y, content, anchor="start", colour="#222", size=13):
        return f'<text x="{at:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{content}</text>'

    title = (f"Milliseconds for a batch of {report['batch']}, {report['threads']} thread(s), "
             f"ours with {report['isa'] or 'the best instructions'}: {report['processor']}")
    out = [text(left, 22, html.escape(title), size=14)]
    at = left
    for engine, colour in COLOURS.items():
        if any(engine in r["engines"] for r in nets.values()):
            out += [f'<circle cx="{at + 5}" cy="42" r="5" fill="{colour}"/>', text(at + 15, 47, TITLES[engine])]
            at += 40 + 8 * len(TITLES[engine])
    if any("roof_ms" in r for r in nets.values()):
        out += [f'<rect x="{at}" y="34" width="3" height="16" fill="#555"/>', text(at + 9, 47, "roof: dot products alone")]
    for power in range(math.floor(low), math.ceil(high) + 1):
        for ms in (10.0 ** power * k for k in (1, 2, 5)):
            if low <= math.log10(ms) <= high:
                out += [f'<line x1="{x(ms):.1f}" x2="{x(ms):.1f}" y1="{top}" y2="{bottom}" stroke="#ddd"/>',
                        text(x(ms), bottom + 18, f"{ms:g}", "middle", "#555")]
    for k, (name, r) in enumerate(nets.items()):
        y = top + row * k
        out.append(text(left - 10, y + row / 2 + 4, html.escape(name), "end"))
        if "roof_ms" in r:
            out.append(f'<rect x="{x(r["roof_ms"]) - 1.5:.1f}" y="{y + 5}" width="3" height="{row - 10}" fill="#555"/>')
        for j, (engine, e) in enumerate(r["engines"].items()):
            ms, at = e["ms"], y + row * (j + 1) / (len(r["engines"]) + 1)
            out += [f'<line x1="{x(ms["q1"]):.1f}" x2="{x(ms["q3"]):.1f}" y1="{at:.1f}" y2="{at:.1f}" '
                    f'stroke="{COLOURS[engine]}" stroke-width="2"/>',
                    f'<circle cx="{x(ms["median"]):.1f}" cy="{at:.1f}" r="4.5" fill="{COLOURS[engine]}"/>']
        if "ratio" in r:
            out.append(text(left + width + 12, y + row / 2 + 4, f"{r['ratio']['median']:.2f}x"))
    if any("ratio" in r for r in nets.values()):
        out.append(text(left + width + 12, top - 8, "ours / better peer", size=12))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 140} {bottom + 34}" '
            f'font-family="sans-serif"><rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(out) + "\n</svg>\n")


# ---- the command -----------------------------------------------------------------------------------------------------

def processor():
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-models", type=Path, required=True, metavar="OUT", help="the folder of peers.py")
    parser.add_argument("--peers-python", metavar="FILE", help="interpreter with onnxruntime and openvino; without it: no peers")
    parser.add_argument("--peers-script", type=Path, default=ROOT.parent / "shared" / "bench" / "peers.py", metavar="FILE",
                        help="peers.py, which runs them")
    parser.add_argument("--net", nargs="+", default=NETS, metavar="NAME", help=f"networks; all by default: {', '.join(NETS)}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0, help="time spent on each engine and network, loading apart")
    parser.add_argument("--isa", metavar="NAME", help="instruction set of our engine (CVM_ISA); the peers use what they find")
    parser.add_argument("--processor-time", action="store_true",
                        help="time the runs by the processor time of their process: on a busy machine, with one thread")
    parser.add_argument("--layers", type=int, default=5, metavar="N", help="slowest steps to print; the JSON has all")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--svg", metavar="FILE", help="draw the times there")
    options = parser.parse_args(argv)
    if options.threads < 1 or options.batch < 1 or options.seconds <= 0:
        parser.error("--threads, --batch and --seconds must be positive")
    if options.processor_time and options.threads != 1:
        parser.error("--processor-time adds up all threads, so it says nothing of the latency of several")
    return options


def main(argv=None):
    options = arguments(argv)
    missing, peers, nets, probed = [], PEERS, {}, {}
    if not options.peers_python:
        peers = ()
        missing.append("peers: no --peers-python given")
    elif not options.peers_script.is_file():
        peers = ()
        missing.append(f"peers: no file {options.peers_script}; name it with --peers-script")
    with contextlib.ExitStack() as stack:
        roof = None
        try:
            roof = stack.enter_context(Roof(stack.enter_context(tempfile.TemporaryDirectory()), options.isa))
            probed = {name: spread([roof.rate(name) for _ in range(5)]) for name in roof.names}
            print("one thread issues, in GMAC/s: "
                  + ", ".join(f"{name} {rate['median'] / 1e9:.1f}" for name, rate in probed.items())
                  + f"; the roof here: {roof.isa}")
        except Missing as reason:
            missing.append(f"roof: {reason}")
        for reason in missing:
            print(f"MISSING {reason}")
        clock = "processor time" if options.processor_time else "wall clock"
        print(f"{processor()}, {options.threads} thread(s), batch {options.batch}, {clock}, ours with "
              f"{options.isa or 'the best instructions'}, {ROUNDS} rounds\n\n{HEAD}", flush=True)
        for name in options.net:
            told = len(missing)
            try:
                nets[name] = measure(name, options, roof, peers, missing)
                print("\n".join(rows(name, nets[name])), flush=True)
            except Missing as reason:
                missing.append(f"{name}: {reason}")
            for reason in missing[told:]:
                print(f"MISSING {reason}", flush=True)
    for name, result in nets.items() if options.layers else ():
        print("\n".join(layer_rows(name, result, options.layers)))
    report = {"processor": processor(), "threads": options.threads, "batch": options.batch, "isa": options.isa, "clock": clock,
              "rounds": ROUNDS, "seconds": options.seconds, "roof_isa": roof.isa if roof else None,
              "roof_macs_per_s_one_thread": probed, "nets": nets, "missing": missing}
    if options.json:
        atomic_write(options.json, json.dumps(report, indent=2) + "\n")
    if options.svg and nets:
        atomic_write(options.svg, plot(report))
    return 0 if len(nets) == len(options.net) else 1


if __name__ == "__main__":
    sys.exit(main())
