"""MXNet parameter files: reading them under every naming MXNet has had, and writing them."""
import os
import re
import struct

import numpy as np

from mrt.errors import ModelError, plain_error
from mrt.files import atomic_path, open_regular
from mrt.mxnet_bridge import mx

__all__ = ["load_params", "read_arrays", "save_params"]

# Which inputs of an operator hold parameters: without a value such a variable is a missing parameter, not a network input.
_PARAM_INPUTS = {"Convolution": (1, 2), "Deconvolution": (1, 2), "FullyConnected": (1, 2), "BatchNorm": (1, 2, 3, 4),
                 "Embedding": (1,)}

# save_parameters names the kind of parameter after the block's attribute; symbols of other origin use MXNet's own words
_KINDS = {"moving_mean": "running_mean", "moving_var": "running_var"}

# The format of MXNet's NDArray files, version 2 of an array
_LIST_MAGIC, _ARRAY_MAGIC = 0x112, 0xF993FAC9
_DENSE, _CPU = 0, 1
_TYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")  # in the order of their numbers


def save_params(params, path):
    """Write name -> numpy array as an MXNet NDArray dictionary, in the order given. The bytes are those of mx.nd.save,
    which would not notice that the disk is full."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(struct.pack("<3Q", _LIST_MAGIC, 0, len(params)))
        for name, value in params.items():
            if value.dtype.name not in _TYPES or not value.size or not value.ndim:
                raise ModelError(f"parameter {name} of shape {value.shape} and type {value.dtype} has no place in an "
                                 f"MXNet params file, which holds arrays of {', '.join(_TYPES)} with at least one axis "
                                 "and element")
            shape = struct.pack(f"<I{value.ndim}q", value.ndim, *value.shape)
            kind = struct.pack("<3i", _CPU, 0, _TYPES.index(value.dtype.name))
            stream.write(struct.pack("<Ii", _ARRAY_MAGIC, _DENSE) + shape + kind)
            stream.write(np.ascontiguousarray(value, value.dtype.newbyteorder("<")))
        names = [name.encode() for name in params]
        stream.write(struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(name)) + name for name in names))


def load_params(graph, symbol_file, params_file):
    """The parameters of `graph` as name -> numpy array, from a file with plain names, `arg:`/`aux:` prefixes, names without
    the network's common prefix, or the structural names (`0.weight`) of `Block.save_parameters`. Floats become float32.

    Raises ModelError when a parameter is missing, has another shape, or is not finite.
    """
    stored = {re.sub(r"^(arg|aux):", "", name): value for name, value in _read(params_file).items()}
    variables = [node for node in graph.topological() if node.is_variable]
    required = _required(graph)
    names = _match(variables, stored, required, symbol_file, params_file)
    return {name: _checked(name, stored[source], params_file, name in required) for name, source in names.items()}


def read_arrays(params_file, prefix):
    """The arrays of a file whose names begin with `prefix` (a tuple: any of them), in the order of the file."""
    return {name: value for name, value in _read(params_file).items() if name.startswith(prefix)}


def _read(path):
    try:
        with open_regular(path):
            pass
    except FileNotFoundError:
        raise ModelError(f"params file {path} does not exist") from None
    except OSError as error:
        raise ModelError(f"params file {plain_error(error)}") from None
    try:
        stored = mx.nd.load(path)
    except UnicodeEncodeError:
        raise ModelError(f"params file {path!r} has a path that is not UTF-8, which MXNet needs; rename the file or its "
                         "folder") from None
    except (mx.MXNetError, OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not a complete MXNet params file ({os.path.getsize(path)} bytes)"
                         f"{_other_kind(path)}") from error
    if isinstance(stored, list) and stored:
        raise ModelError(f"{path} holds {len(stored)} arrays without names; save the parameters by name")
    stored, arrays = dict(stored), {}
    for name in list(stored):  # one by one, so that memory never holds all of them twice
        arrays[name] = stored.pop(name).asnumpy()
    return arrays


def _other_kind(path):
    """What else a file may be that is no params file, and what to do."""
    with open(path, "rb") as stream:
        swapped = stream.read(1) == b"{"
    return ", but looks like a symbol file: have the two been swapped?" if swapped else \
        "; it may be truncated: copy or export it again"


def _required(graph):
    found = {}
    for node in graph.topological():
        for i in _PARAM_INPUTS.get(node.op, ()):
            if i < len(node.inputs) and node.inputs[i].node.is_variable:
                found[node.inputs[i].node.name] = node
    return found


def _match(variables, stored, required, symbol_file, params_file):
    """variable name -> name in the file, for every variable the file has a value for."""
    names = {v.name: v.name for v in variables if v.name in stored}
    if not names and stored:
        names = _match_by_prefix(variables, stored) or _match_by_structure(variables, stored, required, params_file)
    missing = [name for name in required if name not in names]
    if missing:
        unused = sorted(set(stored) - set(names.values()))
        raise ModelError(f"{params_file} has no value for {_some(missing)}, needed by {required[missing[0]].name} "
                         f"({required[missing[0]].op}) in {symbol_file}; it holds {_some(unused) if unused else 'no other'} "
                         "that the symbol does not use. Do the two files belong together?")
    return names


def _match_by_prefix(variables, stored):
    for variable in variables:
        for source in stored:
            if variable.name.endswith(source) and len(variable.name) > len(source):
                prefix = variable.name[:-len(source)]
                names = {v.name: v.name[len(prefix):] for v in variables
                         if v.name.startswith(prefix) and v.name[len(prefix):] in stored}
                if len(names) == len(stored):
                    return names
    return {}


def _match_by_structure(variables, stored, required, params_file):
    """Pair `features.0.weight`, ... with the symbol's parameters of the same kind and shape, in order.

    Blocks register their layers in the order they are made, which is the order MXNet numbers their names in. Within one
    kind and shape that order must be the order of execution too, else the pairing would be a guess and is refused.
    """
    groups = {}
    for source, value in stored.items():
        groups.setdefault((_kind(source), value.shape), []).append(source)
    names, left = {}, [v for v in variables if v.name in required]
    for (kind, shape), sources in groups.items():
        fitting = [v.name for v in left if _kind(v.name) == kind and _fits(v, shape)]
        if len(fitting) != len(sources) or fitting != sorted(fitting, key=_natural):
            raise ModelError(f"{params_file} names its parameters by position ({sources[0]}, ...), and {len(sources)} of them "
                             f"({kind} {shape}) cannot be told apart from the symbol alone, which has {len(fitting)} that fit. "
                             "Save the network with net.export(prefix), which writes names the symbol knows")
        names.update(zip(fitting, sources))
    return names


def _kind(name):
    word = re.split(r"[._]", name)[-1]
    if word in ("mean", "var"):
        word = "running_" + word
    return _KINDS.get(word, word)


def _fits(variable, shape):
    declared = variable.tuple("__shape__")  # 0 stands for an extent the network was not told
    return not declared or (len(declared) == len(shape) and all(d in (0, n) for d, n in zip(declared, shape)))


def _natural(name):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _checked(name, value, path, of_layer):
    if value.dtype.kind == "f":
        value = value.astype(np.float32, copy=False)
        if np.isnan(value).any() or (of_layer and not np.isfinite(value).all()):  # else infinity may be a bound, or a mask
            raise ModelError(f"parameter {name} in {path} holds {int((~np.isfinite(value)).sum())} values of {value.size} that "
                             "are not finite; the training has diverged, or the file is damaged")
    return value


def _some(names):
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
