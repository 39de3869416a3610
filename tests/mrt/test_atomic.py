"""What a run that is killed leaves behind: everywhere the old result, the new one, or one that its readers refuse."""
import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cvm_runtime as cvm
from cvm_runtime import cli
from mrt import files, main2
from mrt import sim_quant_helper as sim
from mrt.errors import ModelError
from mrt.files import atomic_folder, atomic_path, atomic_write
from mrt.pipeline import checkpoint, config
from mrt.transformer import MRT

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "model_zoo"
PARTS = ("symbol", "params")
MODEL_PARTS = ("symbol", "params", "data.npy", "ext")


@contextlib.contextmanager
def before_every_rename(monkeypatch, action):
    """Within the block `action()` is called before each rename of any kind."""
    def calling(function):
        def wrapper(*args, **options):
            action()
            return function(*args, **options)
        return wrapper

    with monkeypatch.context() as patch:
        for module, name in ((os, "replace"), (os, "rename"), (files, "_exchange")):
            patch.setattr(module, name, calling(getattr(module, name)))
        yield


class Snapshots:
    """Copies of a folder, one at each call: what kill -9 would leave there at that moment."""

    def __init__(self, folder, parent):
        self.folder, self.parent, self.copies = folder, parent, []

    def __call__(self):
        copy = self.parent / str(len(self.copies))
        shutil.copytree(self.folder, copy, symlinks=True)
        self.copies.append(copy)


def write(folder, **files):
    with atomic_folder(folder, PARTS) as new:
        for name, text in files.items():
            atomic_write(os.path.join(new, name), text)


def contents(folder):
    return {p.name: p.read_text() for p in Path(folder).iterdir() if p.is_file()}


def leftovers(folder):
    return [p for p in Path(folder).rglob("*") if p.name.startswith((".tmp-", ".old-"))]


# ---- folders and files -----------------------------------------------------------------------------------------------

OLD, NEW = {"symbol": "old", "params": "old"}, {"symbol": "new", "params": "new"}


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch, exchange):
    (tmp_path / "work").mkdir()
    folder = tmp_path / "work" / "net_cvm"
    write(folder, **OLD)
    (folder / "notes").write_text("mine")
    (folder / "sub").mkdir()
    (folder / "sub" / "more").write_text("mine too")
    (folder / "link").symlink_to("notes")
    folder.chmod(0o750)
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda *paths: False)
    states = Snapshots(tmp_path / "work", tmp_path)
    with before_every_rename(monkeypatch, states):
        write(folder, **NEW)
    states()
    mine = {"notes": "mine", "link": "mine"}
    for state in states.copies:
        if not (state / "net_cvm").exists():
            assert not exchange  # a reader finds no folder at all
        else:
            assert contents(state / "net_cvm") in ({**OLD, **mine}, {**NEW, **mine})
            assert (state / "net_cvm" / "sub" / "more").read_text() == "mine too"
        write(state / "net_cvm", **NEW)  # the next run
        assert contents(state / "net_cvm") == {**NEW, **mine} and leftovers(state) == []
    assert contents(folder) == {**NEW, **mine} and (folder / "link").is_symlink()
    assert folder.stat().st_mode & 0o777 == 0o750
    assert len(states.copies) == (4 if exchange else 6)


def test_an_error_leaves_the_old_folder(tmp_path):
    write(tmp_path / "net_cvm", **OLD)
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "net_cvm", PARTS) as new:
        Path(new, "symbol").write_text("new")
        raise ZeroDivisionError
    assert contents(tmp_path / "net_cvm") == OLD and leftovers(tmp_path) == []


def test_a_folder_behind_a_link_is_replaced_there(tmp_path):
    write(tmp_path / "disk" / "real", **OLD)
    (tmp_path / "net_cvm").symlink_to(tmp_path / "disk" / "real")
    write(tmp_path / "net_cvm", **NEW)
    assert (tmp_path / "net_cvm").is_symlink() and contents(tmp_path / "disk" / "real") == NEW


