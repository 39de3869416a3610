"""Integer-only inference with identical bits everywhere: the CVM runtime.

    import cvm_runtime as cvm

    model = cvm.load("model/symbol", "model/params")
    outputs = model.run(x)            # one int32 array per output

Needs numpy and the C library that is built with this package, nothing else.
"""

from ._lib import CvmError, CvmLibraryError, CvmLogicError, CvmRuntimeError, library_path
from ._version import __version__
from .context import Context, cpu, formal, gpu
from .folder import load_folder
from .model import Model, Node, Tensor, gas, load
from .process import idle_contexts, max_threads, set_idle_contexts, set_max_threads

__all__ = [
    "Context",
    "CvmError",
    "CvmLibraryError",
    "CvmLogicError",
    "CvmRuntimeError",
    "Model",
    "Node",
    "Tensor",
    "__version__",
    "cpu",
    "formal",
    "gas",
    "gpu",
    "idle_contexts",
    "library_path",
    "load",
    "load_folder",
    "max_threads",
    "set_idle_contexts",
    "set_max_threads",
]
