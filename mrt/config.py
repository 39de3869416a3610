"""The configuration file: an `.ini` reader, the schema of every section and key, and the checks before the first stage.

    settings = load("model_zoo/mnist.ini")
    settings.calibration.batch          # 16, an int
    settings.where("CALIBRATION", "Batch")   # "model_zoo/mnist.ini:14: [CALIBRATION] Batch"

The file: `[SECTION]` lines, `Key = value` lines, comments on lines of their own that begin with `#` or `;`, and values
that go on over indented lines. Every section inherits the keys of [DEFAULT]. An absent key and an empty value both mean
the default. Text is parsed, never evaluated. Relative paths start at the folder of the file.
"""
import dataclasses
import difflib
import importlib
import importlib.util
import math
import os
import re
import sys
import types
from typing import Any, Callable, Mapping, NamedTuple, Optional, Tuple

from mrt import conf
from mrt.errors import MRTError
from mrt.utils import extend_fname, plain_error

__all__ = ["STAGES", "ConfigError", "Settings", "check", "checkpoint_files", "explain", "load"]

STAGES = ("DEFAULT", "PREPARE", "SPLIT_MODEL", "CALIBRATION", "QUANTIZATION", "MERGE_MODEL")  # values of Start, in order


class ConfigError(MRTError):
    """Everything wrong with a configuration; `problems` holds one sentence each."""

    def __init__(self, problems):
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


# ---- text to values --------------------------------------------------------------------------------------------------

class Kind(NamedTuple):
    """How the text of a value is read: `parse` raises ValueError, whose text, if any, says what is wrong with it."""

    expected: str
    parse: Callable[[str], Any]


def _int(text):
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError
    return int(text)


def _float(text):
    value = float(text)
    if "_" in text or not math.isfinite(value):
        raise ValueError
    return value


def _bool(text):
    return {"true": True, "false": False}.get(text.lower()) if text.lower() in ("true", "false") else _fail("")


def _fail(reason):
    raise ValueError(reason)


def _items(text):
    """The parts between commas; one comma at the very end is allowed."""
    items = [item.strip() for item in text.split(",")]
    if len(items) > 1 and not items[-1]:
        items.pop()
    for item in items:
        if not item:
            raise ValueError("there is nothing between two commas")
        if "\n" in item:
            raise ValueError("a comma is missing between {!r} and {!r}".format(*item.split("\n")[:2]))
    return items


def _tuple(text):
    opening, closing = text[:1], text[-1:]
    if opening in "([" and closing in ")]" and len(text) > 1:
        text = text[1:-1]
    return tuple(_int(item) for item in _items(text))


def _one_line(text):
    return text if "\n" not in text else _fail("the text goes on over several lines")


def _list_of(kind):
    return Kind(f"a comma-separated list, each item {kind.expected}",
                lambda text: tuple(kind.parse(item) for item in _items(text)))


def _map_of(depth, kind, example):
    """`depth` names separated by colons, then a value of `kind`: nested read-only maps."""
    def parse(text):
        if text == "None":
            return types.MappingProxyType({})
        result = {}
        for item in _items(text):
            *names, value = [part.strip() for part in item.split(":")]
            if len(names) != depth or not all(names) or not value:
                raise ValueError(f"{item!r} has not the form {example!r}")
            inner = result
            for name in names[:-1]:
                inner = inner.setdefault(name, {})
            if names[-1] in inner:
                raise ValueError(f"{':'.join(names)!r} is given twice")
            try:
                inner[names[-1]] = kind.parse(value)
            except ValueError:
                raise ValueError(f"{value!r} in {item!r} is not {kind.expected}") from None
        return _read_only(result)
    return Kind(f"a comma-separated map such as {example!r}", parse)


def _read_only(mapping):
    return types.MappingProxyType({k: _read_only(v) if isinstance(v, dict) else v for k, v in mapping.items()})


STR = Kind("text on one line", _one_line)
INT = Kind("an integer", _int)
FLOAT = Kind("a number", _float)
BOOL = Kind("True or False", _bool)
PATH = Kind("a path", _one_line)
SHAPE = Kind("a shape such as (-1, 3, 224, 224) with one -1 for the batch", _tuple)
NAMES = _list_of(Kind("a name", _one_line))
INTS = _list_of(INT)


# ---- schema ----------------------------------------------------------------------------------------------------------

REQUIRED = object()


