"""Settings of the quantizer's tests: repeatable examples, shared helpers beside the tests."""
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture
def folder(tmp_path, root):
    """A copy of the smallest model of the zoo in a folder of its own."""
    for suffix in ("json", "params"):
        shutil.copy(root / "model_zoo" / "mnist" / f"mnist_mlp.{suffix}", tmp_path)
    return tmp_path
