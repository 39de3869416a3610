"""The command `python -m mrt.main2`: a whole run, its files, resuming, and everything it refuses."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cvm_runtime as cvm
from mrt import main2
from mrt.files import atomic_path
from mrt.mxnet_bridge import mx
from mrt.pipeline import config, evaluate, stages
from mrt.pipeline.evaluate import Compiled
from mrt.progress import Progress
from mrt.transformer import Model
from mrt.utils import multi_validate

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "model_zoo"
FILES = ("symbol", "params", "data.npy", "ext")


def ini(folder, default="", **sections):
    """Write folder/net.ini; keyword arguments add keys to sections, None leaves a section out."""
    keys = {"PREPARE": "", "SPLIT_MODEL": "", "CALIBRATION": "", "QUANTIZATION": "", "MERGE_MODEL": "",
            "EVALUATION": "Batch = 200\nIter_num = 2", "COMPILATION": "Dump_dir = out", **sections}
    keys["CALIBRATION"] = f"Dataset = mnist\nDataset_dir = {ZOO / 'data'}\n{keys['CALIBRATION']}"
    keys["QUANTIZATION"] = f"Output_precision = 8\n{keys['QUANTIZATION']}"
    text = f"[DEFAULT]\nModel_dir = .\nModel_name = mnist_mlp\nInput_shape = (-1, 1, 28, 28)\n{default}\n"
    text += "".join(f"[{name}]\n{body}\n" for name, body in keys.items() if body is not None)
    (folder / "net.ini").write_text(text)
    return str(folder / "net.ini")


def compiled(folder):
    return {name: (folder / "out" / "mnist_mlp_cvm" / name).read_bytes() for name in FILES}


def refused(path, capsys):
    """The one error line of a run that fails."""
    assert main2.main([path]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_whole_run(folder, capsys):
    path = ini(folder, "Report = report.json")
    assert main2.main([path]) == 0
    printed = capsys.readouterr().out
    for words in ("[1/7] prepare", "[2/7] split      skipped (no Keys", "16 samples of mnist, training part",
                  "[7/7] evaluate", "400 samples of mnist, test part", "bit-exact", "yes: runtime = simulation on 400",
                  "agreement with float", "gas", "parameters", str(folder / "out" / "mnist_mlp_cvm")):
        assert words in printed
    report = json.loads((folder / "report.json").read_text())
    result = report["result"]
    assert result["bit_exact"] is True and result["agreement_percent"] > 98
    top1 = {name: result[name]["metrics"]["top1"] for name in ("float", "integer, simulated", "integer, runtime")}
    assert top1["float"] > 95 and abs(top1["float"] - top1["integer, simulated"]) < 1
    assert top1["integer, simulated"] == top1["integer, runtime"]
    assert report["settings"]["calibration"]["batch"] == 16 and report["calibration"]["part"] == "training part"

    first = compiled(folder)
    assert main2.main([path]) == 0
    assert compiled(folder) == first
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["mnist_mlp_cvm"]


def test_the_preset_original(folder, capsys):
    assert main2.main([ini(folder)]) == 0
    default = compiled(folder)["params"]
    assert main2.main([ini(folder, QUANTIZATION="Preset = original\nDump = True")]) == 0
    printed = capsys.readouterr().out
    assert "output 8, preset original" in printed and printed.count("yes: runtime = simulation on 400") == 2
    assert compiled(folder)["params"] != default
    assert "it was made with [QUANTIZATION] Preset" in refused(ini(folder, "Start = QUANTIZATION"), capsys)


def test_compiled_files_belong_together(folder):
    assert main2.main([ini(folder, EVALUATION=None)]) == 0
    out = folder / "out" / "mnist_mlp_cvm"
    data, ext = np.load(out / "data.npy"), (out / "ext").read_text()
    assert data.dtype == np.int8 and data.shape == (1, 1, 28, 28) and ext.count("\n") == 1
    ext = json.loads(ext)
    assert set(ext) == {"inputs_ext", "oscales", "input_shapes", "sha256"} and ext["input_shapes"] == [-1, 1, 28, 28]
    image, label, _ = stages.DS_REG["mnist"].arrays(str(ZOO / "data"), False, 1)
    scale = ext["inputs_ext"]["data"]["scale"]
    np.testing.assert_array_equal(data, np.rint(np.float32(image / np.float32(255)).astype(np.float64) * scale))
    scores = cvm.load(out / "symbol", out / "params").run(data)[0] / ext["oscales"][0]
    assert scores.shape == (1, 10) and scores.argmax() == label[0]


def test_wide_input_is_not_wrapped(folder):
    assert main2.main([ini(folder, QUANTIZATION="Input_precision = 12", EVALUATION=None)]) == 0
    data = np.load(folder / "out" / "mnist_mlp_cvm" / "data.npy")
    assert data.dtype == np.int32 and 1000 < data.max() <= 2047


def test_other_batches_and_the_end_of_the_data(folder, capsys):
    path = ini(folder, EVALUATION="Batch = 3000\nIter_num = 50", COMPILATION="Batch = 7\nDump_dir = out")
    assert main2.main([path]) == 0
    printed = capsys.readouterr()
    assert "yes: runtime = simulation on 10000 samples" in printed.out  # 3 batches and a rest; 7 does not divide 10000
    assert "notice: compiled for batches of 7" in printed.err


def test_output_precision_is_an_upper_bound(folder, capsys):
    path = ini(folder)
    Path(path).write_text(Path(path).read_text().replace("Output_precision = 8", "Output_precision = 30"))
    assert main2.main([path]) == 0
    assert "output 30" in capsys.readouterr().out
    Path(path).write_text(Path(path).read_text().replace("Output_precision = 30", "Output_precision = 33"))
    assert "net.ini:15: [QUANTIZATION] Output_precision: found '33', expected an integer from 2 to 32" in refused(path, capsys)


def test_names_of_no_node_are_refused_with_their_key(folder, capsys):
    for line in ("Thresholds = nowhere: 1", "Operand_precision = nowhere: 12"):
        assert f"[QUANTIZATION] {line.split()[0]}: " in refused(ini(folder, QUANTIZATION=line, EVALUATION=None), capsys)


def test_zeros_to_calibrate_on_are_noticed(folder, capsys):
    (folder / "zeros.py").write_text("from mrt.dataset import VisionDataset, register_dataset\n"
                                     "from mrt.mxnet_bridge import mx\n"
                                     "@register_dataset('test_main2_zeros')\nclass Zeros(VisionDataset):\n"
                                     "    def _load_data(self):\n"
                                     "        self.data = [(mx.nd.zeros(self.ishape), mx.nd.zeros(self.ishape[0]))]\n")
    path = ini(folder, CALIBRATION="Dataset_module = zeros.py", EVALUATION=None, COMPILATION=None)
    Path(path).write_text(Path(path).read_text().replace("Dataset = mnist", "Dataset = test_main2_zeros"))
    assert main2.main([path]) == 0
    assert "notice: the calibration data holds nothing but zeros" in capsys.readouterr().err


def test_sections_left_out(folder, capsys):
    assert main2.main([ini(folder, EVALUATION=None, COMPILATION=None)]) == 0
    printed = capsys.readouterr().out
    assert "compile    skipped (no section [COMPILATION])" in printed
    assert "evaluate   skipped (no section [EVALUATION])" in printed
    assert not (folder / "out").exists()


def test_a_difference_is_an_error(folder, capsys, monkeypatch):
    right = Compiled.__call__

    def wrong(self, codes):
        outputs = right(self, codes)
        if self.model.ctx != cvm.formal():
            outputs[0][3, 0] += 1
        return outputs

    monkeypatch.setattr(Compiled, "__call__", wrong)
    assert "defect" in refused(ini(folder), capsys)
    assert evaluate._different([np.zeros((4, 2)), np.ones((4, 1))], [np.zeros((4, 2)), np.array([[1], [2], [1], [3]])]) == 2


# ---- resuming --------------------------------------------------------------------------------------------------------

DUMP = {"PREPARE": "Dump = True", "CALIBRATION": "Dump = True", "QUANTIZATION": "Dump = True"}


def with_start(folder, start, **sections):
    sections = {**DUMP, "EVALUATION": None, **sections}
    return ini(folder, f"Start = {start}", **sections)


@pytest.mark.parametrize("start, skipped", [("PREPARE", 1), ("CALIBRATION", 3), ("QUANTIZATION", 4)])
def test_resuming_gives_the_same_files(folder, capsys, start, skipped):
    assert main2.main([with_start(folder, "DEFAULT")]) == 0
    first = compiled(folder)
    for name in ("mnist_mlp.prepare.params", "mnist_mlp.mrt.calibrate.ext", "mnist_mlp.mrt.quantize.json"):
        assert (folder / name).exists()
    shutil.rmtree(folder / "out")
    capsys.readouterr()
    assert main2.main([with_start(folder, start)]) == 0
    printed = capsys.readouterr().out
    assert printed.count(f"(Start = {start})") == skipped
    assert compiled(folder) == first


@pytest.mark.parametrize("key", ["Rounding = adaptive", "Bias_correction = empirical"])
def test_what_slower_techniques_need_is_kept(folder, capsys, key):
    assert main2.main([with_start(folder, "DEFAULT")]) == 0
    plain = compiled(folder)
    text = f"Dump = True\n{key}"
    assert "before calibrate" in refused(with_start(folder, "CALIBRATION", QUANTIZATION=text), capsys)
    assert main2.main([with_start(folder, "DEFAULT", QUANTIZATION=text)]) == 0
    first = compiled(folder)
    assert first["params"] != plain["params"]
    assert main2.main([with_start(folder, "CALIBRATION", QUANTIZATION=text)]) == 0
    assert compiled(folder) == first
    assert main2.main([with_start(folder, "CALIBRATION", QUANTIZATION="Preset = original")]) == 0


def test_stale_checkpoints_are_refused(folder, capsys):
    assert main2.main([with_start(folder, "DEFAULT")]) == 0
    text = refused(with_start(folder, "CALIBRATION", CALIBRATION="Calibrate_num = 3"), capsys)
    assert "stale" in text and "[CALIBRATION] Calibrate_num = 1, now it is 3" in text
    assert main2.main([with_start(folder, "PREPARE", CALIBRATION="Calibrate_num = 3")]) == 0  # does not concern prepare

    model = folder / "mnist_mlp.params"
    model.write_bytes(model.read_bytes()[:-1] + b"\x01")
    text = refused(with_start(folder, "QUANTIZATION"), capsys)
    assert "stale: mnist_mlp.params changed" in text and "net.ini:5: [DEFAULT] Start" in text


def test_mixed_and_unmarked_checkpoints(folder, capsys):
    assert main2.main([with_start(folder, "DEFAULT")]) == 0
    mark = folder / "mnist_mlp.calibration.fingerprint"
    saved = mark.read_bytes()
    mark.unlink()
    capsys.readouterr()
    assert main2.main([with_start(folder, "CALIBRATION")]) == 0  # as the original leaves them
    assert "notice: no fingerprint" in capsys.readouterr().err
    mark.write_bytes(saved[:40])
    assert "not a fingerprint" in refused(with_start(folder, "CALIBRATION"), capsys)
    assert main2.main([with_start(folder, "DEFAULT")]) == 0
    with open(folder / "mnist_mlp.mrt.quantize.ext", "a") as stream:
        stream.write("\n")
    assert "mnist_mlp.mrt.quantize.ext changed" in refused(with_start(folder, "QUANTIZATION"), capsys)


# ---- split and merge -------------------------------------------------------------------------------------------------

SPLIT = {"SPLIT_MODEL": "Keys = dense\nDump = True", "MERGE_MODEL": "Attribute_deps = None\nOscale_maps = head: dense\n"
         "Dump = True", "CALIBRATION": "Dump = True", "QUANTIZATION": "Dump = True"}


@pytest.fixture
def split_folder(tmp_path):
    """A dense layer with a relu above it, which stays in the upper half."""
    random = np.random.RandomState(0)
    data = mx.sym.Variable("data")
    head = mx.sym.relu(mx.sym.FullyConnected(data, num_hidden=10, name="dense"), name="head")
    params = {"dense_weight": mx.nd.array(random.uniform(-1, 1, (10, 784))), "dense_bias": mx.nd.array(random.uniform(size=10))}
    Model(head, params).save(str(tmp_path / "mnist_mlp.json"), str(tmp_path / "mnist_mlp.params"))
    return tmp_path


@pytest.mark.parametrize("start", ["SPLIT_MODEL", "CALIBRATION", "QUANTIZATION", "MERGE_MODEL"])
def test_split_and_merge(split_folder, capsys, start):
    assert main2.main([ini(split_folder, **SPLIT)]) == 0
    printed = capsys.readouterr().out
    assert "cut behind dense" in printed and "bit-exact" in printed and "yes:" in printed
    first = compiled(split_folder)
    assert len((split_folder / "mnist_mlp.all.quantize.ext").read_text().splitlines()) == 6
    assert main2.main([ini(split_folder, f"Start = {start}", **SPLIT)]) == 0
    assert compiled(split_folder) == first


@pytest.mark.parametrize("section, text, words", [
    ("SPLIT_MODEL", "Keys = dens", "dens"),
    ("MERGE_MODEL", "Attribute_deps = box_nms: thresh: dense\nOscale_maps = head: dense", "no operator 'box_nms'"),
    ("MERGE_MODEL", "Attribute_deps = relu: none: other\nOscale_maps = head: dense", "'other' is not one of the Keys"),
    ("MERGE_MODEL", "Attribute_deps = None\nOscale_maps = tail: dense", "head"),
])
def test_names_that_match_nothing(split_folder, capsys, section, text, words):
    assert words in refused(ini(split_folder, **{**SPLIT, section: text}), capsys)


def test_an_upper_half_with_an_input_of_its_own_is_refused_at_once(split_folder, capsys):
    files = [str(split_folder / f"mnist_mlp.{suffix}") for suffix in ("json", "params")]
    model = Model.load(*files)
    Model(mx.sym.broadcast_mul(model.symbol, mx.sym.var("im_info"), name="boxes"), model.params).save(*files)
    text = {**SPLIT, "MERGE_MODEL": "Attribute_deps = None\nOscale_maps = boxes: dense"}
    error = refused(ini(split_folder, **text), capsys)
    assert "what lies behind dense needs im_info besides, and the compiled network has one input" in error


def test_attributes_of_the_upper_half_are_scaled():
    graph = Model(mx.sym.Variable("score") > 0.259, {}).graph
    node = graph.outputs[0].node
    callback = stages.attribute_scaler(graph, {"_greater_scalar": {"scalar": "score"}}, {"score": 100.0}, "net.ini")
    assert callback(node, {}, {}).attrs["scalar"] == "25"  # towards zero
    assert stages.attribute_scaler(graph, {}, {}, "net.ini")(node, {}, {}) is node


# ---- errors and notices ----------------------------------------------------------------------------------------------

def test_absent_gpu_is_a_notice(folder, capsys):
    if mx.context.num_gpus():
        pytest.skip("this machine has a GPU")
    assert main2.main([ini(folder, "Device_type = gpu\nDevice_ids = 0")]) == 0
    printed = capsys.readouterr()
    assert "notice: no GPU number 0 on this machine; [CALIBRATION] uses the CPU" in printed.err
    assert "bit-exact" in printed.out


@pytest.mark.parametrize("sections, words", [
    ({"CALIBRATION": "Calibrate_num = 1000\nBatch = 100"}, "training part of data set 'mnist' ends after 600 of 1000"),
    ({"QUANTIZATION": "Thresholds = nosuch: 1"}, "nosuch"),
    ({"QUANTIZATION": "Restore_name = nosuch"}, "no node or operator 'nosuch'"),
    ({"COMPILATION": "Batch = 20000\nDump_dir = out"}, "no batch of shape (20000, 1, 28, 28)"),
])
def test_errors_of_stages(folder, capsys, sections, words):
    assert words in refused(ini(folder, **sections), capsys)
    assert not (folder / "out" / "mnist_mlp_cvm").exists()
    assert not list(folder.rglob(".tmp-*"))


def test_damaged_model(folder, capsys):
    (folder / "mnist_mlp.json").write_text("{")
    assert "mnist_mlp.json" in refused(ini(folder), capsys)


def test_a_defect_is_one_line_too(folder, capsys, monkeypatch):
    monkeypatch.setattr(stages.Run, "quantize", lambda self: 1 / 0)
    assert "ZeroDivisionError" in refused(ini(folder), capsys)


def test_configuration_errors_come_before_the_first_stage(folder, capsys):
    path = ini(folder, "Verbositi = 1", CALIBRATION="Batch = none")
    assert main2.main([path]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("error: ") == printed.err.count("\n") == 2


def test_as_a_program(tmp_path):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "mrt.main2", *arguments], cwd=ROOT, capture_output=True, text=True)
    wrong = run()
    assert wrong.returncode == 2 and wrong.stderr == "usage: python -m mrt.main2 CONFIGURATION.ini\n"
    assert "Calibrate_num" in run("--help").stdout
    absent = run(str(tmp_path / "absent.ini"))
    assert absent.returncode == 1 and absent.stderr.startswith("error: ") and absent.stderr.count("\n") == 1


@pytest.mark.parametrize("path", sorted(ZOO.glob("mnist*.ini")), ids=lambda p: p.name)
def test_shipped_configurations(path, monkeypatch):
    monkeypatch.chdir("/")
    settings = config.load(path)
    config.check(settings)
    assert settings.evaluation.batch * settings.evaluation.iter_num == 10000
    assert Path(settings.compilation.dump_dir).name == "mrt_output"


# ---- helpers ---------------------------------------------------------------------------------------------------------

def test_shape_helpers():
    assert main2.set_batch((-1, 3, 4), 7) == [7, 3, 4] and main2.batch_axis((38, -1)) == 1
    for shape in ((1, 2), (-1, -1)):
        with pytest.raises(AssertionError):
            main2.batch_axis(shape)


def test_restored_nodes(folder):
    model = Model.load(str(folder / "mnist_mlp.json"), str(folder / "mnist_mlp.params"))
    model.prepare((1, 1, 28, 28))
    dense = stages.restored_nodes(model.graph, ["_OP_FullyConnected"])
    assert len(dense) == 3
    rest = stages.restored_nodes(model.graph, ["_ALL_EXCEPT_", *dense])
    assert rest and not set(rest) & set(dense)


def test_multi_validate_stops_at_the_end_and_takes_both_kinds_of_result():
    batches = iter([(None, np.zeros(3)), (None, np.zeros(2))])
    seen = []

    def base(data, label):
        seen.append(len(label))
        return f"n={sum(seen)}"

    assert multi_validate(base, lambda: next(batches), lambda data, label: ("x", 1.5), iter_num=9) == ["n=5", "x (1.5 ms)"]
    assert seen == [3, 2]


def test_atomic_path_leaves_the_old_file_after_an_error(tmp_path):
    target = tmp_path / "sub" / "file.json"
    with atomic_path(target) as temporary:
        Path(temporary).write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        Path(temporary).write_text("new")
        raise ZeroDivisionError
    assert target.read_text() == "old" and [p.name for p in target.parent.iterdir()] == ["file.json"]


def test_progress_is_plain_lines_without_a_terminal(tmp_path):
    with open(tmp_path / "log", "w+") as stream:
        with Progress("count", 4, "items", every=0.05, stream=stream) as progress:
            progress.update(2)
            assert progress._thread.is_alive()
            progress._stop.wait(1.2)
        stream.seek(0)
        lines = stream.read().splitlines()
    assert lines and lines[0].startswith("count: 2/4 items, about 1 s left, 1 s")
