"""Data sets for calibration and evaluation.

A data set is a class registered under a name; `Dataset_module` in the configuration imports a file with your own ones:

    @register_dataset("digits")
    class Digits(VisionDataset):
        def _load_data(self):
            self.data = ArrayLoader(images, labels, self.ishape[0])

`self.data` is anything that iterates over (data, label) pairs of MXNet NDArrays, first sample first, unshuffled.
Nothing is downloaded.
"""
import contextlib
import glob
import gzip
import math
import os
import struct
import zipfile
import zlib

import numpy as np

from mrt import conf
from mrt.errors import MRTError, plain_error
from mrt.files import open_regular
from mrt.metrics import TopK
from mrt.mxnet_bridge import mx

__all__ = ["DS_REG", "ArrayLoader", "Cifar10", "Custom", "Dataset", "DatasetError", "Mnist", "Quickdraw", "StdRandom",
           "VisionDataset", "read_idx", "register_dataset"]


class DatasetError(MRTError):
    """Data that are missing, damaged or of another shape than the model's input."""


DS_REG = {}


def register_dataset(name):
    """Class decorator: enter the class under `name`. Raises NameError when the name is taken."""
    def register(cls):
        if name in DS_REG:
            raise NameError(f"a data set called {name!r} is registered already ({DS_REG[name].__qualname__})")
        cls.name = name
        DS_REG[name] = cls
        return cls
    return register


class Dataset:
    """Base class.

    input_shape: shape of one batch, the batch axis filled in. root: folder that holds a folder called like the data
    set; None searches `conf.dataset_roots()`. is_train: the training part, of classes with `train_part = True`.
    Raises DatasetError when files are missing or do not fit `input_shape`, RuntimeError for an unregistered class.
    """

    name = None
    train_part = False  # whether is_train=True means other samples than is_train=False
    last_batch = "keep"  # "discard" where `data` leaves out a last batch that is smaller

    def __init__(self, input_shape, root=None, is_train=False):
        if DS_REG.get(self.name) is not type(self):
            raise RuntimeError(f"{type(self).__name__} is not registered: decorate it with @register_dataset(name)")
        self.ishape = tuple(int(n) for n in input_shape)
        self.is_train = bool(is_train and self.train_part)
        self.root_dir = self.locate(root, self.is_train)
        self.data = None
        self._load_data()

    @property
    def part(self):
        """Which samples these are, in words."""
        return "training part" if self.is_train else "test part" if self.train_part else "only part"

    @classmethod
    def files(cls, is_train):
        """Alternatives, each a tuple of file names or patterns that must all exist below `root_dir`."""
        return ()

    @classmethod
    def locate(cls, root=None, is_train=False):
        """The folder that holds the files; see the class for `root`. DatasetError names files and folders searched."""
        wanted = cls.files(is_train)
        if root:
            root = os.path.abspath(os.path.expanduser(root))
            folders = [os.path.join(root, cls.name), root]
        else:
            folders = [os.path.join(folder, cls.name) for folder in conf.dataset_roots()]
        if not wanted:
            return folders[0]
        for folder in folders:
            if any(all(glob.glob(os.path.join(glob.escape(folder), f)) for f in names) for names in wanted):
                return folder
        raise DatasetError(f"data set {cls.name!r} not found: wanted {' or '.join(' + '.join(n) for n in wanted)} "
                           f"in one of {', '.join(folders)}; copy the files there or set Dataset_dir")

    @classmethod
    def extent(cls, root=None, is_train=False):
        """(number of samples, *shape of one, where it is known), from the headers of the files alone; math.inf for data without
        end. A configuration is checked with it before anything runs. A class that does not define it itself is opened for that.
        """
        return None

    def _load_data(self):
        raise NotImplementedError(f"{type(self).__name__} must define _load_data, which sets self.data")

    def iter_func(self):
        """A function that gives the next (data, label) and raises StopIteration at the end."""
        iterator = iter(self.data)
        return lambda: next(iterator)

    def metrics(self):
        """New metric state for `validate`."""
        raise NotImplementedError(f"{type(self).__name__} must define metrics")

    def validate(self, metrics, predict, label):
        """Add one batch to `metrics` and return a display string of all so far."""
        raise NotImplementedError(f"{type(self).__name__} must define validate")

    def _require_sample_shape(self, found):
        """Compare the shape of one sample with the shape asked for."""
        self.require_sample_shape(self.ishape[1:], found)

    @classmethod
    def require_sample_shape(cls, wanted, found):
        """DatasetError where samples of the shape `found` do not fit a model that is to take `wanted`."""
        wanted, found = tuple(wanted), tuple(found)
        if wanted != found:
            remedy = ", ".join(str(n) for n in (-1,) + found)
            raise DatasetError(f"data set {cls.name!r} holds samples of shape {found}, but the model is to take "
                               f"{wanted}; Input_shape for this data set is ({remedy})")


