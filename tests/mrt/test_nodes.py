"""What a configuration says is refused before the first stage: names of nodes, amounts of data, files to be written."""
import json
import re
from pathlib import Path

import numpy as np
import pytest

from mrt import __main__, main2
from mrt import dataset as ds
from mrt.inspect import inspection
from mrt.mxnet_bridge import mx
from mrt.pipeline import config, nodes
from mrt.transformer import Model

ZOO = Path(__file__).resolve().parents[2] / "model_zoo"
LAYER = "MLP_dense1_fwd"


def ini(folder, default="", **sections):
    """Write folder/net.ini; keyword arguments add keys to sections, None leaves a section out."""
    keys = {"CALIBRATION": "Dataset = mnist", "EVALUATION": "Batch = 100\nIter_num = 1", "COMPILATION": "Dump_dir = out",
            **sections}
    text = f"[DEFAULT]\nModel_dir = .\nModel_name = mnist_mlp\nInput_shape = (-1, 1, 28, 28)\nDataset_dir = {ZOO / 'data'}\n"
    text += default + "\n" + "".join(f"[{name}]\n{body}\n" for name, body in keys.items() if body is not None)
    (folder / "net.ini").write_text(text)
    return str(folder / "net.ini")


def refused(path, capsys, command=main2.main):
    """The error lines of a command that does not come to its first stage."""
    before = sorted(Path(path).parent.rglob("*"))
    capsys.readouterr()
    assert command([path]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and sorted(Path(path).parent.rglob("*")) == before
    lines = printed.err.splitlines()
    assert lines and all(line.startswith("error: ") for line in lines)
    return lines


# ---- names -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("key, value, words", [
    ("Thresholds", "MLP_dens1_fwd: 1", f"no node 'MLP_dens1_fwd', did you mean '{LAYER}'?"),
    ("Operand_precision", "MLP_dens1_fwd: 12", f"no node 'MLP_dens1_fwd', did you mean '{LAYER}'?"),
    ("Operand_precision", "MLP_dense0_relu_fwd: 12", "is relu, expected Convolution or FullyConnected"),
    ("Operand_precision", "MLP_dense0_weight: 12", "is no operator, expected Convolution or FullyConnected"),
    ("Restore_name", "MLP_dens1_fwd", f"no node or operator 'MLP_dens1_fwd', did you mean '{LAYER}'?"),
    ("Restore_name", "_OP_FullConnected", "did you mean '_OP_FullyConnected'?"),
    ("Restore_name", "_ALL_EXCEPT_, MLP_dens1_fwd", f"did you mean '{LAYER}'?"),
    ("Restore_name", "data", "'data' is no operator, expected an operator"),
])
@pytest.mark.parametrize("command", [main2.main, inspection.main], ids=["run", "inspect"])
def test_names_of_the_quantization(folder, capsys, key, value, words, command):
    path = ini(folder, QUANTIZATION=f"Output_precision = 8\n{key} = {value}")
    line, = refused(path, capsys, command)
    number = Path(path).read_text().splitlines().index(f"{key} = {value}") + 1
    assert line.startswith(f"error: {path}:{number}: [QUANTIZATION] {key}: ") and words in line


def test_all_wrong_names_at_once(folder, capsys):
    text = "Thresholds = a: 1, data: 2, b: 3\nRestore_name = c\nOperand_precision = d: 8"
    lines = refused(ini(folder, QUANTIZATION=text), capsys)
    assert [re.search(r"'(.)'", line).group(1) for line in lines] == ["a", "b", "d", "c"]


def test_a_precision_beyond_two_parts(folder, capsys):
    line, = refused(ini(folder, QUANTIZATION=f"Operand_precision = {LAYER}: 16"), capsys)
    assert f"'16' in '{LAYER}: 16' is not an integer from 2 to 15" in line


def test_names_when_started_behind_a_stage(folder, capsys):
    keys = {"PREPARE": "Dump = True", "CALIBRATION": "Dataset = mnist\nDump = True", "EVALUATION": None, "COMPILATION": None}
    assert main2.main([ini(folder, **keys)]) == 0
    for start in ("PREPARE", "CALIBRATION"):
        line, = refused(ini(folder, f"Start = {start}", **keys, QUANTIZATION="Thresholds = dat: 1"), capsys)
        assert "did you mean 'data'?" in line
    assert main2.main([ini(folder, "Start = CALIBRATION", **keys, QUANTIZATION=f"Thresholds = {LAYER}: 1")]) == 0


