"""Train one of three small networks on MNIST and write it as an MXNet model.

    python tests/mrt/train_mnist.py [--cpu] [--net dapp|lenet|mlp]

Works offline, from the images that come with MRT or from four IDX files (--data names their folder), and from any folder.
Writes mnist_<net>.json, mnist_<net>.params and mnist_<net>.metrics.json into --out. When the accuracy on the test images,
which training never sees, is not above 96 %, the files are called mnist_<net>.below_gate.* instead and the status is 1.
"""
import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path += map(str, list(Path(__file__).resolve().parents)[2:3])  # the checkout, for whoever has not installed it
os.environ.setdefault("MXNET_MKLDNN_ENABLED", "1")  # training is float work, and twice as fast with it

from mrt.commands.guard import guarded, importing, tell

with importing():
    import numpy as np

    from mrt import conf
    from mrt.dataset import Mnist, to_unit_range
    from mrt.files import atomic_write, extend_fname
    from mrt.frontend.mxnet_params import save_params
    from mrt.metrics import TopK
    from mrt.mxnet_bridge import mx
    from mrt.progress import Progress

nn = mx.gluon.nn
GATE = 0.96
FULL_TRAINING_SET = 60000


# ---- networks: input (N, 1, 28, 28), output (N, 10) without softmax --------------------------------------------------

def _conv(channels, kernel):
    return nn.Conv2D(channels=channels, kernel_size=kernel, activation="relu")


def _pool(stride):
    return nn.MaxPool2D(pool_size=2, strides=stride)


def dapp():
    """Four convolutions, 63 626 parameters."""
    return [_conv(16, 3), _pool(1), _conv(32, 3), _pool(1), _conv(64, 3), _pool(2), _conv(128, 1), _pool(2),
            nn.Flatten(), nn.Dense(10)]


def lenet():
    """Two large convolutions and two dense layers, 431 080 parameters."""
    return [_conv(20, 5), _pool(2), _conv(50, 5), _pool(2), nn.Flatten(), nn.Dense(500, activation="relu"),
            nn.Dense(10)]


def mlp():
    """Three dense layers, 109 386 parameters."""
    return [nn.Flatten(), nn.Dense(128, activation="relu"), nn.Dense(64, activation="relu"), nn.Dense(10)]


NETS = {"dapp": ("DApp_", dapp), "lenet": ("LeNet_", lenet), "mlp": ("MLP_", mlp)}


def build(name, ctx, seed):
    """The network `name` with Xavier-initialised parameters; the same `seed` gives the same ones."""
    mx.random.seed(seed)
    np.random.seed(seed)
    prefix, layers = NETS[name]
    net = nn.HybridSequential(prefix=prefix)
    with net.name_scope():
        net.add(*layers())
    net.initialize(mx.init.Xavier(), ctx=ctx)
    net(mx.nd.zeros((1, 1, 28, 28), ctx=ctx))  # parameters are drawn when their shapes are known, that is now
    return net


# ---- training --------------------------------------------------------------------------------------------------------

def accuracy(net, images, labels, ctx, batch=500):
    """Share of right answers, 0..1."""
    metric = TopK(1)
    for start in range(0, len(images), batch):
        data = mx.nd.array(to_unit_range(images[start:start + batch]), ctx=ctx)
        metric.update(labels[start:start + batch], net(data).asnumpy())
    return metric.correct / metric.total


def train_epoch(net, trainer, images, labels, order, batch, ctx, title):
    """One pass over `images` in the given order; returns the accuracy while training, 0..1."""
    loss_of, metric = mx.gluon.loss.SoftmaxCrossEntropyLoss(), TopK(1)
    with Progress(title, len(order), "images") as progress:
        for start in range(0, len(order), batch):
            chosen = order[start:start + batch]
            data = mx.nd.array(to_unit_range(images[chosen]), ctx=ctx)
            with mx.autograd.record():
                score = net(data)
                loss = loss_of(score, mx.nd.array(labels[chosen], ctx=ctx))
            loss.backward()
            trainer.step(len(chosen))
            metric.update(labels[chosen], score.asnumpy())
            progress.update(len(chosen))
    return metric.correct / metric.total


def train(net, images, labels, options, ctx):
    """Adam on softmax cross entropy, shuffled anew each epoch; prints and returns the accuracy of each epoch."""
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": options.lr})
    shuffle, history = np.random.RandomState(options.seed), []
    for epoch in range(options.epochs):
        order = shuffle.permutation(len(images))
        history.append(train_epoch(net, trainer, images, labels, order, options.batch, ctx, f"epoch {epoch}"))
        print(f"After epoch {epoch}: accuracy = {100 * history[-1]:.2f}%", flush=True)
    return history