def key(kind, default, text, low=None, high=None, choices=None):
    """A dataclass field for one key: how it is read, its default, its help text and its allowed range or values."""
    meta = {"kind": kind, "default": default, "help": text, "low": low, "high": high, "choices": choices}
    return dataclasses.field(metadata=meta)


def _device_type():
    return key(STR, None, "cpu or gpu; empty: as in [DEFAULT], and there cpu", choices=("cpu", "gpu"))


def _device_ids():
    return key(INTS, (), "numbers of the devices, required for gpu", low=0)


def _dump():
    return key(BOOL, False, "keep the result of this stage, so that Start can resume behind it")


@dataclasses.dataclass(frozen=True)
class Default:
    """[DEFAULT]"""

    model_name: str = key(STR, REQUIRED, "file name of the model without .json and .params")
    input_shape: Tuple[int, ...] = key(SHAPE, REQUIRED, "shape of the input, -1 for the batch axis")
    model_dir: str = key(PATH, conf.MRT_MODEL_ROOT, "folder of the model")
    device_type: Optional[str] = _device_type()
    device_ids: Tuple[int, ...] = _device_ids()
    verbosity: int = key(INT, 0, "0 none, 10 debug, 20 info, 30 warning, 40 error, 50 critical", low=0, high=50)
    start: str = key(STR, "DEFAULT", "stage whose kept result is loaded; those before it are skipped", choices=STAGES)
    seed: int = key(INT, 0, "seed of all random numbers", low=0, high=2**32 - 1)
    report: Optional[str] = key(PATH, None, "file for a report in JSON")


@dataclasses.dataclass(frozen=True)
class Prepare:
    """[PREPARE]"""

    device_type: Optional[str] = _device_type()
    device_ids: Tuple[int, ...] = _device_ids()
    dump: bool = _dump()


@dataclasses.dataclass(frozen=True)
class SplitModel:
    """[SPLIT_MODEL]"""

    keys: Tuple[str, ...] = key(NAMES, (), "nodes to cut behind; empty: the whole model becomes integer")
    device_type: Optional[str] = _device_type()
    device_ids: Tuple[int, ...] = _device_ids()
    dump: bool = _dump()


@dataclasses.dataclass(frozen=True)
class Calibration:
    """[CALIBRATION]"""

    dataset: str = key(STR, REQUIRED, "name of a registered data set")
    dataset_dir: Optional[str] = key(PATH, None, "folder that holds a folder called like the data set")
    dataset_module: Optional[str] = key(STR, None, "Python file or module with your own data sets, imported first")
    batch: int = key(INT, 16, "images per batch", low=1)
    calibrate_num: int = key(INT, 1, "number of batches", low=1)
    lambda_: Optional[float] = key(FLOAT, None, "threshold abs(mean) + Lambda * std; empty: largest absolute value",
                                   low=0)
    calibrate_method: Optional[str] = key(STR, None, "how thresholds are chosen; empty: lambda if Lambda is set, "
                                          "else absmax")
    device_type: Optional[str] = _device_type()
    device_ids: Tuple[int, ...] = _device_ids()
    dump: bool = _dump()


@dataclasses.dataclass(frozen=True)
class Quantization:
    """[QUANTIZATION]"""

    input_precision: int = key(INT, 8, "bits of the input", low=2, high=31)
    output_precision: Optional[int] = key(INT, None, "bits of the outputs; empty: as they come", low=2, high=31)
    softmax_lambd: float = key(FLOAT, 10.0, "spread of a softmax input", low=0)
    shift_bits: int = key(INT, 5, "for Preset = original: a tensor so many bits too wide is shifted", low=0, high=31)
    thresholds: Mapping[str, float] = key(_map_of(1, FLOAT, "node: 2.64"), _read_only({}),
                                          "thresholds by node name, instead of the calibrated ones")
    restore_name: Tuple[str, ...] = key(NAMES, (), "nodes computed in floating point, to find the one that loses "
                                        "accuracy; _OP_<operator>, _ALL_EXCEPT_")
    operand_precision: Mapping[str, int] = key(_map_of(1, INT, "layer: 15"), _read_only({}),
                                               "bits of the input of single layers; above 8 they run in two parts")
    preset: str = key(STR, "default", "default, or original: what the original MRT did, for comparison",
                      choices=("default", "original"))
    weight_granularity: str = key(STR, "channel", "one weight scale per output channel, or per tensor",
                                  choices=("channel", "tensor"))
    full_range: bool = key(BOOL, True, "non-negative inputs of layers use the codes below 0 too")
    equalize: bool = key(BOOL, True, "channels of a layer's input get scales of their own where that pays")
    clip_inputs: bool = key(BOOL, True, "a layer's input is clipped where that lowers its mean square error")
    bias_correction: str = key(STR, "analytic", "biases make up for the mean error of rounded weights (analytic), or for all "
                               "that is measured on calibration data (empirical), which takes longer",
                               choices=("none", "analytic", "empirical"))
    rounding: str = key(STR, "nearest", "how weights become integers: nearest, or adaptive, which takes longer and is more "
                        "accurate", choices=("nearest", "adaptive"))
    two_part_budget: float = key(FLOAT, 0.03, "share of time, gas and bytes to spend on layers in two parts", low=0)
    device_type: Optional[str] = _device_type()
    device_ids: Tuple[int, ...] = _device_ids()
    dump: bool = _dump()


