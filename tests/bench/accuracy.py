#!/usr/bin/env python3
"""What each technique of quantization is worth: accuracy with all of them, without one, with one alone, and with
none; and what the original MRT did (mrt.original).

    python tests/bench/accuracy.py                      # every network that is here
    python tests/bench/accuracy.py --net resnet20 mobilenet_v2 --json accuracy.json
    python tests/bench/accuracy.py --quick              # fewer samples, and only all, none, and one left out

The integer models run on the CVM runtime. A network is prepared and calibrated once; each row quantizes and compiles it again.
MNIST networks come with the repository. The others need the folder of `--data` or gluoncv; what is missing is skipped, aloud.

top-1: share of right answers; agreement: share of samples for which float and integer model have the same top-1 class;
SNR: 10 log10(sum of squares of the float outputs / sum of squares of the difference), over all samples and classes.
"""
import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import cvm_runtime as cvm  # noqa: E402
from mrt import sim_quant_helper as sim  # noqa: E402
from mrt.compiler import compile_graph  # noqa: E402
from mrt.dataset import Mnist  # noqa: E402
from mrt.errors import MRTError  # noqa: E402
from mrt.files import atomic_write  # noqa: E402
from mrt.mxnet_bridge import mx  # noqa: E402
from mrt.pipeline.evaluate import Compiled  # noqa: E402
from mrt.quantization.techniques import TECHNIQUES  # noqa: E402
from mrt.transformer import MRT, Model  # noqa: E402

MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(3, 1, 1)
CALIBRATION, BATCH = 64, 16
ZOO_NETS = ("resnet18_v1", "resnet50_v1", "mobilenet1.0", "mobilenetv2_1.0", "squeezenet1.0", "densenet121")
OFF = {name: technique.off for name, technique in TECHNIQUES.items()}
ON = {name: technique.default for name, technique in TECHNIQUES.items()}
OPTIONAL = {name: value for name, technique in TECHNIQUES.items() for value in technique.before_calibrate}  # they take longer


class Missing(Exception):
    """Why a network cannot be measured here."""


class Case(NamedTuple):
    """One network with its data: float32 arrays of samples, and `labels` or None. `output_bits` None: as they come."""
    load: Callable[[], Model]
    calibration: np.ndarray
    images: np.ndarray
    labels: Optional[np.ndarray]
    output_bits: Optional[int]


# ---- networks and data -----------------------------------------------------------------------------------------------

def mnist(name, options):
    folder = ROOT / "model_zoo"
    files = [folder / "mnist" / f"{name}.{end}" for end in ("json", "params")]
    (train, _, _), (test, labels, _) = (Mnist.arrays(str(folder / "data"), part) for part in (True, False))
    return Case(lambda: Model.load(*map(str, files)), train[:CALIBRATION].astype(np.float32) / 255,
                test.astype(np.float32) / 255, labels, 8)


def resnet20(name, options):
    def read(part):
        with np.load(needed(options.data / "cifar10" / part)) as file:
            return (file["x"].transpose(0, 3, 1, 2).astype(np.float32) / 255 - MEAN) / STD, file["y"]

    train, (test, labels) = read("cifar10_train_first2000.npz")[0], read("cifar10_test_first3000.npz")
    return Case(checkpoint(options, "resnet20_cifar10", name), train[:CALIBRATION], test, labels, None)


def imagenet(folder, normalize):
    """The first pictures of the sample calibrate, the others are evaluated."""
    def make(name, options):
        load, sample = checkpoint(options, folder, name), options.data / "imagenet_sample"
        rows = [line.split("\t") for line in needed(sample / "labels.tsv").read_text().splitlines()[1:]]
        images = np.stack([normalize(centre(needed(sample / "images" / row[0]))) for row in rows])
        labels = np.array([int(row[1]) for row in rows])
        return Case(load, images[:CALIBRATION], images[CALIBRATION:], labels[CALIBRATION:], None)
    return make


def centre(path, size=224):
    """The middle of a picture, uint8 RGB, (3, size, size)."""
    image = mx.image.imread(str(path)).asnumpy()
    y, x = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[y:y + size, x:x + size].transpose(2, 0, 1).astype(np.float32)


def gluoncv_net(name, options):
    """Seeded random weights, batch norm statistics of one training pass on noise; noise in, no labels."""
    try:
        from gluoncv import model_zoo
    except ImportError as error:
        raise Missing(f"gluoncv does not import ({error}); pip install '.[zoo]' in the checkout") from error

    def load():
        mx.random.seed(0)
        np.random.seed(0)
        net = model_zoo.get_model(name, pretrained=False)
        net.initialize(mx.init.Xavier(magnitude=2))
        x = mx.nd.random.normal(shape=(4, 3, 224, 224))
        with mx.autograd.record():
            net(x)
        net.hybridize()
        net(x)
        with tempfile.TemporaryDirectory() as folder:
            prefix = os.path.join(folder, name)
            net.export(prefix)
            return Model.load(f"{prefix}-symbol.json", f"{prefix}-0000.params")

    def noise(seed, count):
        return np.random.default_rng(seed).standard_normal((count, 3, 224, 224)).astype(np.float32)

    return Case(load, noise(0, 16), noise(1, 8), None, 8)


def checkpoint(options, folder, name):
    files = [needed(options.data / folder / f"{name}{end}") for end in ("-symbol.json", "-0000.params")]
    return lambda: Model.load(*map(str, files))


def needed(path):
    if not path.exists():
        raise Missing(f"no file {path}; name the folder of the data with --data")
    return path


