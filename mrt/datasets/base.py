"""What a data set is: a class registered under a name, which gives batches, judges predictions."""
from __future__ import annotations

import glob
import os
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from mrt import conf
from mrt.errors import MRTError
from mrt.metrics import TopK
from mrt.mxnet_bridge import mx

__all__ = ["DS_REG", "ArrayLoader", "Dataset", "DatasetError", "VisionDataset", "register_dataset",
           "to_unit_range"]


class DatasetError(MRTError):
    """Data that are missing, damaged or of another shape than the model's input."""


DS_REG: dict[str, type[Dataset]] = {}


def register_dataset(name: str) -> Callable[[type[Dataset]], type[Dataset]]:
    """Class decorator: enter the class under `name`. Raises NameError when the name is taken."""
    def register(cls):
        if name in DS_REG:
            raise NameError(f"a data set called {name!r} is registered already "
                            f"({DS_REG[name].__qualname__})")
        cls.name = name
        DS_REG[name] = cls
        return cls
    return register


class Dataset:
    """Base class.

    input_shape: shape of one batch, the batch axis filled in. root: folder that holds a folder
    called like the data set; None searches `conf.dataset_roots()`. is_train: the training part, of
    classes with `train_part = True`. Raises DatasetError when files are missing or do not fit
    `input_shape`, RuntimeError for an unregistered class.
    """

    name = None
    train_part = False  # whether is_train=True means other samples than is_train=False
    last_batch = "keep"  # "discard" where `data` leaves out a last batch that is smaller

    def __init__(self, input_shape: Sequence[int], root: str | None = None,
                 is_train: bool = False) -> None:
        if DS_REG.get(self.name) is not type(self):
            raise RuntimeError(f"{type(self).__name__} is not registered: decorate it with "
                               "@register_dataset(name)")
        self.ishape = tuple(int(n) for n in input_shape)
        self.is_train = bool(is_train and self.train_part)
        self.root_dir = self.locate(root, self.is_train)
        self.data = None
        self._load_data()

    @property
    def part(self) -> str:
        """Which samples these are, in words."""
        return ("training part" if self.is_train else
                "test part" if self.train_part else "only part")

    @classmethod
    def files(cls, is_train: bool) -> tuple[tuple[str, ...], ...]:
        """Alternatives, each a tuple of file names or patterns that must all exist below
        `root_dir`."""
        return ()

    @classmethod
    def locate(cls, root: str | None = None, is_train: bool = False) -> str:
        """The folder that holds the files; see the class for `root`. DatasetError names the files
        and the folders searched."""
        wanted = cls.files(is_train)
        if root:
            root = os.path.abspath(os.path.expanduser(root))
            folders = [os.path.join(root, cls.name), root]
        else:
            folders = [os.path.join(folder, cls.name) for folder in conf.dataset_roots()]
        if not wanted:
            return folders[0]
        for folder in folders:
            if any(all(glob.glob(os.path.join(glob.escape(folder), f)) for f in names)
                   for names in wanted):
                return folder
        raise DatasetError(f"data set {cls.name!r} not found: wanted "
                           f"{' or '.join(' + '.join(n) for n in wanted)} in one of "
                           f"{', '.join(folders)}; copy the files there or set Dataset_dir")

    @classmethod
    def extent(cls, root: str | None = None, is_train: bool = False) -> tuple[float, ...] | None:
        """(number of samples, *shape of one, where it is known), from the headers of the files
        alone; math.inf for data without end. A configuration is checked with it before anything
        runs. A class that does not define it itself is opened for that."""
        return None

    def _load_data(self):
        raise NotImplementedError(f"{type(self).__name__} must define _load_data, which sets "
                                  "self.data")

    def iter_func(self) -> Callable[[], tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        """A function that gives the next (data, label) and raises StopIteration at the end."""
        iterator = iter(self.data)
        return lambda: next(iterator)

    def metrics(self) -> Any:
        """New metric state for `validate`."""
        raise NotImplementedError(f"{type(self).__name__} must define metrics")

    def validate(self, metrics: Any, predict: Any, label: Any) -> str:
        """Add one batch to `metrics` and return a display string of all so far."""
        raise NotImplementedError(f"{type(self).__name__} must define validate")

    def _require_sample_shape(self, found):
        """Compare the shape of one sample with the shape asked for."""
        self.require_sample_shape(self.ishape[1:], found)

    @classmethod
    def require_sample_shape(cls, wanted: Sequence[int], found: Sequence[int]) -> None:
        """DatasetError where samples of the shape `found` do not fit a model that is to take
        `wanted`."""
        wanted, found = tuple(wanted), tuple(found)
        if wanted != found:
            remedy = ", ".join(str(n) for n in (-1,) + found)
            raise DatasetError(f"data set {cls.name!r} holds samples of shape {found}, but the "
                               f"model is to take {wanted}; Input_shape for this data set is "
                               f"({remedy})")


class VisionDataset(Dataset):
    """Classification: top-1 and top-5 accuracy."""

    def metrics(self) -> list[TopK]:
        return [TopK(1), TopK(5)]

    def validate(self, metrics: list[TopK], predict: Any, label: Any) -> str:
        """predict: scores (N, classes), NDArray or array, or a list holding that; label: (N,)."""
        predict = predict[0] if isinstance(predict, (list, tuple)) else predict
        for metric in metrics:
            metric.update(_numpy(label), _numpy(predict))
        return " ".join(str(metric) for metric in metrics)


def _numpy(array):
    return array.asnumpy() if isinstance(array, mx.nd.NDArray) else np.asarray(array)


class ArrayLoader:
    """Batches of arrays in memory, converted to float32 one batch at a time.

    data: (samples, ...); label: (samples,); transform: array -> array, applied to each batch.
    last_batch: "keep" also gives the last batch when it is smaller, "discard" does not.
    """

    def __init__(self, data: np.ndarray, label: np.ndarray, batch: int,
                 transform: Callable[[np.ndarray], np.ndarray] | None = None,
                 last_batch: str = "keep") -> None:
        if len(data) != len(label):
            raise DatasetError(f"{len(data)} samples but {len(label)} labels")
        if batch < 1:
            raise DatasetError(f"a batch of {batch} samples: wanted at least 1")
        self._data, self._label, self._batch, self._transform = data, label, batch, transform
        self._end = len(data) - (len(data) % batch if last_batch == "discard" else 0)

    def __len__(self) -> int:
        return (self._end + self._batch - 1) // self._batch

    def __iter__(self) -> Iterator[tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        for start in range(0, self._end, self._batch):
            stop = min(start + self._batch, self._end)
            data = np.asarray(self._data[start:stop])
            data = data if self._transform is None else self._transform(data)
            yield (mx.nd.array(data, dtype="float32"),
                   mx.nd.array(np.asarray(self._label[start:stop]), dtype="int32"))


def to_unit_range(images: np.ndarray) -> np.ndarray:
    """0..255 to 0..1 as float32."""
    return images.astype(np.float32) / 255
