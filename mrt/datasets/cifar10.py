"""Small colour pictures: the files of CIFAR-10."""
from __future__ import annotations

import glob
import os

import numpy as np

from mrt.datasets.base import (
    ArrayLoader,
    DatasetError,
    VisionDataset,
    register_dataset,
    to_unit_range,
)
from mrt.datasets.numpy_files import load_numpy, npz_shape
from mrt.errors import plain_error
from mrt.files import open_regular

__all__ = ["Cifar10"]


@register_dataset("cifar10")
class Cifar10(VisionDataset):
    """Small colour pictures, (N, 3, 32, 32), normalised per channel.

    Read from the binary files of the original distribution, or from one file cifar10_test*.npz
    (cifar10_train*.npz) holding x, uint8 (N, 32, 32, 3) RGB, and y, (N,).
    """

    train_part = True
    mean = np.array([0.4914, 0.4822, 0.4465], np.float32).reshape(1, 3, 1, 1)
    std = np.array([0.2023, 0.1994, 0.2010], np.float32).reshape(1, 3, 1, 1)

    @classmethod
    def files(cls, is_train: bool) -> tuple[tuple[str, ...], ...]:
        if is_train:
            return tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("cifar10_train*.npz",)
        return ("test_batch.bin",), ("cifar10_test*.npz",)

    @classmethod
    def extent(cls, root: str | None = None, is_train: bool = False) -> tuple[int, ...]:
        binaries, archive = cls._paths(cls.locate(root, is_train), is_train)
        if binaries:
            return (sum(os.path.getsize(path) for path in binaries) // 3073, 3, 32, 32)
        n, height, width, channels = _require_images(archive, npz_shape(archive, "x"))
        return n, channels, height, width

    @classmethod
    def _paths(cls, folder, is_train):
        """(the binary files, None), or ([], the archive) where they are not there."""
        binaries, (archive,) = cls.files(is_train)
        paths = [os.path.join(folder, name) for name in binaries]
        if all(os.path.exists(path) for path in paths):
            return paths, None
        return [], min(glob.glob(os.path.join(glob.escape(folder), archive)))

    def _load_data(self):
        binaries, archive = self._paths(self.root_dir, self.is_train)
        if binaries:
            parts = [self._read_binary(path) for path in binaries]
            images, labels = (np.concatenate(arrays) for arrays in zip(*parts))
        else:
            images, labels = self._read_npz(archive)
        self._require_sample_shape(images.shape[1:])
        self.data = ArrayLoader(images, labels, self.ishape[0],
                                lambda x: (to_unit_range(x) - self.mean) / self.std)

    @staticmethod
    def _read_binary(path):
        try:
            with open_regular(path) as stream:
                data = np.frombuffer(stream.read(), dtype=np.uint8)
        except OSError as error:
            raise DatasetError(plain_error(error)) from error
        if not data.size or data.size % 3073:
            raise DatasetError(f"{path}: {data.size} bytes, wanted a multiple of 3073 (one label, "
                               "3x32x32 pixels)")
        data = data.reshape(-1, 3073)
        return data[:, 1:].reshape(-1, 3, 32, 32), data[:, 0].astype(np.int32)

    @staticmethod
    def _read_npz(path):
        arrays = load_numpy(path)
        missing = [key for key in ("x", "y") if key not in arrays]
        if missing:
            raise DatasetError(f"{path}: holds no array called {' or '.join(missing)}")
        images = arrays["x"]
        _require_images(path, images.shape)
        return images.transpose(0, 3, 1, 2), arrays["y"].astype(np.int32)


def _require_images(path, shape):
    if len(shape) != 4:
        raise DatasetError(f"{path}: x has shape {shape}, wanted (N, 32, 32, 3)")
    return shape
