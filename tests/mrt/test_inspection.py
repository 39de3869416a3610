"""The comparison of float and integer network: its figures, that it finds the culprit, what it writes, what it refuses."""
import dataclasses
import json
import math
import shutil
from html.parser import HTMLParser
from pathlib import Path

import nets
import numpy as np
import pytest

from mrt import main2
from mrt.errors import MRTError, StateError
from mrt.graph import Entry
from mrt.inspect import inspection
from mrt.inspect.inspection import Comparison, Probe, inspect
from mrt.mxnet_bridge import mx
from mrt.quantization.quantize import Tensor
from mrt.sim_quant_helper import load_real_data

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "model_zoo"


def calibrated(symbol=None, shape=nets.SMALL_SHAPE, seed=3, output_prec=None, **thresholds):
    model = nets.model(nets.small_net() if symbol is None else symbol, shape, seed)
    model.prepare(shape)
    mrt = model.get_mrt()
    mrt.set_data(nets.batch((32, *shape[1:])))
    mrt.calibrate()
    if output_prec:
        mrt.set_output_prec(output_prec)
    for name, value in thresholds.items():
        mrt.set_threshold(name, value)
    return mrt


# ---- figures

def test_figures_of_known_arrays():
    c = Comparison()
    c.update(np.array([3.0, -4.0]), np.array([3.0, -3.0]), low=-3.0, high=3.0, step=0.5)
    c.update(np.array([0.0, 12.0]), np.array([1.0, 12.0]), low=-20.0, high=20.0, step=0.5)
    assert c.signal == 9 + 16 + 144 and c.noise == 2 and c.clip_noise == 1
    assert c.snr_db == pytest.approx(10 * math.log10(169 / 2), abs=1e-12)
    assert c.cosine == pytest.approx((9 + 12 + 144) / math.sqrt(169 * (9 + 9 + 1 + 144)), abs=1e-12)
    assert (c.max_error, c.max_value, c.count, c.beyond, c.saturated) == (1, 12, 4, 1, 0.25)
    assert c.histograms.sum(axis=1).tolist() == [4, 4]


def test_half_a_step_beyond_the_range_is_rounding_not_saturation():
    c = Comparison()
    c.update(np.array([1.24, 1.26, -1.26]), np.array([1.0, 1.0, -1.0]), low=-1.0, high=1.0, step=0.5)
    assert c.beyond == 2


@pytest.mark.parametrize("real, found, snr, cosine", [
    ([1.0, 2.0], [1.0, 2.0], math.inf, 1), ([0.0, 0.0], [0.0, 0.0], math.inf, 1), ([0.0], [1.0], -math.inf, 0),
    ([1.0, 0.0], [0.0, 0.0], 0, 0)])
def test_figures_at_the_ends(real, found, snr, cosine):
    c = Comparison()
    c.update(np.array(real), np.array(found))
    assert c.snr_db == snr and c.cosine == pytest.approx(cosine)


def test_batches_add_up():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(6, 3, 4, 5))
    found = real + rng.normal(size=real.shape) / 50
    whole, parts = Comparison(), Comparison()
    whole.update(real, found, -1, 1, 0.1)
    for i in range(6):
        parts.update(real[i:i + 1], found[i:i + 1], -1, 1, 0.1)
    for name in ("snr_db", "cosine", "max_error", "max_value", "saturated", "clip_noise"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-12)


def test_integers_with_a_scale_per_channel_and_an_offset():
    codes = np.array([[[-127.0, 127.0]], [[0.0, -127.0]]]).reshape(1, 2, 2)
    scale = np.array([10.0, 100.0])
    real = (codes + 127) / scale.reshape(1, 2, 1)
    probe = Probe(Tensor(Entry(None, 0), scale, 8), -127)
    probe.update(real, codes)
    assert probe.comparison.noise == 0 and probe.comparison.beyond == 0 and probe.bits_used == 8
    probe.update(real + 0.1, codes)  # the ends of the channels are 25.4 and 2.54, their half steps 0.05 and 0.005
    assert probe.comparison.beyond == 1


# ---- networks

