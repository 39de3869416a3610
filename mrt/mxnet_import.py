"""Make `import mxnet` and `import gluoncv` work on the Python and numpy of today, whoever imports them first.

MXNet 1.9.1 is the last release. It and gluoncv expect names that have since gone or are about to: numpy's aliases `bool`,
`int` and `float` of Python's types (removed in numpy 1.24), the standard library's `distutils` (removed in Python 3.12), and
`scipy.sparse.csr`. And
MXNet's MKLDNN kernels give wrong first batches on some networks, so they must be off before its library is used.

`install` puts a finder in front of the import system that supplies all of this at the moment when one of the two packages
is imported, and hides the deprecation warnings of their own code. The finder does nothing for any other package. It is
installed by `mrt.mxnet_bridge` and, so that a script may begin with `import mxnet`, by a line of `mrt_mxnet_import.pth`,
which the installation puts beside a copy of this file: Python runs that line when it starts. Hence this file imports
little and nothing of `mrt`.
"""
import importlib.util
import os
import sys

__all__ = ["ENVIRONMENT", "install"]

PACKAGES = ("mxnet", "gluoncv")
ALIASES = {"bool": bool, "int": int, "float": float}

# Set unless the environment says otherwise. With storage fallback logging MXNet names every operator that lacks MKLDNN.
ENVIRONMENT = {"MXNET_MKLDNN_ENABLED": "0", "MXNET_STORAGE_FALLBACK_LOG_VERBOSE": "0"}


def install():
    """Put the finder in front of the import system, once however often it is called."""
    if not any(type(finder).__name__ == Finder.__name__ for finder in sys.meta_path):  # perhaps that of a copy
        sys.meta_path.insert(0, Finder())


class Finder:
    """Finds the modules of PACKAGES as everybody else does, and wraps their loaders in a Loader."""

    def __init__(self):
        self._searching = set()

    def find_spec(self, name, path=None, target=None):
        """The spec of a module of PACKAGES, None for all others."""
        if name.partition(".")[0] not in PACKAGES or name in self._searching:
            return None
        self._searching.add(name)  # so that the search below passes this finder by
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching.discard(name)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = Loader(spec.loader)
        return spec


class Loader:
    """Runs a module by its own loader, in surroundings that it was written for."""

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        """As the module's own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module):
        """Run the module; afterwards it knows nothing of this loader."""
        import warnings
        module.__spec__.loader = module.__loader__ = self._loader
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        _supply_aliases()
        stand_ins = _supply_distutils()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._loader.exec_module(module)
                _supply_csr_matrix()
        finally:
            for name in stand_ins:
                sys.modules.pop(name, None)


def _supply_aliases():
    import numpy
    for name, value in ALIASES.items():
        if name not in vars(numpy):  # numpy 1.20 to 1.23 have them, with a warning at every use
            setattr(numpy, name, value)


def _supply_csr_matrix():
    """MXNet looks for scipy's csr_matrix, where scipy is there, in a module that scipy is about to remove."""
    sparse = sys.modules.get("scipy.sparse")
    if hasattr(sparse, "csr_matrix"):
        import types
        vars(vars(sparse).setdefault("csr", types.ModuleType("scipy.sparse.csr"))).setdefault("csr_matrix", sparse.csr_matrix)


def _supply_distutils():
    """Make distutils.version importable where nothing provides it; returns the names to take away from sys.modules."""
    if "distutils" in sys.modules or importlib.util.find_spec("distutils") is not None:
        return ()
    import types
    package, version = types.ModuleType("distutils"), types.ModuleType("distutils.version")
    package.version = version
    version.StrictVersion = version.LooseVersion = Version
    sys.modules["distutils"], sys.modules["distutils.version"] = package, version
    return "distutils", "distutils.version"


class Version:
    """As much of distutils.version.StrictVersion and LooseVersion as the two packages use: the order of plain numbers."""

    def __init__(self, text):
        self.key = self._key(text)

    @staticmethod
    def _key(text):
        parts = str(text).replace("-", ".").replace("+", ".").split(".")
        digits = ["".join(c for c in part if c.isdigit()) for part in parts]
        return tuple(int(d) if d else 0 for d in digits)

    def _other(self, other):
        return other.key if isinstance(other, Version) else self._key(other)

    def __lt__(self, other):
        return self.key < self._other(other)

    def __le__(self, other):
        return self.key <= self._other(other)

    def __gt__(self, other):
        return self.key > self._other(other)

    def __ge__(self, other):
        return self.key >= self._other(other)

    def __eq__(self, other):
        return self.key == self._other(other)

    __hash__ = None