# ---- output ----------------------------------------------------------------------------------------------------------

def dump(net, prefix):
    """Write prefix.json and prefix.params, the parameters under the network's own names; returns both paths."""
    symbol_file, params_file = extend_fname(prefix)
    atomic_write(symbol_file, net(mx.sym.var("data")).tojson())
    save_params({name: param.data().asnumpy() for name, param in net.collect_params().items()}, params_file)
    return symbol_file, params_file


def describe(options, history, validation, samples):
    """What has to be known about the model later on, as JSON text. `samples`: numbers of training and of test images."""
    return json.dumps({
        "net": options.net,
        "metrics": {"validation_accuracy": round(validation, 6), "epoch_accuracy": [round(a, 6) for a in history],
                    "above_gate": validation > GATE},
        "samples": {"train": samples[0], "validation": samples[1]},
        "preprocessing": {"layout": "NCHW", "shape": [1, 28, 28], "pixels": "grey, white on black", "scale": "1/255"},
        "classes": [str(digit) for digit in range(10)],
        "settings": {"seed": options.seed, "epochs": options.epochs, "batch": options.batch, "optimizer": "adam",
                     "learning_rate": options.lr, "mxnet": mx.__version__},
    }, indent=2) + "\n"


def choose_device(options):
    """The GPU asked for, or the CPU with a notice."""
    if options.cpu:
        return mx.cpu()
    if options.gpu_id < mx.context.num_gpus():
        return mx.gpu(options.gpu_id)
    print(f"notice: no GPU number {options.gpu_id} on this machine, training on the CPU")
    return mx.cpu()


def positive(kind):
    """An argparse type: a number of `kind` above zero."""
    def parse(text):
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value
    parse.__name__ = f"positive {kind.__name__}"
    return parse


def parse_arguments(argv):
    """The command line as a namespace."""
    parser = argparse.ArgumentParser(description="Train a small network on MNIST.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    parser.add_argument("--gpu-id", type=int, default=0, help="which GPU")
    parser.add_argument("--net", choices=sorted(NETS), default="dapp", help="network")
    parser.add_argument("--epochs", type=positive(int), default=5, help="passes over the training images")
    parser.add_argument("--batch", type=positive(int), default=32, help="images per step; the original took 4")
    parser.add_argument("--lr", type=positive(float), default=0.001, help="learning rate of Adam")
    parser.add_argument("--seed", type=int, default=42, help="of initialisation and shuffling")
    parser.add_argument("--data", help="folder with the four IDX files, or its parent with a folder mnist in it "
                                       "(default: the data-set folders of MRT)")
    parser.add_argument("--out", default=conf.MRT_MODEL_ROOT, help="folder to write into")
    parser.add_argument("--limit", type=positive(int), help="use only so many training images")
    return parser.parse_args(argv)


def run(options):
    """Train, validate, write; returns the exit status."""
    images, labels, folder = Mnist.arrays(options.data, True, options.limit)
    test_images, test_labels, _ = Mnist.arrays(options.data or folder, False)
    ctx = choose_device(options)
    print(f"Training {options.net} Mnist")
    print(f"Using device: {ctx}")
    print(f"{len(images)} training and {len(test_images)} test images from {folder}")
    if len(images) < FULL_TRAINING_SET and not options.limit:
        print(f"notice: this is a part of the training set, the full one has {FULL_TRAINING_SET} images; "
              "name its folder with --data for the accuracy the network can reach")
    net = build(options.net, ctx, options.seed)
    net.summary(mx.nd.zeros((1, 1, 28, 28), ctx=ctx))
    net.hybridize()

    start = time.monotonic()
    history = train(net, images, labels, options, ctx)
    validation = accuracy(net, test_images, test_labels, ctx)
    print(f"Validation: accuracy = {100 * validation:.2f}% ({time.monotonic() - start:.0f} s)")
    passed = validation > GATE
    prefix = os.path.join(os.path.expanduser(options.out), f"mnist_{options.net}{'' if passed else '.below_gate'}")
    paths = (*dump(net, prefix), f"{prefix}.metrics.json")
    atomic_write(paths[-1], describe(options, history, validation, (len(images), len(test_images))))
    for path in paths:
        print(f"Dump {path}", flush=True)
    if not passed:
        tell(f"the accuracy on the test images, {100 * validation:.2f}%, is not above {100 * GATE:.0f}%; the network is kept as "
             f"{prefix}.*. Train longer (--epochs) or on more images (--data, --limit)")
    return 0 if passed else 1


@guarded
def main(argv=None):
    """Run the command line; returns the exit status."""
    return run(parse_arguments(argv))


if __name__ == "__main__":
    sys.exit(main())
