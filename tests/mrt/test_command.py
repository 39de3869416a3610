"""What commands do when streams, files, disks and users do what they should not: one line, a true status, nothing lost."""
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import nets
import numpy as np
import pytest

from mrt import __main__ as command
from mrt import __version__, main2
from mrt import sim_quant_helper as sim
from mrt.commands import configured
from mrt.commands.guard import guarded
from mrt.errors import MRTError
from mrt.files import atomic_folder, atomic_write, model_files, read_text
from mrt.frontend.mxnet_params import save_params
from mrt.mxnet_bridge import mx
from mrt.pipeline import check, checkpoint, config, stages

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "model_zoo"


def ini(folder, default="", **sections):
    """Write folder/net.ini, for the model `mnist_mlp` in that folder; None leaves a section out."""
    keys = {"CALIBRATION": "", "QUANTIZATION": "", "EVALUATION": None, "COMPILATION": None, **sections}
    keys["CALIBRATION"] = f"Dataset = mnist\nDataset_dir = {ZOO / 'data'}\n{keys['CALIBRATION']}"
    text = f"[DEFAULT]\nModel_dir = .\nModel_name = mnist_mlp\nInput_shape = (-1, 1, 28, 28)\n{default}\n"
    text += "".join(f"[{name}]\n{body}\n" for name, body in keys.items() if body is not None)
    (folder / "net.ini").write_text(text)
    return str(folder / "net.ini")


def one_error(capsys):
    """The only line on stderr besides those that show progress."""
    lines = [line for line in capsys.readouterr().err.splitlines() if not re.search(r" \d+ s$", line)]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


# ---- streams ---------------------------------------------------------------------------------------------------------

PRINTS = """
import sys
from mrt.commands.guard import guarded

@guarded
def main():
    for number in range(100000):
        print("line", number, flush={flush})
    return 0

sys.exit(main())
"""


def shell(line, text=""):
    return subprocess.run(["bash", "-c", line, "bash", sys.executable, text], capture_output=True, text=True, cwd="/",
                          env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("line, status, said", [
    ('"$1" -c "$2" | head -1 >&2; exit ${PIPESTATUS[0]}', 1, "line 0\n"),
    ('"$1" -c "$2" > /dev/full', 1, "error: standard output cannot be written: No space left on device\n"),
    ('"$1" -c "$2" >&-', 0, ""),
    ('"$1" -c "$2" 2>&- > /dev/null', 0, ""),
    ('"$1" -c "$2" <&- >&- 2>&-', 0, ""),
])
def test_streams_that_are_closed_or_full(line, status, said, flush):
    done = shell(line, PRINTS.format(flush=flush))
    assert (done.returncode, done.stderr) == (status, said)


def test_a_reader_that_leaves():
    done = shell('"$1" -m mrt check --operators | head -1; exit ${PIPESTATUS[0]}')
    assert done.stdout.count("\n") == 1 and done.stderr == "" and done.returncode in (0, 1)


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """Else what a library prints on descriptor 1 would land in the next file that is opened."""
    program = """
import os, sys
from mrt.commands.guard import guarded

@guarded
def main():
    with open(sys.argv[1], "wb") as stream:
        os.write(1, b"noise")
        assert stream.fileno() > 2
    return 0

sys.exit(main())
"""
    done = shell(f'"$1" -c "$2" {tmp_path}/file >&- 2>&-', program)
    assert done.returncode == 0 and (tmp_path / "file").read_bytes() == b""


def test_text_that_stdout_cannot_encode():
    done = shell('PYTHONIOENCODING=ascii "$1" -c "$2"', PRINTS.format(flush=False).replace('"line"', '"Z\\u00fcrich"'))
    assert done.returncode == 0 and done.stdout.startswith("Z\\xfcrich 0\n")


# ---- interruptions ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments", [["mrt", "check", "net"], ["mrt", "run", "net.ini"], ["mrt.pipeline.check", "net"],
                                       ["mrt.main2", "net.ini"], ["mrt.pipeline.nodes", "net"]])
@pytest.mark.parametrize("package", ["mxnet", "numpy"])
def test_interrupted_while_importing(tmp_path, arguments, package):
    interrupted_by_a_package(tmp_path, package, ["-m", *arguments])