class VisionDataset(Dataset):
    """Classification: top-1 and top-5 accuracy."""

    def metrics(self):
        return [TopK(1), TopK(5)]

    def validate(self, metrics, predict, label):
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

    def __init__(self, data, label, batch, transform=None, last_batch="keep"):
        if len(data) != len(label):
            raise DatasetError(f"{len(data)} samples but {len(label)} labels")
        if batch < 1:
            raise DatasetError(f"a batch of {batch} samples: wanted at least 1")
        self._data, self._label, self._batch, self._transform = data, label, batch, transform
        self._end = len(data) - (len(data) % batch if last_batch == "discard" else 0)

    def __len__(self):
        return (self._end + self._batch - 1) // self._batch

    def __iter__(self):
        for start in range(0, self._end, self._batch):
            stop = min(start + self._batch, self._end)
            data = np.asarray(self._data[start:stop])
            data = data if self._transform is None else self._transform(data)
            yield (mx.nd.array(data, dtype="float32"),
                   mx.nd.array(np.asarray(self._label[start:stop]), dtype="int32"))


# ---- MNIST -----------------------------------------------------------------------------------------------------------

def _idx_shape(stream, path):
    """The shape in the header of an IDX file."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
        raise DatasetError(f"{path}: not an IDX file of unsigned bytes (it starts with {magic.hex()})")
    return struct.unpack(f">{magic[3]}I", stream.read(4 * magic[3]))


@contextlib.contextmanager
def _open_idx(path):
    try:
        with open_regular(path) as packed, gzip.open(packed, "rb") as stream:
            yield stream
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DatasetError(f"{path}: cannot be read as a gzip-compressed IDX file ({plain_error(error)})") from error


def read_idx(path, limit=None):
    """The unsigned bytes of a gzip-compressed IDX file as an array, at most `limit` along the first axis.

    Raises DatasetError for a file that is damaged, shorter than its header says, or of another kind.
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
        raise DatasetError(f"{path}: holds {len(data)} bytes of data where its header announces {size}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def to_unit_range(images):
    """0..255 to 0..1 as float32."""
    return images.astype(np.float32) / 255


@register_dataset("mnist")
class Mnist(VisionDataset):
    """Handwritten digits, (N, 1, 28, 28), 0..1, from the original four files."""

    train_part = True

    @classmethod
    def files(cls, is_train):
        part = "train" if is_train else "t10k"
        return ((f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"),)

    @classmethod
    def extent(cls, root=None, is_train=False):
        path = os.path.join(cls.locate(root, is_train), cls.files(is_train)[0][0])
        with _open_idx(path) as stream:
            count, *shape = _idx_shape(stream, path)
        return (count, 1, *shape)

    @classmethod
    def arrays(cls, root=None, is_train=False, limit=None):
        """(images uint8 (N, 1, 28, 28), labels int32 (N,), folder they were read from)."""
        folder = cls.locate(root, is_train)
        return (*cls._read(folder, is_train, limit), folder)

    @classmethod
    def _read(cls, folder, is_train, limit=None):
        images, labels = (read_idx(os.path.join(folder, name), limit) for name in cls.files(is_train)[0])
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise DatasetError(f"{folder}: images of shape {images.shape} and labels of shape {labels.shape} do not "
                               "belong together")
        return images[:, None], labels.astype(np.int32)

    def _load_data(self):
        images, labels = self._read(self.root_dir, self.is_train)
        self._require_sample_shape(images.shape[1:])
        self.data = ArrayLoader(images, labels, self.ishape[0], to_unit_range)


# ---- others ----------------------------------------------------------------------------------------------------------

@register_dataset("cifar10")
class Cifar10(VisionDataset):
    """Small colour pictures, (N, 3, 32, 32), normalised per channel.

    Read from the binary files of the original distribution, or from one file cifar10_test*.npz (cifar10_train*.npz)
    holding x, uint8 (N, 32, 32, 3) RGB, and y, (N,).
    """

    train_part = True
    mean = np.array([0.4914, 0.4822, 0.4465], np.float32).reshape(1, 3, 1, 1)
    std = np.array([0.2023, 0.1994, 0.2010], np.float32).reshape(1, 3, 1, 1)

    @classmethod
    def files(cls, is_train):
        if is_train:
            return tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("cifar10_train*.npz",)
        return ("test_batch.bin",), ("cifar10_test*.npz",)

    @classmethod
    def extent(cls, root=None, is_train=False):
        binaries, archive = cls._paths(cls.locate(root, is_train), is_train)
        if binaries:
            return (sum(os.path.getsize(path) for path in binaries) // 3073, 3, 32, 32)
        n, height, width, channels = _npz_shape(archive, "x")
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
        self.data = ArrayLoader(images, labels, self.ishape[0], lambda x: (to_unit_range(x) - self.mean) / self.std)

    @staticmethod
    def _read_binary(path):
        try:
            with open_regular(path) as stream:
                data = np.frombuffer(stream.read(), dtype=np.uint8)
        except OSError as error:
            raise DatasetError(plain_error(error)) from error
        if not data.size or data.size % 3073:
            raise DatasetError(f"{path}: {data.size} bytes, wanted a multiple of 3073 (one label, 3x32x32 pixels)")
        data = data.reshape(-1, 3073)
        return data[:, 1:].reshape(-1, 3, 32, 32), data[:, 0].astype(np.int32)

    @staticmethod
    def _read_npz(path):
        arrays = _load_numpy(path)
        missing = [key for key in ("x", "y") if key not in arrays]
        if missing:
            raise DatasetError(f"{path}: holds no array called {' or '.join(missing)}")
        images = arrays["x"]
        _require_images(path, images.shape)
        return images.transpose(0, 3, 1, 2), arrays["y"].astype(np.int32)


@register_dataset("quickdraw")
class Quickdraw(VisionDataset):
    """Drawings, (N, 1, 28, 28), taken as they are in the files; the last incomplete batch is left out."""

    train_part = True
    last_batch = "discard"

    @classmethod
    def files(cls, is_train):
        end = "" if is_train else "_test"
        return ((f"quickdraw_X{end}.npy", f"quickdraw_y{end}.npy"),)

    @classmethod
    def extent(cls, root=None, is_train=False):
        folder = cls.locate(root, is_train)
        images = _load_numpy(os.path.join(folder, cls.files(is_train)[0][0]), mmap_mode="r")
        cls._require_drawings(folder, images)
        return (len(images), 1, 28, 28)

    @staticmethod
    def _require_drawings(folder, images):
        if images.ndim < 2 or images[:1].size != 28 * 28:
            raise DatasetError(f"{folder}: images of shape {images.shape}, wanted (N, 1, 28, 28)")

    def _load_data(self):
        images, labels = (_load_numpy(os.path.join(self.root_dir, name)) for name in self.files(self.is_train)[0])
        self._require_drawings(self.root_dir, images)
        self._require_sample_shape((1, 28, 28))
        self.data = ArrayLoader(images.reshape(-1, 1, 28, 28), labels.reshape(-1), self.ishape[0],
                                last_batch=self.last_batch)


def _load_numpy(path, mmap_mode=None):
    try:
        with open_regular(path):
            pass
        loaded = np.load(path, mmap_mode, allow_pickle=False)
        return {key: loaded[key] for key in loaded.files} if hasattr(loaded, "files") else loaded
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: cannot be read as numpy data ({plain_error(error)})") from error


def _npz_shape(path, name):
    """The shape of one array of an .npz file, from its header."""
    try:
        with open_regular(path) as packed, zipfile.ZipFile(packed) as archive, archive.open(f"{name}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return _require_images(path, read(stream)[0])
    except KeyError:
        raise DatasetError(f"{path}: holds no array called {name}") from None
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: cannot be read as numpy data ({plain_error(error)})") from error


def _require_images(path, shape):
    if len(shape) != 4:
        raise DatasetError(f"{path}: x has shape {shape}, wanted (N, 32, 32, 3)")
    return shape


@register_dataset("stdrandom")
class StdRandom(Dataset):
    """Uniform random numbers 0..1 of any shape, without end; the same ones every time. No metric."""

    @classmethod
    def extent(cls, root=None, is_train=False):
        return (math.inf,)

    def _load_data(self):
        self.data = self._batches()

    def _batches(self):
        random = np.random.RandomState(0)
        while True:
            yield mx.nd.array(random.uniform(size=self.ishape).astype(np.float32)), mx.nd.zeros((self.ishape[0],))

    def metrics(self):
        return None

    def validate(self, metrics, predict, label):
        return ""


@register_dataset("Custom")
class Custom(VisionDataset):
    """Pictures sorted into folders: `root/Custom/<class>/<picture>`, classes numbered in the order of their names.

    Grey for an input of one channel, RGB for three; (N, C, H, W) float32, 0..255 without any normalisation, each
    picture already of the model's size.
    """

    suffixes = (".png", ".jpg", ".jpeg", ".bmp")

    @classmethod
    def files(cls, is_train):
        return (("*/*",),)

    @classmethod
    def extent(cls, root=None, is_train=False):
        return (len(cls._pictures(cls.locate(root, is_train))[1]),)

    @classmethod
    def _pictures(cls, root):
        """(names of the classes, [(path of a picture, index of its class)])."""
        classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        samples = [(os.path.join(root, name, f), index) for index, name in enumerate(classes)
                   for f in sorted(os.listdir(os.path.join(root, name))) if f.lower().endswith(cls.suffixes)]
        if not samples:
            raise DatasetError(f"{root}: no picture ({', '.join(cls.suffixes)}) in any class folder")
        return classes, samples

    def _load_data(self):
        if len(self.ishape) != 4 or self.ishape[1] not in (1, 3):
            raise DatasetError(f"data set {self.name!r} needs Input_shape (-1, 1 or 3, height, width), "
                               f"found {self.ishape}")
        self.classes, self._samples = self._pictures(self.root_dir)
        self.data = self

    def __iter__(self):
        batch = self.ishape[0]
        for start in range(0, len(self._samples), batch):
            samples = self._samples[start:start + batch]
            images = np.stack([self._read(path) for path, _ in samples])
            yield mx.nd.array(images), mx.nd.array([index for _, index in samples], dtype="int32")

    def _read(self, path):
        try:
            image = mx.image.imread(path, flag=0 if self.ishape[1] == 1 else 1).asnumpy()
        except Exception as error:  # MXNet's decoder reports damage as its own exception types
            reason = str(error).strip().splitlines()[-1]
            raise DatasetError(f"{path}: cannot be read as a picture ({reason})") from error
        image = image.transpose(2, 0, 1).astype(np.float32)
        if image.shape != self.ishape[1:]:
            raise DatasetError(f"{path}: picture of shape {image.shape}, but the model is to take {self.ishape[1:]}; "
                               "resize the pictures or correct Input_shape")
        return image
