"""The training script: networks, files, the accuracy gate, and bad arguments."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import train_mnist

from mrt.mxnet_bridge import mx

ROOT = Path(__file__).resolve().parents[2]
DATA = str(ROOT / "model_zoo" / "data" / "mnist")


@pytest.mark.parametrize("name, prefix, parameters", [("dapp", "DApp_", 63626), ("lenet", "LeNet_", 431080),
                                                      ("mlp", "MLP_", 109386)])
def test_networks(name, prefix, parameters):
    net = train_mnist.build(name, mx.cpu(), seed=1)
    assert net(mx.nd.zeros((2, 1, 28, 28))).shape == (2, 10)
    values = net.collect_params()
    assert sum(p.data().size for p in values.values()) == parameters
    assert all(n.startswith(prefix) for n in values)


def run(tmp_path, *arguments):
    return train_mnist.main(["--cpu", "--data", DATA, "--out", str(tmp_path), *arguments])


def test_the_bundled_images():
    images, labels, folder = train_mnist.Mnist.arrays(DATA, True)
    assert images.shape == (60000, 1, 28, 28) and folder == DATA
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test_images, test_labels, _ = train_mnist.Mnist.arrays(DATA, False)
    assert np.bincount(test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    trained = {image.tobytes() for image in images}
    assert len(trained) == 60000 and not any(image.tobytes() in trained for image in test_images)
    assert sum(path.stat().st_size for path in Path(DATA).iterdir()) < 12_000_000
    said = (Path(DATA) / "README.md").read_text()
    assert "Attribution-Share Alike 3.0" in said and "http://yann.lecun.com/exdb/mnist/" in said


@pytest.mark.slow
@pytest.mark.parametrize("net, more", [("dapp", ["--epochs", "1"]), ("lenet", []), ("mlp", [])])
def test_the_default_reaches_the_gate(tmp_path, net, more):
    """As README.md writes it, from any folder, with nothing but what comes with MRT. Of dapp, whose five epochs take long, the
    first one reaches it."""
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "mrt" / "train_mnist.py"), "--net", net, *more], text=True,
                          env={**os.environ, "MRT_MODEL_ROOT": str(tmp_path / "out"), "HOME": str(tmp_path),
                               "MRT_DATASET_ROOT": ""}, capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "60000 training and 10000 test images" in done.stdout
    described = json.loads((tmp_path / "out" / f"mnist_{net}.metrics.json").read_text())
    assert described["metrics"]["above_gate"] and described["metrics"]["validation_accuracy"] > 0.96


def test_writes_a_model_that_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_mnist, "GATE", 0.5)
    assert run(tmp_path, "--net", "mlp", "--epochs", "1", "--batch", "50", "--limit", "2000") == 0
    printed = capsys.readouterr().out
    for words in ("Training mlp Mnist", "Using device: cpu(0)", "Total params: 109386", "After epoch 0: accuracy = ",
                  "Validation: accuracy = ", "mnist_mlp.params", "2000 training and 10000 test images"):
        assert words in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mnist_mlp.json", "mnist_mlp.metrics.json", "mnist_mlp.params"]
    described = json.loads((tmp_path / "mnist_mlp.metrics.json").read_text())
    assert described["classes"] == list("0123456789") and described["settings"]["seed"] == 42

    symbol = mx.sym.load(str(tmp_path / "mnist_mlp.json"))
    params = mx.nd.load(str(tmp_path / "mnist_mlp.params"))
    assert set(symbol.list_arguments()) - set(params) == {"data"} and "MLP_dense0_weight" in params
    block = mx.gluon.SymbolBlock.imports(str(tmp_path / "mnist_mlp.json"), ["data"], str(tmp_path / "mnist_mlp.params"))
    images, labels, _ = train_mnist.Mnist.arrays(DATA, False)
    found = (block(mx.nd.array(train_mnist.to_unit_range(images))).asnumpy().argmax(1) == labels).mean()
    assert found == pytest.approx(described["metrics"]["validation_accuracy"], abs=1e-4)


def test_a_missed_gate_keeps_the_network(tmp_path, capsys):
    for suffix in ("json", "params", "metrics.json"):
        (tmp_path / f"mnist_mlp.{suffix}").write_text("good")
    assert run(tmp_path, "--net", "mlp", "--epochs", "1", "--limit", "50") == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and "not above 96%" in said[0]
    assert f"the network is kept as {tmp_path / 'mnist_mlp.below_gate'}.*" in said[0]
    assert all((tmp_path / f"mnist_mlp.{suffix}").read_text() == "good" for suffix in ("json", "params", "metrics.json"))
    prefix = str(tmp_path / "mnist_mlp.below_gate")
    described = json.loads(Path(f"{prefix}.metrics.json").read_text())
    assert described["metrics"]["above_gate"] is False and described["samples"]["train"] == 50
    block = mx.gluon.SymbolBlock.imports(f"{prefix}.json", ["data"], f"{prefix}.params")
    images, labels, _ = train_mnist.Mnist.arrays(DATA, False)
    found = (block(mx.nd.array(train_mnist.to_unit_range(images))).asnumpy().argmax(1) == labels).mean()
    assert found == pytest.approx(described["metrics"]["validation_accuracy"], abs=1e-4)


def test_a_copy_of_the_script_runs_anywhere(tmp_path):
    """In a folder so near the root that there is no checkout above it, with the package that is installed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        script = shutil.copy(ROOT / "tests" / "mrt" / "train_mnist.py", folder)
        done = subprocess.run([sys.executable, script, "--net", "mlp", "--epochs", "1", "--limit", "50", "--out", "out"],
                              env={**os.environ, "PYTHONPATH": str(ROOT), "MRT_DATASET_ROOT": ""},
                              cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 1 and "is not above 96%" in done.stderr, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"mnist_mlp.below_gate.{suffix}" for suffix in ("json", "metrics.json", "params")]


def test_same_seed_same_parameters():
    nets = [train_mnist.build("mlp", mx.cpu(), seed) for seed in (3, 3, 4)]
    values = []
    for net in nets:
        net(mx.nd.zeros((1, 1, 28, 28)))
        values.append(next(iter(net.collect_params().values())).data().asnumpy())
    np.testing.assert_array_equal(values[0], values[1])
    assert (values[0] != values[2]).any()


def test_absent_gpu_is_a_notice(capsys):
    options = train_mnist.parse_arguments(["--gpu-id", "99"])
    assert train_mnist.choose_device(options) == mx.cpu()
    assert "notice: no GPU number 99" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--net", "vgg"], ["--epochs", "0"], ["--batch", "-1"], ["--lr", "inf"],
                                       ["--limit", "x"]])
def test_bad_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        train_mnist.main(arguments)
    assert caught.value.code == 2 and arguments[0] in capsys.readouterr().err


def test_missing_data_from_any_folder(tmp_path):
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "mrt" / "train_mnist.py"), "--data", str(tmp_path)],
                          cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: data set 'mnist' not found") and "train-images-idx3-ubyte.gz" in done.stderr
