"""The zoo as a wheel carries it, used from other folders; and a checkout used from other folders."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mrt import conf
from mrt.pipeline import config
from mrt.pipeline.config import ConfigError

ROOT = Path(__file__).resolve().parents[2]
ZOO = ROOT / "model_zoo"
NAMES = sorted(p.stem for p in ZOO.glob("*.ini"))


# setup.py, where the command that packs a wheel need not be there
_BUILD = """
import runpy, sys, types
try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:
    sys.modules["wheel"], sys.modules["wheel.bdist_wheel"] = types.ModuleType("wheel"), types.ModuleType("wheel.bdist_wheel")
    sys.modules["wheel.bdist_wheel"].bdist_wheel = object
sys.argv = ["setup.py", "-q", "build_py", "--build-lib", sys.argv[1]]
runpy.run_path("setup.py", run_name="__main__")
"""


@pytest.fixture
def site(tmp_path):
    """What a wheel puts into site-packages."""
    pytest.importorskip("setuptools")
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-W", "ignore", "-c", _BUILD, site], cwd=ROOT, check=True)
    shutil.copy(ROOT / "cvm_runtime" / "libcvm_runtime.so", site / "cvm_runtime")
    return site


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if "__pycache__" not in p.parts)


def test_a_wheel_carries_the_zoo(site):
    carried = set(files(site / "mrt" / "model_zoo"))
    tracked = subprocess.run(["git", "ls-files"], cwd=ZOO, capture_output=True, text=True)
    if tracked.returncode == 0:
        assert set(tracked.stdout.split()) <= carried
    assert not [name for name in carried if name.startswith(("mrt_output", "."))]
    assert {f"{name}.ini" for name in NAMES} <= carried and "data/mnist/t10k-images-idx3-ubyte.gz" in carried
    assert sum(p.stat().st_size for p in (site / "mrt" / "model_zoo" / "data").rglob("*")) < 12 << 20


def test_configurations_run_from_elsewhere(site, tmp_path):
    """By name with the zoo of the wheel, and a checkout's file with the package of the wheel."""
    before = files(site), files(ZOO)
    for words in (["-m", "mrt", "run", "mnist_mlp"], ["-m", "mrt.main2", str(ZOO / "mnist_mlp.ini")]):
        elsewhere = tmp_path / f"elsewhere {len(words)}"
        elsewhere.mkdir()
        env = {**os.environ, "PYTHONPATH": str(site), "HOME": str(tmp_path), "PWD": "/"}
        for variable in ("MRT_DATASET_ROOT", "MRT_MODEL_ROOT"):
            env.pop(variable, None)
        done = subprocess.run([sys.executable, *words], cwd=elsewhere, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "bit-exact" in done.stdout and "10000 samples" in done.stdout
        assert sorted(os.listdir(elsewhere)) == ["mrt_output"]
        assert sorted(os.listdir(elsewhere / "mrt_output" / "mnist_mlp_cvm")) == ["data.npy", "ext", "params", "symbol"]
    assert (files(site), files(ZOO)) == before


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_zoo(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MRT_DATASET_ROOT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    expected = str(ZOO / f"{name}.ini")
    for given in (name, f"{name}.ini", f"model_zoo/{name}.ini"):
        assert config.find(given) == expected
    assert config.find(expected) == expected and config.find(Path(expected)) == expected
    settings = config.load(expected)
    config.check(settings)
    assert settings.compiled_folder.startswith(str(tmp_path / "mrt_output"))
    assert settings.kept_prefix.startswith(str(tmp_path / "mrt_output"))
    (tmp_path / f"{name}.ini").write_text("")
    assert config.find(f"{name}.ini") == f"{name}.ini"  # what is there comes first


def test_in_the_folder_of_the_zoo(monkeypatch):
    monkeypatch.chdir(ZOO)
    assert config.find("mnist") == str(ZOO / "mnist.ini")  # though there is a folder of that name
    assert config.find("mnist_mlp.ini") == "mnist_mlp.ini"


def test_other_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="neither a file here nor a name of the zoo: did you mean 'mnist'"):
        config.find("mnits")
    with pytest.raises(ConfigError, match=f"expected one of {', '.join(NAMES)}"):
        config.find("zzz.ini")
    assert config.find("other/zzz.ini") == "other/zzz.ini"
    assert conf.zoo_folder() == str(ZOO)


def test_paths_that_begin_at_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "ini").mkdir()
    (tmp_path / "here").mkdir()
    path = tmp_path / "ini" / "net.ini"
    text = ("[DEFAULT]\nModel_name = net\nInput_shape = (-1, 4)\nModel_dir = models\nOutput_dir = {}\n"
            "[CALIBRATION]\nDataset = mnist\n")
    monkeypatch.chdir(tmp_path / "here")
    for given, expected in (("$PWD/out", "here/out"), ("$PWD", "here"), ("out", "ini/out"), ("", "ini/models"),
                            ("$PWDx", "ini/$PWDx")):
        path.write_text(text.format(given))
        settings = config.load(path)
        assert settings.default.output_dir == str(tmp_path / expected)
        assert settings.prefix == str(tmp_path / "ini" / "models" / "net")
    path.write_text(text.format("$PWD/out") + "[COMPILATION]\nDump_dir = $PWD/other\n")
    assert config.load(path).compiled_folder == str(tmp_path / "here" / "other" / "net_cvm")
    path.write_text(text.format("$PWD/out") + "[COMPILATION]\n")
    assert config.load(path).compiled_folder == str(tmp_path / "here" / "out" / "net_cvm")


def test_what_a_run_keeps_lies_in_the_output_folder(tmp_path, monkeypatch):
    from mrt import main2
    monkeypatch.chdir(tmp_path)
    before = files(ZOO)
    for start in ("DEFAULT", "CALIBRATION"):
        text = (ZOO / "mnist_mlp.ini").read_text().replace("Model_dir = mnist", f"Model_dir = {ZOO}/mnist\nStart = {start}")
        text = text.replace("[CALIBRATION]", "[CALIBRATION]\nDump = True").replace("Iter_num = 20", "Iter_num = 1")
        Path("net.ini").write_text(text)
        assert main2.main(["net.ini"]) == 0
    assert files(ZOO) == before
    assert "mnist_mlp.mrt.calibrate.ext" in os.listdir("mrt_output")