def test_interrupted_before_training(tmp_path):
    interrupted_by_a_package(tmp_path, "mxnet", [str(ROOT / "tests" / "mrt" / "train_mnist.py")])


def interrupted_by_a_package(tmp_path, package, arguments):
    (tmp_path / package).mkdir()
    interrupt = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    (tmp_path / package / "__init__.py").write_text(interrupt)
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_interrupted_while_running(folder, capsys, monkeypatch):
    monkeypatch.setattr(stages.Run, "quantize", lambda self: os.kill(os.getpid(), signal.SIGINT))
    assert main2.main([ini(folder)]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")


# ---- errors ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("error, words", [
    (MRTError("two\nlines"), "error: two lines"), (FileNotFoundError(2, "No such file", "x"), "error: x: No such file"),
    (MemoryError("12 GiB"), "not enough memory: 12 GiB"), (KeyError("k"), "KeyError: 'k' (this is a defect of MRT, found at"),
    (RecursionError("deep"), "RecursionError: deep (this is a defect")])
def test_every_error_is_a_line(capsys, error, words):
    @guarded
    def fails():
        raise error
    assert fails() == 1
    assert words in one_error(capsys)


USERS = """
from mrt.dataset import Mnist, register_dataset, DS_REG
DS_REG.pop("users", None)

@register_dataset("users")
class Users(Mnist):
    @classmethod
    def locate(cls, root=None, is_train=False):
        return Mnist.locate(root, is_train)

    def iter_func(self):
        {}
"""


def test_a_module_that_exits(folder, capsys):
    (folder / "users.py").write_text("import sys\nsys.exit(0)\n")
    assert main2.main([ini(folder, CALIBRATION="Dataset_module = users.py")]) == 1
    assert "users.py cannot be imported (SystemExit: 0)" in one_error(capsys)


@pytest.mark.parametrize("line, words", [
    ("import sys; sys.exit(0)", "ended the run with sys.exit(0)"),
    ("return [][0]", "IndexError: list index out of range, raised by the data set's own code")])
def test_a_data_set_that_exits_or_fails(folder, capsys, line, words):
    (folder / "users.py").write_text(USERS.format(line))
    path = ini(folder, CALIBRATION="Dataset_module = users.py")
    Path(path).write_text(Path(path).read_text().replace("Dataset = mnist", "Dataset = users"))
    assert main2.main([path]) == 1
    text = one_error(capsys)
    assert words in text and "defect" not in text


# ---- files that are no models, or no files -----------------------------------------------------------------------------

def deep(n=100000):
    return "[" * n + "]" * n


@pytest.fixture
def strange(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep").write_text(deep())
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 40)
    with open(tmp_path / "large", "wb") as stream:
        stream.truncate(1 << 40)
    os.symlink("/dev/zero", tmp_path / "zero")
    return tmp_path


STRANGE = ["folder", "pipe", "deep", "bytes", "large", "zero", "a\0b", "absent"]


@pytest.mark.parametrize("name", [name for name in STRANGE if name != "deep"])
def test_strange_configurations(strange, capsys, name):
    assert main2.main([str(strange / name)]) == 1
    text = one_error(capsys)
    assert repr(name)[1:-1] in text and len(text) < 400 and "defect" not in text


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("place", [0, 1])
def test_strange_models(strange, capsys, name, place):
    files = nets.model(nets.small_net(), nets.SMALL_SHAPE), [str(strange / "net.json"), str(strange / "net.params")]
    files[0].save(*files[1])
    files[1][place] = str(strange / name)
    if (name, place) == ("large", 1):
        os.truncate(strange / name, 1 << 20)  # MXNet reads no more than the header of this one anyway
    assert check.main(files[1]) == 1
    text = one_error(capsys)
    assert repr(name)[1:-1] in text and len(text) < 400 and "defect" not in text


def test_swapped_files(tmp_path, capsys):
    files = str(tmp_path / "net.json"), str(tmp_path / "net.params")
    nets.model(nets.small_net(), nets.SMALL_SHAPE).save(*files)
    assert check.main([files[1], files[0]]) == 1
    assert "net.params is no text" in capsys.readouterr().err
    assert check.main([files[0], files[0]]) == 1
    assert "net.json is not a complete MXNet params file" in (text := capsys.readouterr().err) and "swapped?" in text


