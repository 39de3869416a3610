"""Drawings: the numpy files of Quick, Draw."""
from __future__ import annotations

import os

import numpy as np

from mrt.datasets.base import ArrayLoader, DatasetError, VisionDataset, register_dataset
from mrt.datasets.numpy_files import load_numpy

__all__ = ["Quickdraw"]


@register_dataset("quickdraw")
class Quickdraw(VisionDataset):
    """Drawings, (N, 1, 28, 28), taken as they are in the files; the last incomplete batch is left
    out."""

    train_part = True
    last_batch = "discard"

    @classmethod
    def files(cls, is_train: bool) -> tuple[tuple[str, ...], ...]:
        end = "" if is_train else "_test"
        return ((f"quickdraw_X{end}.npy", f"quickdraw_y{end}.npy"),)

    @classmethod
    def extent(cls, root: str | None = None, is_train: bool = False) -> tuple[int, ...]:
        folder = cls.locate(root, is_train)
        images = load_numpy(os.path.join(folder, cls.files(is_train)[0][0]), mmap_mode="r")
        cls._require_drawings(folder, images)
        return (len(images), 1, 28, 28)

    @staticmethod
    def _require_drawings(folder: str, images: np.ndarray) -> None:
        if images.ndim < 2 or images[:1].size != 28 * 28:
            raise DatasetError(f"{folder}: images of shape {images.shape}, wanted (N, 1, 28, 28)")

    def _load_data(self):
        images, labels = (load_numpy(os.path.join(self.root_dir, name))
                          for name in self.files(self.is_train)[0])
        self._require_drawings(self.root_dir, images)
        self._require_sample_shape((1, 28, 28))
        self.data = ArrayLoader(images.reshape(-1, 1, 28, 28), labels.reshape(-1), self.ishape[0],
                                last_batch=self.last_batch)