def test_only_a_file_system_that_cannot_exchange_takes_the_other_way(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError) as caught:
        files._exchange(tmp_path / "a", tmp_path / "absent")
    assert caught.value.errno == errno.ENOENT
    monkeypatch.setattr(files, "_RENAME_EXCHANGE", 1 << 20)  # a flag that no file system knows
    assert files._exchange(tmp_path / "a", tmp_path / "a") is False


_HOLD = """
import sys, time
from mrt.files import atomic_folder, atomic_path
with atomic_path(sys.argv[1] + "/file"), atomic_folder(sys.argv[1] + "/net_cvm", ()):
    print("ready", flush=True)
    time.sleep(600)
"""


def test_temporaries_of_killed_processes_go_and_others_stay(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        (tmp_path / ".tmp-mine").write_text("")  # not ours
        atomic_write(tmp_path / "other", "")
        assert len(leftovers(tmp_path)) == 3
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    atomic_write(tmp_path / "other", "")
    assert [p.name for p in leftovers(tmp_path)] == [".tmp-mine"]


def test_a_temporary_swept_at_birth_is_made_again(tmp_path, monkeypatch):
    made = []

    def make(**where):
        made.append(files.tempfile.mkdtemp(**where))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    with files._temporary(str(tmp_path), "x", make) as path:
        assert path == made[1] and os.path.isdir(path)
    assert not leftovers(tmp_path)


# ---- whole runs ------------------------------------------------------------------------------------------------------

def ini(folder, output_precision=8, start="DEFAULT", dump=True):
    for suffix in ("json", "params"):
        shutil.copy(ZOO / "mnist" / f"mnist_mlp.{suffix}", folder)
    dump = f"Dump = {dump}\n"
    (folder / "net.ini").write_text(
        "[DEFAULT]\nModel_dir = .\nModel_name = mnist_mlp\nInput_shape = (-1, 1, 28, 28)\nReport = report.json\n"
        f"Start = {start}\n[PREPARE]\n{dump}[CALIBRATION]\nDataset = mnist\nDataset_dir = {ZOO / 'data'}\n"
        f"Calibrate_num = {output_precision}\n{dump}"
        f"[QUANTIZATION]\nOutput_precision = {output_precision}\n{dump}[COMPILATION]\nDump_dir = out\n")
    return str(folder / "net.ini")


def compiled(folder):
    return {name: (folder / "out" / "mnist_mlp_cvm" / name).read_bytes() for name in MODEL_PARTS}


def kept(folder, stage):
    settings = config.load(folder / "net.ini")
    return {Path(p).name: Path(p).read_bytes() for p in config.checkpoint_files(settings.kept_prefix, stage, False)}


def test_a_run_killed_before_any_rename(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    assert main2.main([ini(work, 8)]) == 0
    old, stages = compiled(work), ("CALIBRATION", "QUANTIZATION")
    results = {8: {stage: kept(work, stage) for stage in stages}}
    states = Snapshots(work, tmp_path)
    with before_every_rename(monkeypatch, states):
        assert main2.main([ini(work, 5)]) == 0
    states()
    new = compiled(work)
    results[5] = {stage: kept(work, stage) for stage in stages}
    assert all(old[name] != new[name] for name in ("symbol", "params", "ext"))
    refused = 0
    for state in states.copies:
        assert compiled(state) in (old, new)
        assert json.loads((state / "report.json").read_text())["stages"]["compile"]
        for precision in results:  # resumed with the settings of either run
            for stage in stages:
                try:
                    assert checkpoint.verify(config.load(ini(state, precision)), stage) is None
                    assert kept(state, stage) == results[precision][stage]
                except checkpoint.CheckpointError as error:
                    assert "stale" in str(error) or "incomplete" in str(error)
                    refused += 1
    assert sum(bool(leftovers(state)) for state in states.copies) > 15
    for state in states.copies[::5]:  # the next run
        assert main2.main([ini(state, 5)]) == 0 and compiled(state) == new and leftovers(state) == []
    assert len(states.copies) > 15 and refused > len(states.copies)


_KILLED = """
import os, signal, sys
from mrt import files, main2
left = int(sys.argv[2])

def counting(function):
    def wrapper(*args, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)
    return wrapper

os.replace, os.rename, files._exchange = map(counting, (os.replace, os.rename, files._exchange))
sys.exit(main2.main([sys.argv[1]]))
"""


@pytest.mark.slow
def test_a_run_killed_by_the_system(tmp_path):
    """As above, with real kills, before each rename."""
    assert main2.main([ini(tmp_path, 8)]) == 0
    old = compiled(tmp_path)
    assert main2.main([ini(tmp_path, 5)]) == 0
    new = compiled(tmp_path)
    assert main2.main([ini(tmp_path, 8)]) == 0
    for count in range(100):
        status = subprocess.run([sys.executable, "-c", _KILLED, ini(tmp_path, 5), str(count)], cwd=ROOT,
                                stdout=subprocess.DEVNULL).returncode
        assert status in (0, -signal.SIGKILL) and compiled(tmp_path) in (old, new)
        if status == 0:
            break
    assert count > 15 and compiled(tmp_path) == new and leftovers(tmp_path) == []


def test_check_points_of_python_are_one_or_refused(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    assert main2.main([ini(work, 8)]) == 0
    name = "mnist_mlp.mrt.quantize"
    old = MRT.load(name, work).th_dict
    assert main2.main([ini(work, 5)]) == 0
    new = MRT.load(name, work)
    assert new.th_dict != old
    assert main2.main([ini(work, 8)]) == 0
    states = Snapshots(work, tmp_path)
    with before_every_rename(monkeypatch, states):
        new.save(name, work)
    states()
    found = []
    for state in states.copies:
        try:
            found.append(MRT.load(name, state).th_dict)
        except ModelError as error:
            assert "parts of two models" in str(error)
            found.append(None)
    assert found[0] == old and found[-1] == new.th_dict and None in found
    assert all(th in (old, new.th_dict, None) for th in found)


# ---- readers of a compiled folder ------------------------------------------------------------------------------------

@pytest.fixture
def two_models(tmp_path):
    folders = []
    for precision in (8, 5):
        work = tmp_path / str(precision)
        work.mkdir()
        assert main2.main([ini(work, precision, dump=False)]) == 0
        folders.append(work / "out" / "mnist_mlp_cvm")
    return folders


def test_parts_of_two_models_are_refused(two_models, capsys):
    first, second = two_models
    cvm.load_folder(first).run(np.load(first / "data.npy"))
    shutil.copy(second / "params", first)
    with pytest.raises(cvm.CvmLogicError, match=r"params is not the file .* parts of two models"):
        cvm.load_folder(first)
    with pytest.raises(ModelError, match=r"params is not the file .* parts of two models"):
        sim.load_ext(first / "ext")
    for command in ("info", "run", "verify", "bench"):
        assert cli.main([command, str(first)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and "parts of two models" in error
    assert cli.main(["gas", str(first)]) == 0  # says nothing of the params
    shutil.copy(second / "symbol", first)
    assert cli.main(["gas", str(first)]) == 2


def test_the_ext_of_another_model_is_refused(two_models):
    first, second = two_models
    assert main2.main([ini(first.parent.parent, 8)]) == 0
    model = MRT.load("mnist_mlp.mrt.quantize", first.parent.parent).current_model
    model.to_cvm(second.name, second.parent, input_shape=(1, 1, 28, 28))
    with pytest.raises(cvm.CvmLogicError, match="or remove ext"):
        cvm.load_folder(second)
    (second / "ext").unlink()
    assert sorted(p.name for p in second.iterdir()) == ["data.npy", "params", "symbol"]
    assert cvm.load_folder(second).input_shape == (1, 1, 28, 28)


def test_atomic_path_makes_a_readable_file(tmp_path):
    with atomic_path(tmp_path / "file") as temporary:
        Path(temporary).write_text("")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask
