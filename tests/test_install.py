"""The environment that an installation makes: MXNet imports unaided, and packages carry all they need."""
import os
import shutil
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

import mrt

COMPUTES = """
import os, mxnet, numpy
assert mxnet.nd.array(numpy.ones((2, 3))).sum().asscalar() == 6 and mxnet.np.ones(2, dtype=mxnet.np.bool_).all()
assert os.environ["MXNET_MKLDNN_ENABLED"] == "0"
"""


def run_python(code, *options, folder, check=True, **environment):
    """Run `code` in a new interpreter that finds packages only where they are installed."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MXNET_MKLDNN_ENABLED")}
    done = subprocess.run([sys.executable, *options, "-c", code], cwd=folder, env={**env, **environment},
                          capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


ORDERS = ["import mxnet", "import mxnet, mrt.transformer", "import mrt.transformer, mxnet",
          "import gluoncv", "import gluoncv, mrt.transformer", "import mrt.transformer, gluoncv"]
STRICT = ("-W", "error::DeprecationWarning")


@pytest.mark.parametrize(("line", "options"), [(ORDERS[0], ()), *((line, STRICT) for line in ORDERS)])
def test_imports_in_any_order(startup, tmp_path, line, options):
    if "gluoncv" in line:
        pytest.importorskip("gluoncv", reason="gluoncv is an extra: pip install '.[zoo]'")
    assert run_python(line + COMPUTES, *options, folder=tmp_path).stderr == ""


def test_gluoncv_finds_the_names_that_numpy_removed(startup, tmp_path):
    pytest.importorskip("gluoncv", reason="gluoncv is an extra: pip install '.[zoo]'")
    code = "import gluoncv, numpy; assert (numpy.bool, numpy.int, numpy.float) == (bool, int, float)"
    run_python(code, "-W", "error", folder=tmp_path)


def test_the_environment_may_switch_mkldnn_on(startup, tmp_path):
    code = "import mxnet, mrt.transformer, os; print(os.environ['MXNET_MKLDNN_ENABLED'])"
    assert run_python(code, folder=tmp_path, MXNET_MKLDNN_ENABLED="1").stdout == "1\n"


NOT_INSTALLED = """
import sys, warnings
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "Finder"]
sys.path.insert(0, {root!r})
"""


def test_an_import_that_failed_half_way(root, tmp_path):
    """A checkout that nobody installed, and a script that goes on after `import mxnet` has failed."""
    code = NOT_INSTALLED + """
import numpy
own = numpy.__getattr__
numpy.__getattr__ = lambda name: (_ for _ in ()).throw(AttributeError(name))  # as since numpy 1.24
try:
    import mxnet
except AttributeError:
    assert "mxnet" not in sys.modules and "mxnet.base" in sys.modules
else:
    raise SystemExit("MXNet has imported after all")
numpy.__getattr__ = own
import mrt.transformer
"""
    run_python(code.format(root=str(root)) + COMPUTES, folder=tmp_path)


def test_mkldnn_may_have_been_on(root, tmp_path):
    code = NOT_INSTALLED + """
from mrt import mxnet_import
mxnet_import.ENVIRONMENT.clear()
mxnet_import.install()
import mxnet
mxnet_import.ENVIRONMENT.update(MXNET_MKLDNN_ENABLED="0")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import mrt.transformer
assert any("MKLDNN" in str(warning.message) for warning in said)
"""
    run_python(code.format(root=str(root)) + COMPUTES, folder=tmp_path)


def test_the_name_on_the_package_index(startup, root):
    """`mrt` there is another project: no hint may name it."""
    assert metadata.distribution("mrt-cvm").version == mrt.__version__
    texts = [path for folder in ("mrt", "cvm_runtime", "tests", "src") for path in (root / folder).rglob("*.py")]
    hint = "install 'mrt" + "["
    assert [str(path) for path in [*texts, root / "README.md"] if hint in path.read_text(encoding="utf-8")] == []


# ---- packages --------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def clone(root, tmp_path_factory):
    """A copy of the files that git knows, in a repository of their own."""
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("clone") / "mrt"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "all")
    return folder


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def packages(clone, tmp_path_factory):
    """The source distribution and the wheel that `python -m build` makes from it."""
    pytest.importorskip("build", reason="build is an extra: pip install '.[test]'")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(clone)], check=True)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.mark.build
def test_source_distribution_is_whole(clone, packages):
    with tarfile.open(packages[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {name for name in git(clone, "ls-files").splitlines() if not name.startswith(".")}
    assert wanted - names == set()


@pytest.mark.build
def test_wheel_in_an_empty_folder(packages, tmp_path):
    """The wheel alone, with the dependencies of this environment: the runtime verifies a model that MRT quantized."""
    site = tmp_path / "site"
    pip(sys.executable, "install", "--no-deps", "--target", site, packages[1])
    assert {path.name for path in site.glob("mrt_mxnet_import*")} == {"mrt_mxnet_import.py", "mrt_mxnet_import.pth"}
    code = """
import mrt_mxnet_import; mrt_mxnet_import.install()
import mxnet as mx, mrt, sys
from mrt.transformer import Model
assert mrt.__file__.startswith(sys.argv[1]), mrt.__file__
symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=4, name="f")
model = Model(symbol, {"f_weight": mx.nd.ones((4, 6)), "f_bias": mx.nd.zeros(4)})
model.prepare((1, 6))
mrt = model.get_mrt()
mrt.set_data(mx.nd.ones((1, 6)))
mrt.calibrate()
mrt.quantize().to_cvm("net", ".", input_shape=(1, 6))
from cvm_runtime.cli import main
sys.exit(main(["verify", "net"]))
"""
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code, str(site)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.build
def test_editable_install_and_its_end(clone, tmp_path):
    """`pip uninstall` after `pip install -e` leaves nothing that git does not ignore."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    before = installed_files(python)
    pip(python, "install", "--no-deps", "-e", clone)
    names = {path.name for path in installed_files(python) - before}
    assert {"mrt_mxnet_import.py", "mrt_mxnet_import.pth"} <= names
    where = output_of(python, "import mrt_mxnet_import, importlib.util as u; print(u.find_spec('mrt').origin)")
    assert Path(where) == clone / "mrt" / "__init__.py"
    pip(python, "uninstall", "-y", "mrt-cvm")
    assert {path.name for path in installed_files(python) - before} <= {"__pycache__"}
    assert git(clone, "status", "--porcelain") == ""


def pip(python, command, *arguments):
    subprocess.run([str(python), "-m", "pip", command, "-q", *map(str, arguments)], check=True)


def output_of(python, code):
    return subprocess.run([python, "-c", code], cwd="/", check=True, capture_output=True, text=True).stdout.strip()


def installed_files(python):
    """The entries of an environment's site-packages."""
    return set(Path(output_of(python, "import sysconfig; print(sysconfig.get_paths()['purelib'])")).iterdir())


def test_startup_file_is_this_one(startup, root):
    assert startup.read_text() == (root / "mrt" / "mxnet_import.py").read_text(), "mrt/mxnet_import.py changed: install again"