@dataclasses.dataclass(frozen=True)
class MergeModel:
    """[MERGE_MODEL]"""

    attribute_deps: Optional[Mapping] = key(_map_of(2, STR, "operator: attribute: node"), None,
                                            "attributes of the upper half to multiply by a node's scale, or None")
    oscale_maps: Optional[Mapping] = key(_map_of(1, STR, "output: node"), None,
                                         "for every output the node whose scale it has, or None")
    device_type: Optional[str] = _device_type()
    device_ids: Tuple[int, ...] = _device_ids()
    dump: bool = _dump()


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """[EVALUATION], which may be missing"""

    batch: Optional[int] = key(INT, None, "images per batch; empty: as in calibration", low=1)
    iter_num: int = key(INT, 0, "number of batches; 0: nothing is evaluated", low=0)
    dataset: Optional[str] = key(STR, None, "empty: as in calibration")
    dataset_dir: Optional[str] = key(PATH, None, "empty: as in calibration")
    device_type: Optional[str] = _device_type()
    device_ids: Tuple[int, ...] = _device_ids()


@dataclasses.dataclass(frozen=True)
class Compilation:
    """[COMPILATION], which may be missing"""

    batch: int = key(INT, 1, "images per batch of the compiled model", low=1)
    dump_dir: Optional[str] = key(PATH, None, "folder for <Model_name>_cvm; empty: Model_dir")
    dataset: Optional[str] = key(STR, None, "source of the sample batch; empty: as in calibration")
    dataset_dir: Optional[str] = key(PATH, None, "empty: as in calibration")
    device_type: Optional[str] = _device_type()
    device_ids: Tuple[int, ...] = _device_ids()


SECTIONS = {"DEFAULT": Default, "PREPARE": Prepare, "SPLIT_MODEL": SplitModel, "CALIBRATION": Calibration,
            "QUANTIZATION": Quantization, "MERGE_MODEL": MergeModel, "EVALUATION": Evaluation,
            "COMPILATION": Compilation}
OPTIONAL_SECTIONS = ("EVALUATION", "COMPILATION")


def _spelling(field):
    """The key of a field as written in a file: lambda_ is Lambda, model_dir is Model_dir."""
    return field.name.rstrip("_").capitalize()


KEYS = {section: {_spelling(f).lower(): f for f in dataclasses.fields(cls)} for section, cls in SECTIONS.items()}


def explain():
    """Every section and key with default and meaning, as text for a terminal."""
    lines = []
    for section, fields in KEYS.items():
        lines.append(f"[{section}]")
        for field in fields.values():
            default = field.metadata["default"]
            empty = default is None or default in ((), {})
            shown = "required" if default is REQUIRED else "empty" if empty else default
            lines.append(f"  {_spelling(field):<18} {shown!s:<12} {field.metadata['help']}")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Settings:
    """A configuration with every default resolved; `evaluation` and `compilation` are None without their section."""

    file: str
    default: Default
    prepare: Prepare
    split_model: SplitModel
    calibration: Calibration
    quantization: Quantization
    merge_model: MergeModel
    evaluation: Optional[Evaluation]
    compilation: Optional[Compilation]
    lines: Mapping[Tuple[str, str], int] = dataclasses.field(repr=False, compare=False)

    @property
    def prefix(self):
        """Model_dir/Model_name, the beginning of the names of all checkpoints."""
        return os.path.join(self.default.model_dir, self.default.model_name)

    def where(self, section, name):
        """'file:line: [section] name' for messages; without the line when the file does not set it."""
        return _where(self.file, self.lines.get((section, name.lower())), section, name)

    def section(self, name):
        """The settings of the section called `name` in the file."""
        return getattr(self, name.lower())


