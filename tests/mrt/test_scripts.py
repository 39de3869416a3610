"""Scripts as users write them, after the API's documentation: each runs alone, from a folder that is not the checkout."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mrt

TRAIN = """
from mrt import conf
from mrt.dataset import Mnist, to_unit_range
from mrt.mxnet_bridge import mx   # `import mxnet as mx` where numpy suits it
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

mx.random.seed(42)
net = nn.HybridSequential(prefix="Tiny_")
with net.name_scope():
    net.add(nn.Conv2D(channels=4, kernel_size=3, activation="relu"), nn.MaxPool2D(pool_size=2, strides=2),
            nn.Flatten(), nn.Dense(10))
net.initialize(mx.init.Xavier(), ctx=mx.cpu())
images, labels, _ = Mnist.arrays(is_train=True, limit=320)
trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.001})
loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
for start in range(0, 320, 32):
    with autograd.record():
        loss = loss_of(net(nd.array(to_unit_range(images[start:start + 32]))), nd.array(labels[start:start + 32]))
    loss.backward()
    trainer.step(32)

import os
prefix = os.path.join(conf.MRT_MODEL_ROOT, "tiny")
os.makedirs(conf.MRT_MODEL_ROOT, exist_ok=True)
with open(prefix + ".json", "w") as stream:
    stream.write(net(mx.sym.var("data")).tojson())
net.collect_params().save(prefix + ".params")
net.hybridize()
net(nd.array(to_unit_range(images[:1])))
net.export(os.path.join(conf.MRT_MODEL_ROOT, "exported"))
"""

API = """
import logging
import os

from mrt import conf
from mrt import dataset as ds
from mrt import sim_quant_helper as sim
from mrt.mxnet_bridge import mx
from mrt.transformer import MRT, Model, reduce_graph
from mrt.utils import extend_fname, log_init, multi_validate

log_init(logging.ERROR)
batch, axis = 16, 0
shape = (batch, 1, 28, 28)
prefix = os.path.join(conf.MRT_MODEL_ROOT, "tiny")
model = Model.load(*extend_fname(prefix))
model.prepare((1, 1, 28, 28))
model.save(*extend_fname(prefix + ".prepare"))
mrt = model.get_mrt()
data_of = ds.DS_REG["mnist"](shape, is_train=True).iter_func()
for _ in range(2):
    data, _ = data_of()
    mrt.set_data(data)
    mrt.calibrate(ctx=mx.cpu(), lambd=None)
mrt.save("tiny.mrt.calibrate", conf.MRT_MODEL_ROOT)
mrt = MRT.load("tiny.mrt.calibrate", datadir=conf.MRT_MODEL_ROOT)
mrt.set_input_prec(8)
mrt.set_out_prec(8)
mrt.set_softmax_lambd(10)
mrt.set_shift_bits(5)
quantized = mrt.quantize()
scales, inputs_ext = mrt.get_output_scales(), mrt.get_inputs_ext()
sim.save_ext(prefix + ".all.quantize.ext", scales, inputs_ext)
assert list(sim.load_ext(prefix + ".all.quantize.ext")) == [scales, inputs_ext]

float_net = Model.load(*extend_fname(prefix)).to_graph(ctx=mx.cpu())
integer_net = reduce_graph(quantized, {"data": shape}).to_graph(ctx=mx.cpu())
dataset = ds.DS_REG["mnist"](shape)
metrics, quantized_metrics = dataset.metrics(), dataset.metrics()


def evalfunc(data, label):
    return dataset.validate(metrics, float_net(data), label)


def quantize(data, label):
    outputs = integer_net(sim.load_real_data(data, "data", inputs_ext)) / scales[0]
    return dataset.validate(quantized_metrics, outputs, label)


print(multi_validate(evalfunc, dataset.iter_func(), quantize, iter_num=4, batch_size=batch))
quantized.to_cvm("tiny_cvm", datadir="dump", input_shape=(1, 1, 28, 28), target="")
"""

INI = """
[DEFAULT]
Model_dir =
Model_name = exported
Input_shape = (-1, 1, 28, 28)
Verbosity = 0
Device_type =
Device_ids =
Start =

[CALIBRATION]
Dataset = digits
Dataset_module = my_dataset.py
Lambda = None

[QUANTIZATION]
Input_precision = 8
Output_precision = 8

[EVALUATION]
Batch = 15
Iter_num = 10

[COMPILATION]
Dump_dir = dump
"""

DATA_SET = """
from mrt.dataset import ArrayLoader, Mnist, VisionDataset, register_dataset, to_unit_range


@register_dataset("digits")
class Digits(VisionDataset):
    def _load_data(self):
        images, labels, _ = Mnist.arrays(limit=400)
        self.data = ArrayLoader(images, labels, self.ishape[0], to_unit_range)
"""

RUNTIME = """
import json
import numpy as np
import cvm_runtime as cvm

for name in ("tiny_cvm", "exported_cvm"):
    model = cvm.load(f"dump/{name}/symbol", f"dump/{name}/params", ctx=cvm.cpu())
    assert model.run(np.ones(model.input_shape, "int32"))[0].shape == (1, 10)
assert np.load("dump/exported_cvm/data.npy").dtype == np.int8
assert set(json.load(open("dump/exported_cvm/ext"))) >= {"inputs_ext", "oscales", "input_shapes"}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    for name, text in (("train.py", TRAIN), ("api.py", API), ("net.ini", INI), ("my_dataset.py", DATA_SET),
                       ("deploy.py", RUNTIME)):
        (folder / name).write_text(text)
    return folder


def test_train_quantize_run_and_deploy(folder):
    """One after the other, as each takes what the one before wrote."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mrt.__file__).parents[1]), "HOME": str(folder),
                   "MRT_MODEL_ROOT": str(folder / "models"), "MRT_DATASET_ROOT": ""}

    def run(*arguments):
        done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("train.py")
    assert {path.name for path in (folder / "models").iterdir()} == {
        "tiny.json", "tiny.params", "exported-symbol.json", "exported-0000.params"}
    assert "top1=" in run("api.py")
    printed = run("-m", "mrt.main2", "net.ini")
    assert "150 samples of digits" in printed and "bit-exact" in printed and "yes:" in printed
    run("deploy.py")
    for arguments in (["tiny", "--shape", "1,1,28,28"], ["exported", "--shape", "1,1,28,28"]):
        assert "can be quantized" in run("-m", "mrt.pipeline.check", f"models/{arguments[0]}", *arguments[1:])