# ---- a network that is split -----------------------------------------------------------------------------------------

@pytest.fixture
def split_folder(tmp_path):
    """dense, then `exotic`, which cannot be quantized, and a relu above both."""
    random = np.random.RandomState(0)
    dense = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=10, name="dense")
    head = mx.sym.relu(mx.sym.gamma(dense, name="exotic"), name="head")
    params = {"dense_weight": mx.nd.array(random.uniform(-1, 1, (10, 784))), "dense_bias": mx.nd.array(random.uniform(size=10))}
    folder = tmp_path / "split"
    Model(head, params).save(str(folder / "mnist_mlp.json"), str(folder / "mnist_mlp.params"))
    return folder


MERGE = "Attribute_deps = None\nOscale_maps = head: dense"


@pytest.mark.parametrize("keys, merge, quantization, words", [
    ("dens", MERGE, "", ["[SPLIT_MODEL] Keys: the network has no operator 'dens', did you mean 'dense'?"]),
    ("data", MERGE, "", ["the network has no operator 'data'"]),
    ("dense", "Attribute_deps = box_nms: thresh: dense\nOscale_maps = head: dense", "",
     ["[MERGE_MODEL] Attribute_deps: the upper half has no operator 'box_nms'; it has gamma, relu"]),
    ("dense", "Attribute_deps = relu: x: other\nOscale_maps = tail: head", "",
     ["[MERGE_MODEL] Attribute_deps: 'other' is not one of the Keys dense", "given for tail, but the outputs are head",
      "[MERGE_MODEL] Oscale_maps: 'head' is not one of the Keys dense"]),
    ("dense", MERGE, "Thresholds = head: 1\nRestore_name = exotic",
     ["[QUANTIZATION] Thresholds: 'head' lies above the Keys", "[QUANTIZATION] Restore_name: 'exotic' lies above the Keys"]),
])
def test_names_of_split_and_merge(split_folder, capsys, keys, merge, quantization, words):
    lines = refused(ini(split_folder, SPLIT_MODEL=f"Keys = {keys}", MERGE_MODEL=merge, QUANTIZATION=quantization), capsys)
    assert len(lines) == len(words) and all(word in line and "net.ini:" in line for word, line in zip(words, lines))


def test_names_behind_a_kept_split(split_folder, capsys):
    keys = {"SPLIT_MODEL": "Keys = dense\nDump = True", "COMPILATION": None, "EVALUATION": None}
    assert main2.main([ini(split_folder, **keys, MERGE_MODEL=MERGE)]) == 0
    start, wrong = "Start = SPLIT_MODEL", "Attribute_deps = no: x: dense\nOscale_maps = a: dense"
    assert len(refused(ini(split_folder, start, **keys, MERGE_MODEL=wrong, QUANTIZATION="Thresholds = head: 1"), capsys)) == 3
    assert main2.main([ini(split_folder, start, **keys, MERGE_MODEL=MERGE, QUANTIZATION="Thresholds = dense: 1")]) == 0


# ---- mrt nodes -------------------------------------------------------------------------------------------------------