def test_agrees_with_the_whole_network():
    """The figures of the output are those of the two networks run in the ordinary way."""
    mrt = calibrated(output_prec=8)
    x = nets.batch((16, *nets.SMALL_SHAPE[1:]), 7)
    report = inspect(mrt, [x[:8], x[8:]])
    real, params = nets.run(mrt.current_model, x)[0].astype(np.float64), mrt.current_model.graph.params
    assert {r.name for r in report.rows} == {n.name for n in mrt.current_model.graph.topological()} - set(params)
    integers = mrt.quantize()  # inspecting has left the object as it was
    found = nets.run(integers, load_real_data(x, "data", mrt.get_inputs_ext()))[0] / mrt.get_output_scales()[0]
    row, = report.outputs()
    assert row.snr_db == pytest.approx(10 * np.log10((real ** 2).sum() / ((real - found) ** 2).sum()), abs=0.01)
    assert row.max_value == pytest.approx(abs(real).max(), rel=1e-5)
    assert row.precision == 8 and row.margin_bits == 32 - mrt.precs[row.name]["out_key"]
    assert (report.samples, report.batches) == (16, 2)
    assert [r.place for r in report.rows] == list(range(len(report.rows))) and report.rows[0].name == "data"


@pytest.mark.parametrize("culprit", ["data", "bn1", "r1", "mrt_rewrite_bn2_0", "fc1"])  # where integers are rescaled
def test_finds_the_threshold_that_is_too_small(culprit):
    good = inspect(calibrated(), [nets.batch(nets.SMALL_SHAPE, 5)])
    assert all(row.clip_noise == 0 or row.saturated < 0.01 for row in good.rows)
    threshold = calibrated().th_dict[culprit]
    report = inspect(calibrated(**{culprit: threshold / 8}), [nets.batch(nets.SMALL_SHAPE, 5)])
    worst = report.worst[0]
    assert worst.snr_db < 15 and worst.saturated > 0.05 and worst.clip_noise > 0.9
    assert worst.name == culprit and f"set_threshold({culprit!r}" in worst.advice[0] and "calibration batches" in worst.advice[0]


def test_names_a_threshold_that_is_too_large():
    report = inspect(calibrated(data=200.0), [nets.batch(nets.SMALL_SHAPE, 5)])
    assert report.worst[0].name == "data" and "far above" in report.worst[0].advice[0]
    assert report.worst[0].bits_used <= 3


def test_restored_nodes_and_several_consumers():
    x = mx.sym.var("data")
    y = mx.sym.relu(nets.conv(x, "c0", num_filter=4, pad=(1, 1)), name="r0")
    y = mx.sym.broadcast_add(nets.conv(y, "c1", num_filter=4, pad=(1, 1)), y, name="sum")
    symbol = mx.sym.Group([mx.sym.clip(y, a_min=0, a_max=6, name="c6"), y])
    mrt = calibrated(symbol)
    mrt.set_restore("c1")
    report = inspect(mrt, [nets.batch(nets.SMALL_SHAPE, 5)])
    shared = next(row for row in report.rows if row.name == "r0")
    assert {*shared.consumers, *(name for other in shared.others for name in other[0])} == {"c1", "sum"}
    assert len(report.outputs()) == 2 and all(row.snr_db > 25 for row in report.rows)


def test_a_constant_output_is_no_node_to_look_at():
    x = mx.sym.Group([nets.conv(mx.sym.var("data"), "c", num_filter=4), mx.sym.var("anchors", shape=(1, 4)) * 2])
    report = inspect(calibrated(x), [nets.batch(nets.SMALL_SHAPE, 5)])
    assert [row.name for row in report.rows] == ["data", "c"] and [row.name for row in report.outputs()] == ["c"]


def test_an_exact_network_has_no_culprit(tmp_path):
    mrt = calibrated(mx.sym.Flatten(mx.sym.relu(mx.sym.var("data"), name="r"), name="f"), data=127.0, r=127.0, f=127.0)
    x = mx.nd.array(np.random.default_rng(0).integers(-127, 128, nets.SMALL_SHAPE))
    report = inspect(mrt, [x])
    assert {row.snr_db for row in report.rows} == {math.inf} and not report.culprits() and "exact" in report.table()
    report.save_json(tmp_path / "r.json")
    assert all(node["exact"] and node["snr_db"] is None for node in json.loads((tmp_path / "r.json").read_text())["nodes"])
    assert "the integers are exact" in report.html()


# ---- the order

def silu_net():
    """Three layers with SiLU behind them, whose sums go far beyond where a sigmoid is flat."""
    x = mx.sym.var("data")
    for k in range(3):
        x = nets.conv(x, f"c{k}", num_filter=8, pad=(1, 1))
        x = mx.sym.broadcast_mul(x, mx.sym.sigmoid(x, name=f"s{k}"), name=f"m{k}")
    return mx.sym.FullyConnected(x, num_hidden=6, name="fc")