@pytest.mark.parametrize("name", STRANGE)
def test_strange_check_points(strange, name):
    with pytest.raises(MRTError):
        sim.load_ext(str(strange / name))
    with pytest.raises(checkpoint.CheckpointError, match="not a fingerprint"):
        checkpoint._read(str(strange / name))


def test_deep_attributes(tmp_path):
    symbol = json.loads(nets.small_net().tojson())
    for node in symbol["nodes"]:
        if "kernel" in node.get("attrs", {}):
            node["attrs"]["kernel"] = deep(3000)
    (tmp_path / "net.json").write_text(json.dumps(symbol))
    save_params({"x": np.ones(1)}, tmp_path / "net.params")
    assert check.main([str(tmp_path / "net"), "--shape", "2,1,12,12"]) == 1
    graph = nets.model(nets.small_net(), nets.SMALL_SHAPE).graph
    node = next(node for node in graph.topological() if "kernel" in node.attrs)
    node.attrs["kernel"] = deep(3000)
    with pytest.raises(MRTError, match="expected a tuple"):
        node.tuple("kernel")


@pytest.mark.parametrize("text, words", [
    ("Model_dir = a\0b", "net.ini:5: found the control character '\\x00'"),
    ("Model_dir = a\x1b[31m", "found the control character '\\x1b'"),
    ("Seed = 99999999999999999999", "a number of 20 digits"),
    (f"Verbosity = {'9' * 100000}", "Verbosity: found '9999")])
def test_strange_text(folder, capsys, text, words):
    assert main2.main([ini(folder, text)]) == 1
    message = one_error(capsys)
    assert words in message and len(message) < 600


