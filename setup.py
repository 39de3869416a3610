"""Builds the C library with CMake and puts it inside the cvm_runtime package.

Everything else is declared in pyproject.toml.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent
LIBRARY = "cvm_runtime.libcvm_runtime"


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


class BuildPy(build_py):
    """Puts the zoo inside the package of a wheel; an editable install finds the checkout's."""

    def run(self):
        super().run()
        if not self.editable_mode:
            unwanted = shutil.ignore_patterns("mrt_output", "__pycache__", ".*")
            shutil.copytree(ROOT / "model_zoo", Path(self.build_lib, "mrt", "model_zoo"), ignore=unwanted, dirs_exist_ok=True)


class PlatformWheel(bdist_wheel):
    def get_tag(self):
        # Belongs to a platform, but to no Python version or ABI.
        return ("py3", "none", super().get_tag()[2])


setup(
    ext_modules=[Extension(LIBRARY, sources=[])],
    cmdclass={"build_ext": CMakeBuild, "build_py": BuildPy, "bdist_wheel": PlatformWheel},
)
