"""Reading .npy and .npz files, whose damage is a DatasetError."""
from __future__ import annotations

import zipfile
import zlib

import numpy as np

from mrt.datasets.base import DatasetError
from mrt.errors import plain_error
from mrt.files import open_regular

__all__ = ["load_numpy", "npz_shape"]


def load_numpy(path: str, mmap_mode: str | None = None) -> np.ndarray | dict[str, np.ndarray]:
    """The array of an .npy file (`mmap_mode`: as `numpy.load` takes it), the arrays by name of an
    .npz file."""
    try:
        with open_regular(path):
            pass
        loaded = np.load(path, mmap_mode, allow_pickle=False)
        return {key: loaded[key] for key in loaded.files} if hasattr(loaded, "files") else loaded
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def npz_shape(path: str, name: str) -> tuple[int, ...]:
    """The shape of the array `name` of an .npz file, from its header."""
    headers = {(1, 0): np.lib.format.read_array_header_1_0}
    try:
        with open_regular(path) as packed, zipfile.ZipFile(packed) as archive, \
                archive.open(f"{name}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            return headers.get(version, np.lib.format.read_array_header_2_0)(stream)[0]
    except KeyError:
        raise DatasetError(f"{path}: holds no array called {name}") from None
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error


def _unreadable(path, error):
    return DatasetError(f"{path}: cannot be read as numpy data ({plain_error(error)})")
