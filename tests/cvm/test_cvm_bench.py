"""bench --layers, and tests/bench/cpu.py on a tiny network: that the figures are there and agree, not how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT
from graphs import GraphWriter

import cvm_runtime as cvm
from cvm_runtime.cli import _steps

MACS = {"conv2d": 6 * 4 * 5 * 5 * (4 // 2) * 3 * 3, "dense": 6 * 3 * 2}


def network(folder: Path) -> cvm.Model:
    """A grouped convolution, relu, and a residual of the two; a maximum per channel and a dense layer. Batch 6."""
    g, rng = GraphWriter(), np.random.default_rng(0)
    x = g.data((6, 4, 5, 5), 8)
    w = g.param("w", rng.integers(-9, 9, (4, 2, 3, 3)), 8)
    y = g.op("conv2d", [x, w], (6, 4, 5, 5), channels=4, kernel_size=(3, 3), strides=(1, 1), padding=(1, 1), dilation=(1, 1),
             groups=2, use_bias=False)  # fmt: skip
    r = g.op("relu", [y], (6, 4, 5, 5))
    y = g.op("elemwise_add", [r, y], (6, 4, 5, 5))
    y = g.op("max", [y], (6, 4), axis=(2, 3), keepdims=False, exclude=False)
    y = g.op("strided_slice", [y], (6, 2), begin=(0, 0), end=(6, 2), stride=(1, 1))
    y = g.op("cvm_clip", [y], (6, 2), precision=8)
    v = g.param("v", rng.integers(-9, 9, (3, 2)), 8)
    y = g.op("dense", [y, v], (6, 3), units=3, use_bias=False)
    folder.mkdir(parents=True)
    for name, data in zip(("symbol", "params"), g.build([y])):
        (folder / name).write_bytes(data)
    np.save(folder / "data.npy", rng.integers(-127, 128, (6, 4, 5, 5), np.int32))
    return cvm.load(folder / "symbol", folder / "params")


@pytest.fixture()
def models(tmp_path: Path) -> Path:
    """A folder as the benchmark takes it, with one network in its cache."""
    network(tmp_path / "cvm" / "batch6" / "tiny")
    return tmp_path


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, **options)


def cpu_bench(models: Path, *arguments: object, **options: object) -> subprocess.CompletedProcess:
    return command("tests/bench/cpu.py", "--peers-models", models, "--batch", 6, "--seconds", 0.1, *arguments, **options)


def test_every_node_with_time_is_a_step(tmp_path: Path) -> None:
    model = network(tmp_path / "net")
    steps = _steps(np.ones(len(model.nodes)), model.nodes)
    operators = [step for step in steps if step["ops"]]
    assert [step["ops"] for step in operators] == [[n.op] for n in model.nodes if n.op != "null"]
    assert {step["ops"][0]: step["macs"] for step in operators if step["macs"]} == MACS
    assert all(step["ms"] == 1e3 for step in steps)


def test_a_step_has_all_nodes_timed_together(tmp_path: Path) -> None:
    model = network(tmp_path / "net")
    timed = {"elemwise_add": 2.0, "dense": 3.0}
    seconds = np.array([timed.get(node.op, 0.0) for node in model.nodes])
    steps = _steps(seconds, model.nodes)
    assert [(s["ops"], s["ms"], s["macs"]) for s in steps] == [
        (["conv2d", "relu", "elemwise_add"], 2e3, MACS["conv2d"]),
        (["max", "strided_slice", "cvm_clip", "dense"], 3e3, MACS["dense"]),
    ]
    assert [s["name"].split("_")[0] for s in steps] == ["conv2d", "dense"]


def test_bench_layers(tmp_path: Path) -> None:
    network(tmp_path / "net")
    line = ["-m", "cvm_runtime", "bench", tmp_path / "net", "--layers", "--repeat", 3]
    done = command(*line, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert sum(step["macs"] for step in report["steps"]) == sum(MACS.values())
    assert 0 < sum(step["ms"] for step in report["steps"]) == pytest.approx(sum(report["operators_ms"].values()))
    text = command(*line).stdout
    assert "GMAC/s" in text
    assert all(step["name"] in text for step in report["steps"])


def test_without_peers(models: Path) -> None:
    done = cpu_bench(models, "--net", "tiny", "--json", models / "r.json", "--svg", models / "r.svg")
    assert done.returncode == 0, done.stderr
    assert "MISSING peers: no --peers-python given" in done.stdout
    report = json.loads((models / "r.json").read_text())
    tiny = report["nets"]["tiny"]
    assert list(tiny["engines"]) == ["ours"]
    ours = tiny["engines"]["ours"]
    assert len(ours["rounds_ms"]) == report["rounds"]
    assert 0 < ours["ms"]["q1"] <= ours["ms"]["median"] <= ours["ms"]["q3"]
    assert ours["load_s"] > 0 and ours["first_ms"] > 0 and ours["peak_mb"] > 1
    assert tiny["macs"] == sum(MACS.values())
    assert "ratio" not in tiny
    if "roof_ms" in tiny:
        assert tiny["roof_ms"] == pytest.approx(tiny["macs"] / tiny["roof_macs_per_s"] * 1e3)
    else:
        assert "MISSING roof: " in done.stdout
    circles = ElementTree.parse(models / "r.svg").findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 2  # legend and network


def test_without_compiler(models: Path) -> None:
    done = cpu_bench(models, "--net", "tiny", "--json", models / "r.json", env={"PATH": str(models)})
    assert done.returncode == 0, done.stderr
    assert "MISSING roof: no C++ compiler found" in done.stdout
    assert json.loads((models / "r.json").read_text())["roof_macs_per_s_one_thread"] == {}


def test_roof_of_broken_compiler(models: Path) -> None:
    broken = models / "c++"
    broken.write_text("#!/bin/sh\necho roofline.cc:1: error: no such thing >&2\nexit 1\n")
    broken.chmod(0o755)
    done = cpu_bench(models, "--net", "tiny", env={"PATH": f"{models}:/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert "MISSING roof: roofline.cc:1: error: no such thing" in done.stdout


FAKE_PEERS = """
import time
def runner(engine, path, threads, x):
    assert x.shape == (6, 3, 224, 224) and threads == 1 and path.endswith("tiny.int8.onnx")
    print("an engine's own words")
    return lambda: time.sleep({"ort8": 0.02, "ov8": 0.001}[engine])
