"""Fingerprints: what a kept stage result was made from, so that a stale one is refused and not silently used.

Beside the files of a stage lies `<prefix>.<stage>.fingerprint`, JSON with the SHA-256 of the model's files, the options of
this stage and all before it, and the SHA-256 of the kept files themselves. It is written last; until then another one stands
there, which says that the stage is not complete.
"""
import json
import os

from mrt import __version__
from mrt.errors import MRTError, plain_error
from mrt.files import atomic_write, model_files, read_text, sha256
from mrt.pipeline.config import STAGES, checkpoint_files
from mrt.quantization.techniques import TECHNIQUES

__all__ = ["CheckpointError", "begin", "store", "verify"]

# Options that change the result of a stage; those of earlier stages count as well.
_OPTIONS = {
    "PREPARE": ("input_shape",),
    "SPLIT_MODEL": ("keys",),
    "CALIBRATION": ("dataset", "dataset_dir", "batch", "calibrate_num", "lambda_", "calibrate_method"),
    "QUANTIZATION": ("input_precision", "output_precision", "softmax_lambd", "shift_bits", "thresholds", "restore_name",
                     "operand_precision", "preset", *TECHNIQUES),
    "MERGE_MODEL": ("attribute_deps", "oscale_maps"),
}


MAX_FINGERPRINT_BYTES = 1 << 26


class CheckpointError(MRTError):
    """A kept result that does not belong to the present model or settings."""


def plain(value):
    """A settings value as JSON has it: maps as dicts, tuples as lists."""
    if hasattr(value, "items"):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _digests(paths):
    return {os.path.basename(path): sha256(path) for path in paths}


def _path(settings, stage):
    return f"{settings.kept_prefix}.{stage.lower()}.fingerprint"


def _options(settings, stage):
    """'[SECTION] Key' -> value for every option that the result of `stage` depends on."""
    options = {"[DEFAULT] Seed": settings.default.seed}
    for section in STAGES[1:STAGES.index(stage) + 1]:
        part = settings.default if section == "PREPARE" else settings.section(section)
        name = "DEFAULT" if section == "PREPARE" else section
        for option in _OPTIONS[section]:
            options[f"[{name}] {option.rstrip('_').capitalize()}"] = plain(getattr(part, option))
    return options


def _kept(settings, stage):
    return checkpoint_files(settings.kept_prefix, stage, bool(settings.split_model.keys))


def begin(settings, stage):
    """Mark what `stage` has kept as incomplete, before the first of its files is written."""
    atomic_write(_path(settings, stage), json.dumps({"stage": stage, "incomplete": True}) + "\n")


def store(settings, stage):
    """Write the fingerprint of `stage`, whose files have just been written; returns the paths of all of them."""
    files = _kept(settings, stage)
    record = {"stage": stage, "mrt": __version__, "model": _digests(model_files(settings.prefix)),
              "options": _options(settings, stage), "kept": _digests(files)}
    atomic_write(_path(settings, stage), json.dumps(record, indent=2, sort_keys=True) + "\n")
    return [*files, _path(settings, stage)]


def verify(settings, stage):
    """Refuse a kept result that is stale. Returns a notice when there is no fingerprint to compare with, else None.

    CheckpointError says what has changed since. Results of the original MRT come without a fingerprint.
    """
    path = _path(settings, stage)
    if not os.path.exists(path):
        return f"no fingerprint {path}: the check point of {stage} is taken as it is"
    record = _read(path)
    if record.get("incomplete"):
        raise CheckpointError(f"the check point of {stage} is incomplete: a run ended while it was being written; "
                              f"set Start to an earlier stage ({settings.where('DEFAULT', 'Start')})")
    for what, found in (("model", _digests(model_files(settings.prefix))), ("kept", _digests(_kept(settings, stage)))):
        changed = [name for name, digest in found.items() if record[what].get(name) != digest]
        if changed:
            raise CheckpointError(f"the check point of {stage} is stale: {', '.join(changed)} changed after it was "
                                  f"written; {_remedy(settings)}")
    for option, value in _options(settings, stage).items():
        if record["options"].get(option) != value:
            raise CheckpointError(f"the check point of {stage} is stale: it was made with {option} = "
                                  f"{_shown(record['options'].get(option))}, now it is {_shown(value)}; "
                                  f"{_remedy(settings)}")
    return None


def _read(path):
    try:
        record = json.loads(read_text(path, MAX_FINGERPRINT_BYTES))
        if "incomplete" not in record and not all(isinstance(record[key], dict) for key in ("model", "options", "kept")):
            raise ValueError("model, options or kept is no map")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a fingerprint ({plain_error(error)}); start from an earlier stage with "
                              "Dump = True to write it again") from error
    return record


def _shown(value):
    return "(nothing)" if value in (None, [], {}) else json.dumps(value)


def _remedy(settings):
    return (f"set Start to an earlier stage ({settings.where('DEFAULT', 'Start')}), or undo the change")