def _where(file, line, section, name):
    return f"{file}:{line}: [{section}] {name}" if line else f"{file}: [{section}] {name}"


# ---- reading the file ------------------------------------------------------------------------------------------------

class _Entry(NamedTuple):
    name: str
    text: str
    line: int


class _Reader:
    """Splits a file into sections and entries; collects what does not look like an ini file in `problems`."""

    def __init__(self, file, text):
        self.file, self.sections, self.headers, self.problems = file, {}, {}, []
        self._section = self._key = None
        self._indent = 0
        for number, line in enumerate(text.splitlines(), 1):
            stripped = line.strip()
            if stripped and stripped[0] not in "#;":
                self._line(number, stripped, len(line) - len(line.lstrip()))

    def _line(self, number, text, indent):
        if self._key is not None and indent > self._indent:
            entry = self.sections[self._section][self._key]
            joined = f"{entry.text}\n{text}" if entry.text else text
            self.sections[self._section][self._key] = entry._replace(text=joined)
        elif text[0] == "[":
            self._header(number, text)
        else:
            self._entry(number, text, indent)

    def _header(self, number, text):
        self._key = None
        match = re.fullmatch(r"\[\s*([^\[\]]+?)\s*\]\s*([#;].*)?", text)
        if not match:
            self._problem(number, f"found {text!r}, expected a section such as [CALIBRATION]")
            return
        self._section = match.group(1)
        if self._section in self.sections:
            self._problem(number, f"section [{self._section}] stands twice, first in line "
                                  f"{self.headers[self._section]}; put its keys together")
        self.sections.setdefault(self._section, {})
        self.headers.setdefault(self._section, number)

    def _entry(self, number, text, indent):
        match = re.match(r"([^=:]+?)\s*[=:]\s*(.*)", text, re.DOTALL)
        if not match or self._section is None:
            self._key = None
            where = "before the first section" if match else "without '='"
            self._problem(number, f"found {text!r} {where}, expected 'Key = value' below a [SECTION]")
            return
        name, value = match.groups()
        self._key, self._indent = name.lower(), indent
        entries = self.sections[self._section]
        if self._key in entries:
            self._problem(number, f"[{self._section}] {name}: set twice, first in line {entries[self._key].line}; "
                                  "remove one of the two")
        entries[self._key] = _Entry(name, value.strip(), number)

    def _problem(self, number, text):
        self.problems.append(f"{self.file}:{number}: {text}")


def _did_you_mean(name, known):
    """A question after the nearest of `known`, empty when nothing is near."""
    lowered = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), lowered, 1, 0.6)
    return f"did you mean {lowered[close[0]]!r}?" if close else ""


def _nearest(name, known):
    """What to write in place of `name`: the nearest of `known`, or the list of them."""
    return _did_you_mean(name, known) or f"expected one of {', '.join(sorted(known))}"