def test_a_file_full_of_problems(folder, capsys):
    Path(path := ini(folder)).write_text(f"{deep(1000)}\n" * 1000)
    assert main2.main([path]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == configured.SHOWN_PROBLEMS + 1 and max(map(len, lines)) < 500 and lines[-1].startswith("error: and 9")


@pytest.mark.parametrize("section, text, words", [
    ("CALIBRATION", "Batch = 2147483648", "Batch: found '2147483648', expected an integer from 1 to 2147483647"),
    ("CALIBRATION", "Batch = 2147483647", "Batch: found 2147483647, which makes an input of 1,683,627,179,248 elements"),
    ("CALIBRATION", "Calibrate_num = 2147483648", "Calibrate_num: found '2147483648'"),
    ("EVALUATION", "Batch = 3000000\nIter_num = 1", "[EVALUATION] Batch: found 3000000, which makes"),
    ("EVALUATION", "Iter_num = 4294967296", "Iter_num: found '4294967296'"),
    ("COMPILATION", "Batch = 3000000", "[COMPILATION] Batch: found 3000000, which makes"),
    ("COMPILATION", "Device_type = gpu\nDevice_ids = 2147483648", "Device_ids: found '2147483648'"),
    ("DEFAULT", "Input_shape = (-1, 1, 28, 9223372036854775807)", "Batch: found 16, which makes"),
])
def test_numbers_that_nothing_can_hold(folder, section, text, words):
    path = ini(folder, **({section: text} if section != "DEFAULT" else {}))
    if section == "DEFAULT":
        Path(path).write_text(Path(path).read_text().replace("Input_shape = (-1, 1, 28, 28)", text))
    with pytest.raises(config.ConfigError) as caught:
        config.load(path)
    assert any(words in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize("text", ["1x1x28", "", "0,1", "1,-1,28", "1,,28", "9999999999,1", "1,1.5"])
def test_shapes_that_are_none(capsys, text):
    with pytest.raises(SystemExit) as stop:
        check.main(["net", "--shape", text])
    assert stop.value.code == 2
    assert f"found {text!r}, expected the extents of the input between commas" in capsys.readouterr().err


# ---- full disks ------------------------------------------------------------------------------------------------------

@pytest.fixture
def small_disk():
    """No file may grow beyond 100 kB: writing fails as it does where the disk is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_names_the_file(tmp_path, small_disk):
    target = tmp_path / "file"
    target.write_text("old")

    def fill_folder():
        with atomic_folder(tmp_path / "folder", ("part",)) as new:
            atomic_write(os.path.join(new, "part"), bytes(200_000))

    for write, name in ((lambda: atomic_write(target, bytes(200_000)), "file"), (fill_folder, "folder/part"),
                        (lambda: save_params({"x": np.zeros(100_000)}, target), "file")):
        with pytest.raises(OSError) as caught:
            write()
        assert caught.value.filename == str(tmp_path / name) and caught.value.strerror == "File too large"
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("sections, name", [
    ({"PREPARE": "Dump = True"}, "mnist_mlp.prepare.params"),
    ({"CALIBRATION": "Dump = True"}, "mnist_mlp.mrt.calibrate.params"),
    ({"COMPILATION": "Dump_dir = out"}, "out/mnist_mlp_cvm/params")])
def test_a_full_disk_in_a_run(folder, capsys, small_disk, sections, name):
    assert main2.main([ini(folder, **sections)]) == 1
    assert one_error(capsys) == f"error: {folder / name}: File too large"


def test_a_full_device(tmp_path):
    with pytest.raises(OSError, match="No space left on device") as caught:
        atomic_write("/dev/full/net", b"x") if os.path.isdir("/dev/full") else _fill(tmp_path)
    assert caught.value.filename == str(tmp_path / "net.params")


def _fill(folder):
    """A temporary file that is the full device."""
    from mrt import files
    with files.atomic_path(folder / "net.params") as temporary:
        os.unlink(temporary)
        os.symlink("/dev/full", temporary)
        with open(temporary, "wb") as stream:
            stream.write(b"x")


def test_params_are_written_as_mxnet_writes_them(tmp_path):
    random = np.random.RandomState(0)
    params = {f"p_{name}_ü": random.uniform(0, 2, (3, 1, 2)).astype(name)
              for name in ("float16", "float32", "float64", "uint8", "int8", "int32", "int64", "bool")}
    for chosen in (params, {}):
        save_params(chosen, tmp_path / "ours")
        mx.nd.save(str(tmp_path / "theirs"), {name: mx.nd.array(v, dtype=v.dtype) for name, v in chosen.items()})
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    with pytest.raises(MRTError, match="has no place"):
        save_params({"x": np.zeros(3, "uint16")}, tmp_path / "ours")


# ---- the command's face ----------------------------------------------------------------------------------------------

def test_version(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mrt {__version__}\n"


def test_help_names_what_a_key_takes():
    lines = config.explain().splitlines()
    section, said = None, {}
    for line in lines:
        if line.startswith("["):
            section = line[1:-1]
        else:
            said[section, line.split()[0]] = line
    assert "one of absmax, lambda, percentile, mse, kl" in said["CALIBRATION", "Calibrate_method"]
    assert "one of DEFAULT, PREPARE" in said["DEFAULT", "Start"]
    ignored = {name for name, key in said if key == "Device_type" and "ignored" in said[name, "Device_type"]}
    assert ignored == {"PREPARE", "SPLIT_MODEL", "QUANTIZATION", "MERGE_MODEL"}
    assert all("ignored" in said[name, "Device_ids"] for name in ignored)


def test_a_model_under_the_names_of_mxnet(folder, capsys):
    path = ini(folder, PREPARE="Dump = True", COMPILATION="Dump_dir = out", EVALUATION="Batch = 50\nIter_num = 1")
    assert main2.main([path]) == 0
    first = (folder / "out/mnist_mlp_cvm/params").read_bytes()
    os.rename(folder / "mnist_mlp.json", folder / "mnist_mlp-symbol.json")
    assert main2.main([path]) == 1 and "no file" in capsys.readouterr().err
    os.rename(folder / "mnist_mlp.params", folder / "mnist_mlp-0000.params")
    assert main2.main([path]) == 0
    assert (folder / "out/mnist_mlp_cvm/params").read_bytes() == first
    assert main2.main([ini(folder, "Start = PREPARE", COMPILATION="Dump_dir = out")]) == 0
    assert check.main([str(folder / "mnist_mlp"), "--shape", "1,1,28,28"]) == 0
    assert model_files(folder / "mnist_mlp") == (f"{folder}/mnist_mlp-symbol.json", f"{folder}/mnist_mlp-0000.params")


def test_reading_is_bounded(tmp_path):
    (tmp_path / "text").write_text("\ufeffabc", encoding="utf-8")
    assert read_text(tmp_path / "text", 6) == "abc"
    with pytest.raises(OSError, match="larger than the 5 bytes"):
        read_text(tmp_path / "text", 5)
