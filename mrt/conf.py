"""Where models and data sets live when nothing else is said.

The environment variables MRT_MODEL_ROOT and MRT_DATASET_ROOT override the defaults. Nothing is created here: a folder
comes into being when something is written into it, so importing works with a read-only home.
"""
import os

__all__ = ["MRT_DATASET_ROOT", "MRT_MODEL_ROOT", "dataset_roots", "zoo_folder"]


def _root(variable, default):
    return os.path.abspath(os.path.expanduser(os.environ.get(variable) or default))


_DATASET_DEFAULT = os.path.join("~", ".mxnet", "datasets")

MRT_MODEL_ROOT = _root("MRT_MODEL_ROOT", os.path.join("~", "mrt_model"))
MRT_DATASET_ROOT = _root("MRT_DATASET_ROOT", _DATASET_DEFAULT)


def zoo_folder():
    """The configurations, networks and data that come with MRT: inside the package where it was installed as a wheel, else the
    checkout's `model_zoo`."""
    package = os.path.dirname(os.path.abspath(__file__))
    inside = os.path.join(package, "model_zoo")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "model_zoo")


def dataset_roots():
    """Folders searched for a data set nobody gave a folder for, in order and without repeats.

    The environment variable, the default, then the small copies that come with MRT.
    """
    home = os.path.abspath(os.path.expanduser(_DATASET_DEFAULT))
    return list(dict.fromkeys([_root("MRT_DATASET_ROOT", _DATASET_DEFAULT), home, os.path.join(zoo_folder(), "data")]))