def uneven_net():
    """Channels with ranges from 1 to 1/100, all of which matter to the layer behind."""
    x = mx.sym.relu(nets.conv(mx.sym.var("data"), "a", num_filter=8, pad=(1, 1)), name="r")
    x = mx.sym.relu(nets.conv(x, "b", num_filter=8, pad=(1, 1)), name="s")
    return nets.conv(x, "c", num_filter=4)


UNEVEN = np.geomspace(1, 0.01, 8)


def restored_gains(make, x, names):
    """name -> what is left of the noise of the output when this node computes in float, as a share."""
    real = nets.run(make().current_model, x)[0]

    def noise(name=None):
        mrt = make()
        if name:
            mrt.set_restore(name)
        integers = mrt.quantize()
        found = nets.run(integers, load_real_data(x, "data", mrt.get_inputs_ext()))[0] / mrt.get_output_scales()[0]
        return ((real - found) ** 2).sum()

    whole = noise()
    return {name: 1 - noise(name) / whole for name in names}


@pytest.mark.parametrize("seed", [4, 5, 6])
@pytest.mark.parametrize("net", [silu_net, uneven_net])
def test_what_is_ranked_first_gains_most_when_it_is_float(net, seed):
    shape, rng, values = (16, 3, 12, 12), np.random.default_rng(0), {}
    if net is uneven_net:
        values = {"a_weight": rng.normal(size=(8, 3, 3, 3)) * UNEVEN.reshape(-1, 1, 1, 1), "a_bias": np.zeros(8),
                  "b_weight": rng.normal(size=(8, 8, 3, 3)) / UNEVEN.reshape(-1, 1, 1)}

    def make():
        model = nets.model(net(), shape, seed, 0.5, **values)
        model.prepare(shape)
        mrt = model.get_mrt()
        mrt.set_techniques(two_part_budget=0)
        mrt.set_input_prec(16)
        for k in (1, 2):
            mrt.set_data(nets.batch(shape, k))
            mrt.calibrate()
        return mrt

    x = nets.batch(shape, 7)
    report = inspect(make(), [x])
    gains = restored_gains(make, x, [row.name for row in report.rows if row.op != "input"])
    first = next(row for row in report.worst if row.op != "input")
    assert gains[first.name] == max(gains.values()) > 0.1
    if net is silu_net:
        assert all(row.effect < first.effect / 2 for row in report.rows if row.op == "sigmoid")
    else:
        uneven, = (row for row in report.rows if row.name == "r")
        assert uneven.smallest < 1 / 32 and "the range of one of its channels is 1/" in uneven.advice[-1]


def test_clean_nodes_carry_no_warnings_and_layers_are_told_what_suits_them():
    mrt = calibrated()
    mrt.set_techniques(two_part_budget=0)
    report = inspect(mrt, [nets.batch(nets.SMALL_SHAPE, 5)])
    assert any(row.advice for row in report.rows) and not any(row.advice for row in report.rows if row.snr_db >= 40)
    for row in report.rows:
        said = " ".join(row.advice)
        if row.op in ("Convolution", "FullyConnected") and row.advice and not row.clip_noise > 0.5:
            of_input, of_weight = row.rounding
            assert ("Operand_precision" in said) == (of_input >= of_weight / 2 and row.spare_bits > 0)
            assert ("Rounding = adaptive" in said) == (of_weight >= of_input / 2)


def test_outputs_that_are_not_clean_though_all_nodes_are():
    report = inspect(calibrated(), [nets.batch(nets.SMALL_SHAPE, 5)])
    assert "no node stands out" not in report.table()
    clean = [dataclasses.replace(row, advice=()) for row in report.rows]
    said = inspection.Report(clean, report.batches, report.samples).table()
    assert "no node stands out" in said and f"make {report.worst[0].name} " in said
    exact = [dataclasses.replace(row, snr_db=50.0) for row in clean]
    assert "no node stands out" not in inspection.Report(exact, report.batches, report.samples).table()


def test_mean_errors_call_for_empirical_bias_correction():
    """Weights that cancel on inputs that hardly vary, without any correction: every output is off in one direction."""
    symbol = mx.sym.FullyConnected(mx.sym.relu(mx.sym.var("data"), name="r"), num_hidden=3, no_bias=True, name="y")
    weight = np.random.default_rng(0).normal(size=(3, 64))
    model = nets.model(symbol, (8, 64), y_weight=weight - weight.mean(axis=1, keepdims=True))
    model.prepare((8, 64))
    mrt = model.get_mrt()
    mrt.set_techniques(bias_correction="none", two_part_budget=0)
    mrt.set_input_prec(16)
    x = mx.nd.array(np.random.default_rng(1).uniform(0.9, 1, (8, 64)))
    mrt.set_data(x)
    mrt.calibrate()
    row, = inspect(mrt, [x]).outputs()
    assert row.mean_share > 0.8 and row.snr_db < 40 and "Bias_correction = empirical" in " ".join(row.advice)


