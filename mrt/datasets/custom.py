"""Pictures of your own, sorted into a folder per class."""
from __future__ import annotations

import os
from typing import Iterator

import numpy as np

from mrt.datasets.base import DatasetError, VisionDataset, register_dataset
from mrt.mxnet_bridge import mx

__all__ = ["Custom"]


@register_dataset("Custom")
class Custom(VisionDataset):
    """Pictures sorted into folders: `root/Custom/<class>/<picture>`, classes numbered in the order
    of their names.

    Grey for an input of one channel, RGB for three; (N, C, H, W) float32, 0..255 without any
    normalisation, each picture already of the model's size.
    """

    suffixes = (".png", ".jpg", ".jpeg", ".bmp")

    @classmethod
    def files(cls, is_train: bool) -> tuple[tuple[str, ...], ...]:
        return (("*/*",),)

    @classmethod
    def extent(cls, root: str | None = None, is_train: bool = False) -> tuple[int, ...]:
        return (len(cls._pictures(cls.locate(root, is_train))[1]),)

    @classmethod
    def _pictures(cls, root):
        """(names of the classes, [(path of a picture, index of its class)])."""
        classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        samples = [(os.path.join(root, name, f), index) for index, name in enumerate(classes)
                   for f in sorted(os.listdir(os.path.join(root, name)))
                   if f.lower().endswith(cls.suffixes)]
        if not samples:
            raise DatasetError(f"{root}: no picture ({', '.join(cls.suffixes)}) in any class "
                               "folder")
        return classes, samples

    def _load_data(self):
        if len(self.ishape) != 4 or self.ishape[1] not in (1, 3):
            raise DatasetError(f"data set {self.name!r} needs Input_shape (-1, 1 or 3, height, "
                               f"width), found {self.ishape}")
        self.classes, self._samples = self._pictures(self.root_dir)
        self.data = self

    def __iter__(self) -> Iterator[tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        batch = self.ishape[0]
        for start in range(0, len(self._samples), batch):
            samples = self._samples[start:start + batch]
            images = np.stack([self._read(path) for path, _ in samples])
            labels = mx.nd.array([index for _, index in samples], dtype="int32")
            yield mx.nd.array(images), labels

    def _read(self, path):
        try:
            image = mx.image.imread(path, flag=0 if self.ishape[1] == 1 else 1).asnumpy()
        except Exception as error:  # MXNet's decoder reports damage as its own exception types
            reason = str(error).strip().splitlines()[-1]
            raise DatasetError(f"{path}: cannot be read as a picture ({reason})") from error
        image = image.transpose(2, 0, 1).astype(np.float32)
        if image.shape != self.ishape[1:]:
            raise DatasetError(f"{path}: picture of shape {image.shape}, but the model is to take "
                               f"{self.ishape[1:]}; resize the pictures or correct Input_shape")
        return image