class _Builder:
    """Turns entries into settings and collects every problem on the way."""

    def __init__(self, reader):
        self.file, self.sections, self.headers = reader.file, reader.sections, reader.headers
        self.problems = list(reader.problems)

    def build(self):
        self._report_unknown()
        parts = {name.lower(): self._section(name) for name in SECTIONS}
        lines = {(s, k): entry.line for s, entries in self.sections.items() for k, entry in entries.items()}
        for name in SECTIONS:  # what a section inherits stands where [DEFAULT] sets it
            for k, entry in self.sections.get("DEFAULT", {}).items():
                lines.setdefault((name, k), entry.line)
        return Settings(file=self.file, lines=types.MappingProxyType(lines), **parts)

    def _report_unknown(self):
        anywhere = {_spelling(f) for fields in KEYS.values() for f in fields.values()}
        for section, entries in self.sections.items():
            if section not in SECTIONS:
                self.problems.append(f"{self.file}:{self.headers[section]}: unknown section [{section}], "
                                     + _nearest(section, SECTIONS))
                continue
            for name, entry in entries.items():
                homes = [s for s, fields in KEYS.items() if name in fields]
                if section in homes or (section == "DEFAULT" and homes):
                    continue
                remedy = f"it belongs in [{'] or ['.join(homes)}]" if homes else \
                    _nearest(entry.name, {_spelling(f) for f in KEYS[section].values()} or anywhere)
                self.problems.append(f"{_where(self.file, entry.line, section, entry.name)}: "
                                     f"{'not a key of this section' if homes else 'unknown key'}, {remedy}")

    def _section(self, name):
        if name in OPTIONAL_SECTIONS and name not in self.sections:
            return None
        return SECTIONS[name](**{field.name: self._value(name, k, field) for k, field in KEYS[name].items()})

    def _value(self, section, name, field):
        """The value of a key: the section's own, else what [DEFAULT] says, else the schema's default."""
        meta = field.metadata
        entry = next((e for e in (self.sections.get(s, {}).get(name) for s in (section, "DEFAULT")) if e and e.text),
                     None)
        if entry is None or (entry.text == "None" and meta["default"] is None and "map" not in meta["kind"].expected):
            if meta["default"] is REQUIRED:
                self.problems.append(f"{_where(self.file, None, section, _spelling(field))}: not set, expected "
                                     f"{meta['kind'].expected}: {meta['help']}")
                return None
            return meta["default"]
        try:
            return self._checked(meta, entry.text)
        except ValueError as error:
            detail = f"; {error}" if str(error) and " convert " not in str(error) else ""
            self.problems.append(f"{_where(self.file, entry.line, section, entry.name)}: found {entry.text!r}, "
                                 f"expected {_expected(meta)}{detail}")
            return None

    def _checked(self, meta, text):
        value = meta["kind"].parse(text)
        if meta["kind"] is PATH:
            return os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(self.file)), os.path.expanduser(value)))
        if meta["choices"] and value not in meta["choices"]:
            raise ValueError(_did_you_mean(value, meta["choices"]))
        numbers = value if isinstance(value, tuple) else (value,)
        for low, sign in ((meta["low"], 1), (meta["high"], -1)):
            if low is not None and any(sign * n < sign * low for n in numbers):
                raise ValueError("")
        return value


def _expected(meta):
    if meta["choices"]:
        return f"one of {', '.join(meta['choices'])}"
    low, high = meta["low"], meta["high"]
    limits = f" from {low} to {high}" if high is not None else f" of at least {low}" if low is not None else ""
    return meta["kind"].expected + limits


