"""Handwritten digits: the four files of MNIST."""
from __future__ import annotations

import contextlib
import gzip
import os
import struct
import zlib

import numpy as np

from mrt.datasets.base import (
    ArrayLoader,
    DatasetError,
    VisionDataset,
    register_dataset,
    to_unit_range,
)
from mrt.errors import plain_error
from mrt.files import open_regular

__all__ = ["Mnist", "read_idx"]


def _idx_shape(stream, path):
    """The shape in the header of an IDX file."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
        raise DatasetError(f"{path}: not an IDX file of unsigned bytes (it starts with "
                           f"{magic.hex()})")
    return struct.unpack(f">{magic[3]}I", stream.read(4 * magic[3]))


@contextlib.contextmanager
def _open_idx(path):
    try:
        with open_regular(path) as packed, gzip.open(packed, "rb") as stream:
            yield stream
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DatasetError(f"{path}: cannot be read as a gzip-compressed IDX file "
                           f"({plain_error(error)})") from error


def read_idx(path: str, limit: int | None = None) -> np.ndarray:
    """The unsigned bytes of a gzip-compressed IDX file, at most `limit` along the first axis.

    Raises DatasetError for a file that is damaged, shorter than its header says, or of another
    kind.
    """
    with _open_idx(path) as stream:
        shape = _idx_shape(stream, path)
        if limit is not None:
            shape = (min(shape[0], limit), *shape[1:])
        size = 1
        for n in shape:
            size *= n
        data = stream.read(min(size, 1 << 31))
    if len(data) != size:
        raise DatasetError(f"{path}: holds {len(data)} bytes of data where its header announces "
                           f"{size}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


@register_dataset("mnist")
class Mnist(VisionDataset):
    """Handwritten digits, (N, 1, 28, 28), 0..1, from the original four files."""

    train_part = True

    @classmethod
    def files(cls, is_train: bool) -> tuple[tuple[str, ...], ...]:
        part = "train" if is_train else "t10k"
        return ((f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"),)

    @classmethod
    def extent(cls, root: str | None = None, is_train: bool = False) -> tuple[int, ...]:
        path = os.path.join(cls.locate(root, is_train), cls.files(is_train)[0][0])
        with _open_idx(path) as stream:
            count, *shape = _idx_shape(stream, path)
        return (count, 1, *shape)

    @classmethod
    def arrays(cls, root: str | None = None, is_train: bool = False,
               limit: int | None = None) -> tuple[np.ndarray, np.ndarray, str]:
        """(images uint8 (N, 1, 28, 28), labels int32 (N,), folder they were read from)."""
        folder = cls.locate(root, is_train)
        return (*cls._read(folder, is_train, limit), folder)

    @classmethod
    def _read(cls, folder, is_train, limit=None):
        images, labels = (read_idx(os.path.join(folder, name), limit)
                          for name in cls.files(is_train)[0])
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise DatasetError(f"{folder}: images of shape {images.shape} and labels of shape "
                               f"{labels.shape} do not belong together")
        return images[:, None], labels.astype(np.int32)

    def _load_data(self):
        images, labels = self._read(self.root_dir, self.is_train)
        self._require_sample_shape(images.shape[1:])
        self.data = ArrayLoader(images, labels, self.ishape[0], to_unit_range)