def test_every_name_listed_is_accepted_where_it_says(folder, split_folder, capsys):
    split = ini(split_folder, SPLIT_MODEL="Keys = dense", MERGE_MODEL=MERGE)
    for path, keys in ((ini(folder), {}), (split, {"keys": ("dense",)})):
        capsys.readouterr()
        assert __main__.main(["nodes", path, "--json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert rows == nodes.list_nodes(nodes.prepared(config.load(path)).graph, **keys)
        for key, value in (("Thresholds", "{}: 1"), ("Restore_name", "{}"), ("Operand_precision", "{}: 12")):
            for row in rows:
                text = Path(path).read_text()
                other = Path(path).with_name("other.ini")
                other.write_text(text + f"[QUANTIZATION]\n{key} = {value.format(row['name'])}\n")
                settings = config.load(other)
                assert bool(nodes.problems(settings, nodes.prepared(settings).graph)) == (key not in row["keys"])


def test_the_command_nodes(folder, split_folder, tmp_path, capsys):
    (tmp_path / "net-symbol.json").write_bytes((ZOO / "mnist" / "mnist_mlp.json").read_bytes())
    (tmp_path / "net-0000.params").write_bytes((ZOO / "mnist" / "mnist_mlp.params").read_bytes())
    assert nodes.main(["mnist_mlp"]) == 0
    text = capsys.readouterr().out
    assert nodes.main([str(tmp_path / "net"), "--shape", "1,1,28,28"]) == 0
    assert capsys.readouterr().out == text
    assert re.search(rf"^{LAYER} +FullyConnected +1x64 +Keys Thresholds Restore_name Operand_precision$", text, re.M)
    assert re.search(r"^data +\(input\) +1x1x28x28 +Thresholds$", text, re.M)

    model = str(split_folder / "mnist_mlp")
    assert nodes.main([model, "--shape", "1,784", "--keys", "dense"]) == 0
    assert re.search(r"^exotic +gamma +1x10 +Keys$", capsys.readouterr().out, re.M)
    for arguments, status, words in (
            ([model, "--shape", "1,784", "--keys", "dens"], 1, "--keys: the network has no operator 'dens', did you mean"),
            ([model, "--shape", "1,784"], 1, "exotic"), ([str(tmp_path / "no.ini")], 1, "No such file"),
            (["mnits"], 1, "did you mean 'mnist'?"), ([], 2, "name a configuration or a model"),
            (["mnist", "--shape", "1,2"], 2, "--shape and --keys go with a model")):
        try:
            assert nodes.main(arguments) == status
        except SystemExit as stop:
            assert stop.code == status
        assert words in capsys.readouterr().err


# ---- data ------------------------------------------------------------------------------------------------------------

OWN = """
import numpy as np
from mrt.dataset import ArrayLoader, DatasetError, VisionDataset, register_dataset

OPENED = []

class Own(VisionDataset):
    def _load_data(self):
        OPENED.append((self.name, self.ishape))
        if self.root_dir.endswith("absent"):
            raise DatasetError("own data: nothing there")
        data = np.random.RandomState(0).uniform(size=(40, 1, 28, 28))
        self.data = ArrayLoader(data, np.zeros(40), self.ishape[0])

@register_dataset("%s")
class Loader(Own):
    pass
"""


def own(folder, name):
    (folder / f"{name}.py").write_text(OWN % name)
    return f"Dataset = {name}\nDataset_module = {name}.py\n"


def test_more_calibration_than_data(folder, capsys):
    line, = refused(ini(folder, CALIBRATION="Dataset = mnist\nBatch = 300\nCalibrate_num = 100000"), capsys)
    assert "net.ini:10: [CALIBRATION] Calibrate_num: the training part of data set 'mnist' ends after " in line
    line, = refused(ini(folder, CALIBRATION=own(folder, "test_nodes_few") + "Batch = 16\nCalibrate_num = 4"), capsys)
    assert "Calibrate_num: the only part of data set 'test_nodes_few' ends after 3 of 4 batches of 16" in line


@pytest.mark.parametrize("sections, words", [
    ({"COMPILATION": "Batch = 20000\nDump_dir = out"}, "gives no batch of shape (20000, 1, 28, 28)"),
    ({"EVALUATION": "Batch = 16\nIter_num = 1\nDataset = quickdraw"}, "gives no batch of 16 samples: it holds 10"),
    ({"CALIBRATION": "Dataset = cifar10\nBatch = 2"}, "Input_shape: data set 'cifar10' holds samples of shape (3, 32, 32)"),
])
def test_data_that_do_not_fit(folder, capsys, sections, words):
    for name, suffixes in (("quickdraw", ("X_test", "y_test", "X", "y")), ("cifar10", ())):
        (folder / "data" / name).mkdir(parents=True)
        for suffix in suffixes:
            np.save(folder / "data" / name / f"quickdraw_{suffix}.npy", np.zeros((10, 1, 28, 28), np.float32)[:, :, :28, :28])
    for part in ("test", "train"):
        np.savez(folder / "data" / "cifar10" / f"cifar10_{part}.npz", x=np.zeros((10, 32, 32, 3), np.uint8), y=np.zeros(10))
    (folder / "data" / "mnist").symlink_to(ZOO / "data" / "mnist")
    path = ini(folder, **sections)
    Path(path).write_text(Path(path).read_text().replace(str(ZOO / "data"), str(folder / "data")))
    line, = refused(path, capsys)
    assert words in line


def test_a_data_set_without_files_is_opened_once(folder, capsys):
    path = ini(folder, CALIBRATION=own(folder, "test_nodes_own") + "Batch = 16", EVALUATION="Batch = 20\nIter_num = 2")
    assert main2.main([path]) == 0
    module = ds.DS_REG["test_nodes_own"]._load_data.__globals__
    assert [shape[0] for _, shape in module["OPENED"]] == [16, 1, 20]  # calibrate, compile, evaluate: none a second time
    Path(path).write_text(Path(path).read_text().replace(str(ZOO / "data"), str(folder / "absent")).replace(
        "= test_nodes_own\n", "= absent\n"))
    (folder / "test_nodes_own.py").rename(folder / "absent.py")
    module["register_dataset"]("absent")(type("Absent", (module["Own"],), {}))
    Path(path).write_text(re.sub(r"Dataset_module = .*\n", "", Path(path).read_text()))
    line, = refused(path, capsys)
    assert "[CALIBRATION] Dataset: own data: nothing there" in line


# ---- files to be written ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("default, sections, words", [
    ("Report = taken", {}, "[DEFAULT] Report: {}/taken is a folder, expected a file"),
    ("Report = net.ini", {}, "[DEFAULT] Report: {}/net.ini belongs to the run itself"),
    ("Report = sub/../mnist_mlp.params", {}, "belongs to the run itself"),
    ("Report = out/mnist_mlp_cvm/ext", {}, "belongs to the run itself"),
    ("Report = mnist_mlp.mrt.calibrate.ext", {"CALIBRATION": "Dataset = mnist\nDump = True"}, "belongs to the run itself"),
    ("Report = net.ini/report.json", {}, "[DEFAULT] Report: "),
    ("Report = " + "x" * 300, {}, "File name too long"),
    ("", {"COMPILATION": "Dump_dir = net.ini"}, "[COMPILATION] Dump_dir: cannot write into {}/net.ini"),
    ("", {"COMPILATION": "Dump_dir = file"}, "{}/file/mnist_mlp_cvm is not a folder"),
    ("", {"COMPILATION": "Dump_dir = " + "x" * 300}, "[COMPILATION] Dump_dir"),
    ("", {"PREPARE": "Dump = True"}, "[PREPARE] Dump: {}/mnist_mlp.prepare.params is a folder"),
    ("Output_dir = net.ini", {"QUANTIZATION": "Dump = True", "COMPILATION": None},
     "[QUANTIZATION] Dump: cannot write into {}/net.ini"),
])
def test_files_that_cannot_be_written(folder, capsys, default, sections, words):
    for name in ("taken", "sub", "mnist_mlp.prepare.params"):
        (folder / name).mkdir()
    (folder / "file").mkdir()
    (folder / "file" / "mnist_mlp_cvm").write_text("")
    line, = refused(ini(folder, default, **sections), capsys)
    assert words.format(folder) in line


def test_folders_without_permission(folder, capsys, monkeypatch):
    (folder / "closed").mkdir()
    access = config.os.access
    monkeypatch.setattr(config.os, "access", lambda path, mode: Path(path).name != "closed" and access(path, mode))
    for key in ("Report = closed/new/report.json", "Output_dir = closed"):
        line, = refused(ini(folder, key, COMPILATION=""), capsys)
        assert "no permission to write into" in line
    line, = refused(ini(folder), capsys, lambda argv: inspection.main([*argv, "--html", str(folder / "closed" / "page.html")]))
    assert "--html: cannot write into" in line


def test_files_of_inspect(folder, capsys):
    path = ini(folder)
    for arguments, words in ((["--html", str(folder)], f"--html: {folder} is a folder"),
                             (["--json", path + "/r.json"], "--json: cannot write into"),
                             (["--json", path], "--json: "), (["--html", "p", "--json", "p"], "--html: the same file as --json")):
        line, = refused(path, capsys, lambda argv, more=arguments: inspection.main([*argv, *more]))
        assert words in line