"""


def test_with_peers(models: Path) -> None:
    (models / "peers.py").write_text(FAKE_PEERS)
    line = ["--net", "tiny", "--json", models / "r.json", "--peers-python", sys.executable, "--peers-script", models / "peers.py"]
    done = cpu_bench(models, *line, "--svg", models / "r.svg")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("int8 on tiny: no file") == 2  # the peers' network is not there
    for name in ("tiny.int8.onnx", "onnxruntime.py", "openvino.py"):
        (models / name).touch()
    done = cpu_bench(models, *line, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(models)})
    assert done.returncode == 0, done.stderr
    tiny = json.loads((models / "r.json").read_text())["nets"]["tiny"]
    rounds = {engine: e["rounds_ms"] for engine, e in tiny["engines"].items()}
    assert list(rounds) == ["ours", "ort8", "ov8"] and min(rounds["ort8"]) >= 20
    assert tiny["better_peer"] == "ov8"
    assert tiny["ratio"]["median"] == pytest.approx(np.median(np.divide(rounds["ours"], rounds["ov8"])))


def test_makes_the_network_of_a_checkpoint(tmp_path: Path) -> None:
    from mrt.mxnet_bridge import mx

    y = mx.sym.Convolution(mx.sym.Variable("data"), kernel=(3, 3), stride=(16, 16), num_filter=8, no_bias=True, name="conv")
    y = mx.sym.Flatten(mx.sym.Pooling(y, global_pool=True, kernel=(1, 1), pool_type="avg"))
    y = mx.sym.FullyConnected(y, num_hidden=5, name="fc")
    rng = np.random.default_rng(0)
    shapes = {"conv_weight": (8, 3, 3, 3), "fc_weight": (5, 8), "fc_bias": (5,)}
    params = {name: mx.nd.array(rng.standard_normal(shape)) for name, shape in shapes.items()}
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, y, params, {})
    for made in (True, False):
        done = cpu_bench(tmp_path, "--net", "net", "--json", tmp_path / "r.json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("MRT quantizes it" in done.stderr) == made
        # MRT takes the dense layer in two parts.
        assert json.loads((tmp_path / "r.json").read_text())["nets"]["net"]["macs"] == 6 * 8 * (14 * 14 * 27 + 2 * 5)
    folder = tmp_path / "cvm" / "batch6" / "net"
    assert np.load(folder / "data.npy").shape == (6, 3, 224, 224)
    assert cvm.load(folder / "symbol", folder / "params").outputs == [((6, 5), 8)]


def test_network_that_is_not_there(models: Path) -> None:
    done = cpu_bench(models, "--net", "tiny", "other")
    assert done.returncode == 1
    assert f"MISSING other: no file {models / 'other-symbol.json'}" in done.stdout
    assert "tiny             ours" in done.stdout


def test_engine_that_fails(models: Path) -> None:
    (models / "cvm" / "batch6" / "tiny" / "params").write_bytes(b"nothing")
    done = cpu_bench(models, "--net", "tiny")
    assert done.returncode == 1
    assert "MISSING tiny: cvm_runtime._lib.Cvm" in done.stdout


def test_wrong_arguments(models: Path) -> None:
    done = cpu_bench(models, "--threads", 2, "--processor-time")
    assert done.returncode == 2 and "--processor-time" in done.stderr
