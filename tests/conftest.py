"""What all tests share."""
import importlib.util
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# shells start what runs in the background with interruptions ignored
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header():
    """Which installation is tested."""
    import cvm_runtime
    import mrt
    library = cvm_runtime._lib.library_path()
    return f"mrt {mrt.__version__} of {Path(mrt.__file__).parent}, C library {library}"


@pytest.fixture(scope="session")
def root():
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def startup():
    """The installed copy of mrt/mxnet_import.py; skips where the package is not installed in the environment of the tests."""
    spec = importlib.util.find_spec("mrt_mxnet_import")
    if spec is None:
        pytest.skip(f"mrt-cvm is not installed in {sys.prefix}")
    return Path(spec.origin)
