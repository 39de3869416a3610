"""What is kept of an MRT object: the `.ext` file, and the arrays beside the parameters.

The file has one JSON document per line: old output names, thresholds, precisions, scales (the four
lines of the original), and the settings. Reading accepts what `write` writes and refuses all else
by name.
"""
import difflib

import numpy as np

from mrt import sim_quant_helper as sim
from mrt.arithmetic import MAX_BITS
from mrt.errors import ModelError, MRTError
from mrt.frontend import mxnet_params
from mrt.quantization.calibrate import Channels, Sensitivity
from mrt.quantization.input_precisions import InputPrecisions
from mrt.quantization.techniques import SETTINGS, checked_techniques
from mrt.rounding import Gram

__all__ = ["arrays", "read", "read_arrays", "write"]

GRAM, SAMPLE = "gram:", "sample:"  # prefixes of arrays: of a rounding.Gram, of `MRT.samples`


# ---- the .ext file -------------------------------------------------------------------------------

def write(ext_file, mrt, keeps_arrays, digests):
    """Write the file of an MRT object. `keeps_arrays`: do `arrays` stand beside the parameters?
    `digests`: SHA-256 of the other files by the ends of their names."""
    settings = {"softmax_lambd": mrt.softmax_lambd, "shift_bits": mrt.shift_bits,
                "restore_names": sorted(mrt.restore_names),
                "op_input_precs": mrt.op_input_precs.changed, "techniques": mrt.techniques,
                "preset": mrt.preset, "keeps_arrays": keeps_arrays,
                "channels": {name: [np.asarray(v).tolist() for v in seen]
                             for name, seen in mrt.channels.items()},
                "sensitivities": {name: [[v.tolist() for v in one] for one in found]
                                  for name, found in mrt.sensitivities.items()},
                "sha256": digests}
    sim.save_ext(ext_file, mrt.old_names, mrt.th_dict, mrt.precs, mrt.scales, settings)


def read(ext_file):
    """The attributes of the MRT object that the file was written from, by name, and `keeps_arrays`.
    ModelError says which line or key holds what it cannot."""
    lines = sim.load_ext(ext_file)
    if len(lines) not in (4, 5):
        raise ModelError(f"{ext_file} has {len(lines)} lines, expected 4 or 5; write the checkpoint "
                         "again")
    found = {name: _checked(check, value, f"{ext_file}, line {number}: {name}")
             for number, ((name, check), value) in enumerate(zip(_LINES.items(), lines), 1)}
    where = f"{ext_file}, line 5"
    settings = _checked(_map(lambda value: value), lines[4] if len(lines) == 5 else {},
                        f"{where}: the settings")
    for name, value in settings.items():
        if name not in _SETTINGS:
            close = difflib.get_close_matches(name, _SETTINGS, 1)
            raise ModelError(f"{where}: unknown setting {name!r}, " + (
                f"did you mean {close[0]!r}?" if close else
                f"expected some of {', '.join(_SETTINGS)}"))
        found[name] = _checked(_SETTINGS[name], value, f"{where}: {name}")
    found.pop("sha256", None)  # load_ext has compared them
    return found


def _checked(check, value, where):
    try:
        return check(value)
    except MRTError as error:
        raise ModelError(f"{where}: {error}; if another version wrote the file, write it "
                         "again") from None


def _is(kind, what):
    """A check that a value is of a type, or has items of such a type."""
    def check(value):
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise MRTError(f"found {value!r:.60}, expected {what}")
        return value
    return check


def _list(check):
    return lambda value: [check(item) for item in _is(list, "a list")(value)]


def _map(check):
    return lambda value: {name: check(item)
                          for name, item in _is(dict, "a map by name")(value).items()}


def _either(scale):
    """A scale, a list with one per channel, or lists in lists that broadcast with the tensor."""
    return _list(_either)(scale) if isinstance(scale, list) else _NUMBER(scale)


def _vectors(kind, value):
    """A NamedTuple of float arrays from the list of its fields."""
    try:
        return kind(*(np.array(v, np.float64) for v in _is(list, "a list of vectors")(value)))
    except (TypeError, ValueError):
        raise MRTError(f"expected lists of numbers for {', '.join(kind._fields)}") from None


def _bits(value):
    if not 1 <= _is(int, "a number of bits")(value) <= MAX_BITS:
        raise MRTError(f"found {value}, expected from 1 to {MAX_BITS} bits")
    return value


_NUMBER, _NAME = _is((int, float), "a number"), _is(str, "a name")
_LINES = {"old_names": _list(_NAME), "th_dict": _map(SETTINGS["thresholds"].checked),
          "precs": _map(_map(_bits)), "scales": _map(_either)}
_SETTINGS = {**{name: SETTINGS[name].checked for name in ("softmax_lambd", "shift_bits", "preset")},
             "restore_names": lambda value: set(_list(_NAME)(value)),
             "op_input_precs": lambda value: InputPrecisions(_map(_bits)(value)),
             "techniques": lambda value: checked_techniques(_map(lambda item: item)(value)),
             "keeps_arrays": _is(bool, "true or false"),
             "sha256": _map(_NAME),
             "channels": _map(lambda value: _vectors(Channels, value)),
             "sensitivities": _map(_list(lambda value: _vectors(Sensitivity, value)))}


# ---- arrays beside the parameters ----------------------------------------------------------------

def arrays(grams, samples):
    """What adaptive rounding (layer -> Gram) and empirical bias correction (list of arrays) need, as
    arrays by name."""
    found = {f"{GRAM}{field}:{name}": np.atleast_1d(np.asarray(getattr(gram, field), np.float64))
             for name, gram in grams.items() for field in Gram.__slots__}
    found.update({f"{SAMPLE}{i}": values for i, values in enumerate(samples)})
    return found


def read_arrays(path):
    """(grams, samples) as `arrays` took them, from a params file."""
    grams, samples = {}, []
    for name, value in mxnet_params.read_arrays(path, (GRAM, SAMPLE)).items():
        if name.startswith(SAMPLE):
            samples.append(value)
            continue
        field, layer = name[len(GRAM):].split(":", 1)
        setattr(grams.setdefault(layer, Gram()), field, value if value.ndim > 1 else value.item())
    return grams, samples
