"""What the public classes say about arguments of the wrong type or size, and that a refused one changes nothing."""
from pathlib import Path

import nets
import numpy as np
import pytest

from mrt.errors import MRTError
from mrt.mxnet_bridge import mx
from mrt.transformer import MRT, Model, ModelMerger, reduce_graph


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A calibrated MRT object, its prepared Model, a quantized Model, and the batch they saw."""
    batch = mx.nd.array(np.random.RandomState(0).uniform(-1, 1, nets.SMALL_SHAPE))

    def calibrated():
        model = nets.model(nets.small_net(), nets.SMALL_SHAPE)
        model.prepare(nets.SMALL_SHAPE)
        mrt = model.get_mrt()
        mrt.set_data(batch)
        mrt.calibrate()
        return mrt

    mrt, other = calibrated(), calibrated()
    return mrt, mrt.current_model, other.quantize(), batch


NOBODY = object()


@pytest.mark.parametrize("call, words", [
    (lambda m, f, q, b: m.calibrate(ctx="cpu"), "ctx must be an MXNet context, such as mx.cpu(), found 'cpu'"),
    (lambda m, f, q, b: m.calibrate(old_ths=[1, 2]), "old_ths must be a map of node names to thresholds"),
    (lambda m, f, q, b: m.calibrate(old_ths={"data": "1"}), "thresholds of data is '1', expected a number of at least 0"),
    (lambda m, f, q, b: m.set_data([1, 2]), "the calibration data is a list of 2 items, expected one array"),
    (lambda m, f, q, b: m.set_data(None), "the calibration data is a NoneType"),
    (lambda m, f, q, b: m.set_th_dict([("data", 1)]), "th_dict must be a map"),
    (lambda m, f, q, b: m.set_th_dict({"data": None}), "thresholds of data is None"),
    (lambda m, f, q, b: m.set_restore(["data"]), "cannot restore ['data']"),
    (lambda m, f, q, b: m.save(5), "model_name must be a path, found 5"),
    (lambda m, f, q, b: m.save("net", None), "datadir must be a path, found None"),
    (lambda m, f, q, b: MRT.load(b"net"), "model_name must be a path, found b'net'"),
    (lambda m, f, q, b: MRT(f.graph), "the model must be a prepared Model"),
    (lambda m, f, q, b: MRT(f, input_prec="8"), "input_precision is '8'"),
    (lambda m, f, q, b: Model("net.json", {}), "the symbol must be an mxnet Symbol; Model.load reads files, found 'net.json'"),
    (lambda m, f, q, b: Model(f.symbol, "net.params"), "the params must be a map of names to arrays"),
    (lambda m, f, q, b: Model(f.symbol, {"x": [1.0]}), "the parameter x must be an NDArray or a numpy array"),
    (lambda m, f, q, b: Model(f.symbol, f.params, "float46"), "dtype must be 'float32' or"),
    (lambda m, f, q, b: f.to_graph(dtype="int8"), "dtype must be 'float32' or"),
    (lambda m, f, q, b: Model.load(None, None), "symbol_file must be a path, found None"),
    (lambda m, f, q, b: Model.load("a\0b", "c"), r"symbol_file must be a path, found 'a\x00b'"),
    (lambda m, f, q, b: f.save("net.json", 3), "params_file must be a path, found 3"),
    (lambda m, f, q, b: f.prepare("1,1,28,28"), "input_shape must be positive integers with the batch filled in"),
    (lambda m, f, q, b: f.prepare((1, 1.0, 2)), "input_shape must be positive integers"),
    (lambda m, f, q, b: f.prepare(7), "input_shape must be positive integers"),
    (lambda m, f, q, b: f.prepare({"data": "1,2"}), "input_shape of data must be positive integers"),
    (lambda m, f, q, b: f.prepare(nets.SMALL_SHAPE, keys="x"), "keys must be a list of names, such as ['x'], found 'x'"),
    (lambda m, f, q, b: f.split(5), "keys must be a list of names, found 5"),
    (lambda m, f, q, b: f.split([5]), "each of the keys must be a name, found 5"),
    (lambda m, f, q, b: q.to_cvm("net", target="tpu"), "target must be 'cpu' or 'gpu' or 'formal', found 'tpu'"),
    (lambda m, f, q, b: q.to_cvm("net", target=3), "target must be"),
    (lambda m, f, q, b: q.to_cvm(3), "model_name must be a path"),
    (lambda m, f, q, b: q.to_cvm("net", datadir=3), "datadir must be a path"),
    (lambda m, f, q, b: q.to_cvm("net", input_shape="1,1,12,12"), "input_shape must be positive integers"),
    (lambda m, f, q, b: q.fix_original_model(1, "x"), "model_dir must be a path"),
    (lambda m, f, q, b: ModelMerger(NOBODY, f), "the base must be a quantized Model"),
    (lambda m, f, q, b: Model.merger(q, None), "the top must be a Model, found None"),
    (lambda m, f, q, b: Model.merger(q, f, "maps"), "base_name_maps must be a map"),
    (lambda m, f, q, b: Model.merger(q, f).merge("callback"), "the callback must be a function"),
    (lambda m, f, q, b: Model.merger(q, f).get_output_scales([1.0], ["a"]), "maps must be a map"),
    (lambda m, f, q, b: reduce_graph(NOBODY, {}), "the model must be a Model"),
    (lambda m, f, q, b: reduce_graph(q, (1, 2)), "input_shapes must be a map such as {'data'"),
])
def test_wrong_arguments(made, monkeypatch, tmp_path, call, words):
    monkeypatch.chdir(tmp_path)
    mrt, model, quantized, batch = made
    before = {name: repr(value) for name, value in vars(mrt).items()}
    with pytest.raises(MRTError) as caught:
        call(mrt, model, quantized, batch)
    assert words in str(caught.value)
    assert {name: repr(value) for name, value in vars(mrt).items()} == before and not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["", None, "cpu", "gpu", "formal"])
def test_an_empty_target_is_the_default(made, tmp_path, target):
    texts = made[2].to_cvm("net", str(tmp_path), target=target)
    assert texts == made[2].to_cvm("net", str(tmp_path)) and (tmp_path / "net" / "symbol").exists()


def test_other_spellings_of_right_arguments(made, tmp_path):
    """Integers and numbers of numpy, paths that are objects, and data that are numpy arrays."""
    model = nets.model(nets.small_net(), nets.SMALL_SHAPE)
    model.save(tmp_path / "net.json", tmp_path / "net.params")
    model = Model.load(tmp_path / "net.json", tmp_path / "net.params")
    model.prepare(np.array(nets.SMALL_SHAPE))
    mrt = model.get_mrt()
    mrt.set_data(made[3].asnumpy())
    assert mrt.calibrate(lambd=np.float32(0.5)) == mrt.calibrate(lambd=0.5) != mrt.calibrate()
    mrt.set_output_prec(np.int64(8))
    mrt.set_techniques(equalize=np.bool_(True), two_part_budget=0)
    mrt.save("kept", Path(tmp_path))
    assert MRT.load("kept", tmp_path).th_dict == mrt.th_dict
    texts = mrt.quantize().to_cvm("net", Path(tmp_path))
    assert (tmp_path / "net" / "params").read_bytes() == texts[1]