# ---- files

class Balance(HTMLParser):
    """Every tag that is opened is closed, in order; nothing is loaded from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        assert not {"src", "srcset"} & {name for name, _ in attrs} and tag not in ("script", "link", "img", "iframe")
        assert dict(attrs).get("href", "#").startswith("#")
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag != "meta":
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_files(tmp_path):
    report = inspect(calibrated(), [nets.batch(nets.SMALL_SHAPE, 5)])
    report.title = "<script>alert('&')"
    report.save_json(tmp_path / "sub" / "report.json")
    report.save_html(tmp_path / "report.html")
    document = json.loads((tmp_path / "sub" / "report.json").read_text())
    assert len(document["nodes"]) == len(report.rows) and document["worst"][0] == report.worst[0].name
    assert sum(document["nodes"][0]["histograms"][0]) == 2 * 144
    page, parser = (tmp_path / "report.html").read_text(), Balance()
    parser.feed(page)
    assert parser.open == [] and parser.seen.count("svg") == len(report.rows) + 1
    assert report.worst[0].name in page and "prefers-color-scheme" in page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "sub"]


# ---- the command

def ini(folder, extra=""):
    for suffix in ("json", "params"):
        shutil.copy(ZOO / "mnist" / f"mnist_mlp.{suffix}", folder)
    text = (f"[DEFAULT]\nModel_dir = .\nModel_name = mnist_mlp\nInput_shape = (-1, 1, 28, 28)\n[CALIBRATION]\nDataset = mnist\n"
            f"Dataset_dir = {ZOO / 'data'}\nDump = True\n[PREPARE]\n[SPLIT_MODEL]\n[MERGE_MODEL]\n"
            f"[QUANTIZATION]\nDump = True\nOutput_precision = 8\n{extra}")
    (folder / "net.ini").write_text(text)
    return str(folder / "net.ini")


def test_command(tmp_path, capsys):
    path = ini(tmp_path, "[EVALUATION]\nBatch = 100\nIter_num = 1\n")
    files = sorted(p.name for p in tmp_path.iterdir())
    assert inspection.main([path, "--batches", "2", "--top", "3", "--json", str(tmp_path / "r.json")]) == 0
    printed = capsys.readouterr().out
    assert "SNR dB" in printed and "more nodes" in printed and "on 32 samples" in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*files, "r.json"])  # no checkpoint is written

    assert main2.main([path]) == 0
    kept = path.replace("net.ini", "kept.ini")
    Path(kept).write_text(Path(path).read_text().replace("[DEFAULT]\n", "[DEFAULT]\nStart = QUANTIZATION\n"))
    capsys.readouterr()
    assert inspection.main([kept, "--batches", "2", "--json", str(tmp_path / "s.json")]) == 0
    assert "started from CALIBRATION" in capsys.readouterr().err
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("r.json", "s.json"))
    assert first["nodes"] == second["nodes"]


def test_command_without_evaluation_and_with_a_bad_threshold(tmp_path, capsys):
    assert inspection.main([ini(tmp_path, "Thresholds = data: 0.1\n"), "--batches", "1", "--html", str(tmp_path / "p.html")]) == 0
    printed = capsys.readouterr()
    assert "samples of calibration" in printed.err and "set_threshold('data'" in printed.out
    assert "set_threshold(&#x27;data&#x27;" in (tmp_path / "p.html").read_text()


def test_refusals(tmp_path, capsys):
    mrt = calibrated()
    with pytest.raises(MRTError, match="at least one batch"):
        inspect(mrt, [])
    with pytest.raises(StateError, match="thresholds"):
        inspect(mrt.current_model.get_mrt(), [nets.batch(nets.SMALL_SHAPE)])
    mrt.quantize()
    with pytest.raises(StateError, match="before quantize"):
        inspect(mrt, [nets.batch(nets.SMALL_SHAPE)])
    assert inspection.main([str(tmp_path / "none.ini")]) == 1
    assert inspection.main([]) == 2 and inspection.main(["x.ini", "--batches", "0"]) == 2
    assert inspection.main([ini(tmp_path, "Restore_name = nobody\n")]) == 1
    error = capsys.readouterr().err
    assert "none.ini" in error and "no node or operator 'nobody'" in error
    assert inspection.main([ini(tmp_path), "--json", str(tmp_path / "net.ini" / "r.json")]) == 1
    assert "error: " in capsys.readouterr().err
