"""The data sets, and how to register your own, as scripts import them.

A data set is a class registered under a name; `Dataset_module` in the configuration imports a file
with your own ones:

    @register_dataset("digits")
    class Digits(VisionDataset):
        def _load_data(self):
            self.data = ArrayLoader(images, labels, self.ishape[0])

`self.data` is anything that iterates over (data, label) pairs of MXNet NDArrays, first sample
first, unshuffled. Nothing is downloaded.
"""
from mrt.datasets.base import (
    DS_REG,
    ArrayLoader,
    Dataset,
    DatasetError,
    VisionDataset,
    register_dataset,
    to_unit_range,
)
from mrt.datasets.cifar10 import Cifar10
from mrt.datasets.custom import Custom
from mrt.datasets.mnist import Mnist, read_idx
from mrt.datasets.quickdraw import Quickdraw
from mrt.datasets.stdrandom import StdRandom

__all__ = ["DS_REG", "ArrayLoader", "Cifar10", "Custom", "Dataset", "DatasetError", "Mnist",
           "Quickdraw", "StdRandom", "VisionDataset", "read_idx", "register_dataset",
           "to_unit_range"]