NETS = {
    "mnist_mlp": mnist, "mnist_lenet": mnist, "mnist_dapp": mnist, "resnet20": resnet20,
    "mobilenet_v2": imagenet("mobilenet_v2_imagenet", lambda x: (x / 255 - MEAN) / STD),
    "efficientnet_lite0": imagenet("efficientnet_lite0_imagenet", lambda x: (x - 127) / 128),
    **dict.fromkeys(ZOO_NETS, gluoncv_net),
}


# ---- measuring -------------------------------------------------------------------------------------------------------

def configurations(quick):
    """(title, techniques) of every row; None stands for the preset original."""
    rows = [("all", ON), ("none", OFF), ("original", None)]
    switched = [name for name in TECHNIQUES if OFF[name] != ON[name]]
    rows += [(f"with {name} {value}", {**ON, name: value}) for name, value in OPTIONAL.items()]
    rows += [(f"without {name}", {**ON, name: OFF[name]}) for name in switched]
    return rows if quick else rows + [(f"only {name}", {**OFF, name: ON[name]}) for name in switched]


def batches(samples):
    return [samples[i:i + BATCH] for i in range(0, len(samples), BATCH)]


def measure(case, quick, report):
    """Call `report(title, figures)` for every configuration of one network."""
    images, labels = case.images, case.labels
    if quick:
        count = 500 if images[0].size < 10000 else 32
        images, labels = images[:count], None if labels is None else labels[:count]
    model = case.load()
    block = model.to_graph()
    real = np.concatenate([block(mx.nd.array(part)).asnumpy() for part in batches(images)]).astype(np.float64)
    start = time.perf_counter()
    model.prepare((1,) + images.shape[1:])
    mrt = model.get_mrt()
    mrt.set_techniques(**OPTIONAL)
    for part in batches(case.calibration):
        mrt.set_data(mx.nd.array(part))
        mrt.calibrate()
    mrt.techniques.clear()  # every row sets its own
    calibration = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        mrt.save("calibrated", folder)
        for title, techniques in configurations(quick):
            start = time.perf_counter()
            mrt = MRT.load("calibrated", folder)
            if techniques is None:
                mrt.set_preset("original")
            else:
                mrt.set_techniques(**techniques)
            if case.output_bits:
                mrt.set_output_prec(case.output_bits)
            try:
                graph = mrt.quantize().graph
                found, seconds = run(graph, mrt, images)
            except (MRTError, cvm.CvmError) as error:
                report(title, {"error": " ".join(str(error).split())})
                continue
            report(title, {**compare(real, found, labels), "prepare_calibrate_s": calibration,
                           "quantize_s": time.perf_counter() - start - seconds, "run_s": seconds})


def run(graph, mrt, images):
    """(real outputs of the integer model on the runtime, seconds of running it)."""
    symbol, params = compile_graph(graph, (BATCH,) + images.shape[1:])
    compiled = Compiled(cvm.load(symbol.encode(), params), 0)
    scale, start = np.asarray(mrt.get_output_scales()[0]), time.perf_counter()
    codes = (sim.load_real_data(mx.nd.array(part), "data", mrt.get_inputs_ext()).asnumpy().astype(np.int32)
             for part in batches(images))
    outputs = np.concatenate([compiled(part)[0] for part in codes])
    return outputs / scale, time.perf_counter() - start


def compare(real, found, labels):
    """The accuracy figures of integer outputs `found` against float outputs `real`, both (samples, classes)."""
    a, b, noise = real.argmax(axis=1), found.argmax(axis=1), ((real - found) ** 2).sum()
    figures = {"samples": len(real), "agreement": 100 * float((a == b).mean()),
               "snr_db": float(10 * np.log10((real ** 2).sum() / noise)) if noise > 0 else None}
    if labels is not None:
        figures.update(top1_float=100 * float((a == labels).mean()), top1_integer=100 * float((b == labels).mean()))
    return figures


# ---- the table -------------------------------------------------------------------------------------------------------

def line(title, figures):
    if "error" in figures:
        return f"  {title:<30} fails: {figures['error']}"
    def text(key, width):
        return f"{figures[key]:{width}.2f}" if figures.get(key) is not None else "-".rjust(width)
    return (f"  {title:<30} {text('top1_float', 7)} {text('top1_integer', 8)} {text('agreement', 10)} {text('snr_db', 8)} "
            f"{figures['quantize_s']:8.1f} {figures['run_s']:7.1f}")


HEAD = f"  {'techniques':<30} {'float %':>7} {'int %':>8} {'agree %':>10} {'SNR dB':>8} {'quant s':>8} {'run s':>7}"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", nargs="+", default=list(NETS), choices=list(NETS), metavar="NAME",
                        help=f"networks; all by default: {', '.join(NETS)}")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of real networks and data")
    parser.add_argument("--quick", action="store_true", help="fewer samples and rows")
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    options = parser.parse_args(argv)
    results, skipped = {}, {}
    for name in options.net:
        try:
            case = NETS[name](name, options)
        except (Missing, MRTError) as reason:
            skipped[name] = str(reason)
            print(f"\n{name}: SKIPPED: {reason}", flush=True)
            continue
        rows = results[name] = {}

        def report(title, figures, rows=rows):
            rows[title] = figures
            print(line(title, figures), flush=True)

        outputs = f"outputs {case.output_bits or 16} bits"
        print(f"\n{name}: {len(case.calibration)} samples calibrate, {outputs}\n{HEAD}", flush=True)
        measure(case, options.quick, report)
    if skipped:
        print(f"\n{len(skipped)} of {len(options.net)} networks skipped: {', '.join(skipped)}")
    if options.json:
        atomic_write(options.json, json.dumps({"results": results, "skipped": skipped}, indent=2) + "\n")
    return 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
