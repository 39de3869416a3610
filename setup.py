"""Builds the C library with CMake, puts it inside the cvm_runtime package, and adds the zoo and what `import mxnet` needs.

Everything else is declared in pyproject.toml.
"""

import base64
import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent
LIBRARY = "cvm_runtime.libcvm_runtime"
STARTUP = "mrt_mxnet_import"  # see mrt/mxnet_import.py


def write_startup_files(folder):
    """Write into `folder`, which becomes site-packages, the line that Python runs when it starts, and what it imports.
    Returns their names."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "mrt" / "mxnet_import.py", Path(folder, f"{STARTUP}.py"))
    Path(folder, f"{STARTUP}.pth").write_text(f"import {STARTUP}; {STARTUP}.install()\n")
    return f"{STARTUP}.py", f"{STARTUP}.pth"


class BuildPython(build_py):
    """Puts the zoo inside the package of a wheel; an editable install finds the checkout's."""

    def run(self):
        super().run()
        if not self.editable_mode:
            write_startup_files(self.build_lib)
            unwanted = shutil.ignore_patterns("mrt_output", "__pycache__", ".*")
            shutil.copytree(ROOT / "model_zoo", Path(self.build_lib, "mrt", "model_zoo"), ignore=unwanted, dirs_exist_ok=True)


class EditableWheel(editable_wheel):
    def run(self):
        super().run()
        for wheel in Path(self.dist_dir).glob("*.whl"):
            with tempfile.TemporaryDirectory() as folder:
                add_to_wheel(wheel, folder, write_startup_files(folder))


def add_to_wheel(wheel, folder, names):
    """Add files of `folder` to a wheel and to its list of files."""
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    record = next(name for name in members if name.endswith(".dist-info/RECORD"))
    lines = members.pop(record).decode()
    for name in names:
        members[name] = Path(folder, name).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(members[name]).digest()).decode().rstrip("=")
        lines += f"{name},sha256={digest},{len(members[name])}\n"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**members, record: lines.encode()}.items():
            archive.writestr(name, data)


class CMakeBuild(build_ext):
    def get_ext_filename(self, fullname):
        # A plain shared library: no suffix of a Python version.
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext):
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        # A fresh directory each time: CMake remembers the path of ninja, which
        # pip installs in another place for every build.
        with tempfile.TemporaryDirectory() as build:
            options = ["-DCMAKE_BUILD_TYPE=Release", f"-DCVM_WERROR={os.environ.get('CVM_WERROR', '0')}"]
            subprocess.run(["cmake", "-G", "Ninja", "-S", str(ROOT), "-B", build, *options], check=True)
            subprocess.run(["cmake", "--build", build, "--target", "cvm_runtime"], check=True)
            self.copy_file(os.path.join(build, "libcvm_runtime.so"), str(target))

    def copy_file(self, source, target, *args, **kwargs):
        # In one step, here and for editable installs: a process that has the
        # old library mapped keeps it, and none ever finds half a file.
        new = f"{target}.{os.getpid()}"
        super().copy_file(source, new, *args, **kwargs)
        os.replace(new, target)
        return target, 1


class PlatformWheel(bdist_wheel):
    def get_tag(self):
        # Belongs to a platform, but to no Python version or ABI.
        return ("py3", "none", super().get_tag()[2])


setup(
    ext_modules=[Extension(LIBRARY, sources=[])],
    cmdclass={"build_py": BuildPython, "build_ext": CMakeBuild, "bdist_wheel": PlatformWheel,
              "editable_wheel": EditableWheel},
)