def load(path):
    """Read and check the text of the configuration at `path`. Raises ConfigError with every problem found.

    `check` looks at the files and folders it names.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            reader = _Reader(os.fspath(path), stream.read())
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not a text file in UTF-8 (byte {error.start})"]) from error
    except OSError as error:
        raise ConfigError([f"configuration {plain_error(error)}"]) from error
    builder = _Builder(reader)
    settings = builder.build()
    if not builder.problems:
        settings = _resolve(settings)
        builder.problems += _contradictions(settings)
    if builder.problems:
        raise ConfigError(builder.problems)
    return settings


# ---- what depends on several keys ------------------------------------------------------------------------------------

def _resolve(settings):
    """Fill in what one section takes from another."""
    base, calibration = settings.default, settings.calibration
    default = dataclasses.replace(base, device_type=base.device_type or "cpu")
    parts = {"default": default}
    for name in (s.lower() for s in SECTIONS if s != "DEFAULT"):
        part = getattr(settings, name)
        if part is None:
            continue
        changes = {"device_type": part.device_type or default.device_type}
        if name in ("evaluation", "compilation"):
            changes["dataset"] = part.dataset or calibration.dataset
            changes["dataset_dir"] = part.dataset_dir or calibration.dataset_dir
        if name == "evaluation":
            changes["batch"] = part.batch or calibration.batch
        if name == "compilation":
            changes["dump_dir"] = part.dump_dir or default.model_dir
        if name == "calibration":
            changes["calibrate_method"] = part.calibrate_method or ("absmax" if part.lambda_ is None else "lambda")
        parts[name] = dataclasses.replace(part, **changes)
    return dataclasses.replace(settings, **parts)


def _contradictions(settings):
    """Problems that need no look at the disk."""
    from mrt.calibrate import METHODS  # imports MXNet, which is not needed to read a file
    from mrt.quantize import TECHNIQUES
    default, split, merge = settings.default, settings.split_model, settings.merge_model
    problems = []

    def problem(section, name, text):
        problems.append(f"{settings.where(section, name)}: {text}")

    shape = default.input_shape
    if shape.count(-1) != 1 or any(n != -1 and n < 1 for n in shape):
        problem("DEFAULT", "Input_shape", f"found {shape}, expected one -1 for the batch and positive sizes otherwise")
    if os.path.basename(default.model_name) != default.model_name:
        problem("DEFAULT", "Model_name", f"found {default.model_name!r}, expected a name without folders; set Model_dir")
    for name, value in (("Attribute_deps", merge.attribute_deps), ("Oscale_maps", merge.oscale_maps)):
        if split.keys and value is None:
            problem("MERGE_MODEL", name, f"not set, but needed because [SPLIT_MODEL] Keys is set; {name} = None if "
                    "there is nothing to map" if name == "Attribute_deps" else
                    "not set, but needed because [SPLIT_MODEL] Keys is set; name every output")
        if value and not split.keys:
            problem("MERGE_MODEL", name, "set, but without [SPLIT_MODEL] Keys nothing is merged; set Keys or remove it")
    if len(set(split.keys)) != len(split.keys):
        problem("SPLIT_MODEL", "Keys", "a node stands twice; name each one once")
    if default.start in ("SPLIT_MODEL", "MERGE_MODEL") and not split.keys:
        problem("DEFAULT", "Start", f"{default.start} needs [SPLIT_MODEL] Keys; set Keys or start earlier")
    if settings.calibration.calibrate_method not in METHODS:
        problem("CALIBRATION", "Calibrate_method", f"found {settings.calibration.calibrate_method!r}, expected one of "
                f"{_joined(METHODS)}")
    if settings.calibration.calibrate_method == "lambda" and settings.calibration.lambda_ is None:
        problem("CALIBRATION", "Calibrate_method", "lambda needs a value for Lambda, such as Lambda = 16")
    if settings.calibration.lambda_ is not None and settings.calibration.calibrate_method != "lambda":
        problem("CALIBRATION", "Lambda", f"set, but Calibrate_method is {settings.calibration.calibrate_method}, which "
                "does not use it; remove one of the two")
    if settings.quantization.preset != "default":
        for name in (*TECHNIQUES, "operand_precision"):
            if ("QUANTIZATION", name) in settings.lines:
                problem("QUANTIZATION", name.capitalize(), f"Preset = {settings.quantization.preset} knows nothing of it; remove "
                        "one of the two")
    for node, threshold in settings.quantization.thresholds.items():
        if threshold < 0:
            problem("QUANTIZATION", "Thresholds", f"found {threshold:g} for {node}, expected a number of at least 0")
    problems.extend(_device_problems(settings))
    return problems


def _device_problems(settings):
    problems = []
    for section in SECTIONS:
        part = settings.section(section)
        if part is None or part.device_type != "gpu":
            continue
        single = section in ("CALIBRATION", "COMPILATION")
        if not part.device_ids:
            problems.append(f"{settings.where(section, 'Device_ids')}: not set, but needed because Device_type is gpu; "
                            "write Device_ids = 0 for the first GPU")
        elif single and len(part.device_ids) > 1:
            problems.append(f"{settings.where(section, 'Device_ids')}: found {_joined(part.device_ids)}, expected one "
                            "device in this section")
        elif section == "EVALUATION" and part.batch % len(part.device_ids):
            problems.append(f"{settings.where(section, 'Batch')}: found {part.batch}, expected a multiple of "
                            f"{len(part.device_ids)}, the number of devices")
    return problems


def _joined(values):
    return ", ".join(str(v) for v in values)


# ---- what depends on the disk ----------------------------------------------------------------------------------------

def checkpoint_files(prefix, stage, split):
    """Files that hold the result of `stage`; `split`: whether there is an upper half besides."""
    top = list(extend_fname(f"{prefix}.top")) if split else []
    return {"DEFAULT": list(extend_fname(prefix)),
            "PREPARE": list(extend_fname(f"{prefix}.prepare")),
            "SPLIT_MODEL": list(extend_fname(f"{prefix}.base")) + top,
            "CALIBRATION": list(extend_fname(f"{prefix}.mrt.calibrate", True)) + top,
            "QUANTIZATION": list(extend_fname(f"{prefix}.mrt.quantize", True)) + top,
            "MERGE_MODEL": list(extend_fname(f"{prefix}.all.quantize", True))}[stage]


def check(settings):
    """Look at every file, folder and data set the settings name. Raises ConfigError with every problem found."""
    problems = _model_problems(settings) + _dataset_problems(settings) + _output_problems(settings)
    if problems:
        raise ConfigError(problems)


def _model_problems(settings):
    default, problems = settings.default, []
    if not os.path.isdir(default.model_dir):
        return [f"{settings.where('DEFAULT', 'Model_dir')}: no folder {default.model_dir}; name the folder of the model"]
    missing = [f for f in extend_fname(settings.prefix) if not os.path.isfile(f)]
    if missing:
        problems.append(f"{settings.where('DEFAULT', 'Model_name')}: no file {' and no file '.join(missing)}; put the "
                        f"model there or correct Model_dir and Model_name{_similar_models(settings)}")
    if default.start != "DEFAULT":
        needed = checkpoint_files(settings.prefix, default.start, bool(settings.split_model.keys))
        missing = [f for f in needed if not os.path.isfile(f)]
        if missing:
            problems.append(f"{settings.where('DEFAULT', 'Start')}: Check point of `{default.start}` not found, please "
                            f"move the start point earlier (no file {_joined(missing)}; a stage keeps its result with "
                            "Dump = True)")
    return problems


def _similar_models(settings):
    names = [f[:-len(".params")] for f in os.listdir(settings.default.model_dir) if f.endswith(".params")]
    close = difflib.get_close_matches(settings.default.model_name, names, 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close and close[0] != settings.default.model_name else ""


def _dataset_problems(settings):
    try:
        import_dataset_module(settings)
    except ConfigError as error:
        return list(error.problems)
    from mrt.dataset import DS_REG, DatasetError  # imports MXNet, which is not needed to read a configuration
    problems, checked = [], set()
    for section in ("CALIBRATION", "EVALUATION", "COMPILATION"):
        part = settings.section(section)
        if part is None or (part.dataset, part.dataset_dir) in checked:
            continue
        checked.add((part.dataset, part.dataset_dir))
        cls = DS_REG.get(part.dataset)
        if cls is None:
            problems.append(f"{settings.where(section, 'Dataset')}: found {part.dataset!r}, expected a registered data "
                            f"set, {_nearest(part.dataset, DS_REG)} (Dataset_module imports a file with your own)")
            continue
        try:
            cls.locate(part.dataset_dir)
        except DatasetError as error:
            problems.append(f"{settings.where(section, 'Dataset')}: {error}")
    return problems


def import_dataset_module(settings):
    """Import Dataset_module, once however often it is asked for: a path ending in .py, or a module's name."""
    text = settings.calibration.dataset_module
    if not text:
        return
    where = settings.where("CALIBRATION", "Dataset_module")
    try:
        if not text.endswith(".py"):
            importlib.import_module(text)
            return
        path = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(settings.file)), os.path.expanduser(text)))
        name = "mrt_dataset_module_" + re.sub(r"\W", "_", path)
        if name in sys.modules:
            return
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    except Exception as error:  # whatever the user's module raises
        raise ConfigError([f"{where}: {text} cannot be imported ({type(error).__name__}: {plain_error(error)})"]) \
            from error


def _output_problems(settings):
    """Folders that stages will write into: they exist and are writable, or can be made."""
    outputs = []
    if settings.compilation:
        outputs.append(("COMPILATION", "Dump_dir", settings.compilation.dump_dir))
    if settings.default.report:
        outputs.append(("DEFAULT", "Report", os.path.dirname(settings.default.report)))
    outputs += [(s, "Dump", settings.default.model_dir) for s in STAGES[1:] if settings.section(s).dump]
    problems = []
    for section, name, folder in outputs:
        reason = _not_writable(folder)
        if reason:
            problems.append(f"{settings.where(section, name)}: cannot write into {folder}: {reason}; choose another "
                            "folder or change its permissions")
    return problems


def _not_writable(folder):
    """Why no file can be made in `folder`, which need not exist yet; None if one can."""
    while not os.path.lexists(folder):
        parent = os.path.dirname(folder)
        if parent == folder:
            return "there is no such file system"
        folder = parent
    if not os.path.isdir(folder):
        return f"{folder} is not a folder"
    return None if os.access(folder, os.W_OK | os.X_OK) else f"no permission to write into {folder}"
