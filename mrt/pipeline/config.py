"""The configuration file: an `.ini` reader, the schema of every section and key, and the checks before the first stage.

    settings = load("model_zoo/mnist.ini")
    settings.calibration.batch          # 16, an int
    settings.where("CALIBRATION", "Batch")   # "model_zoo/mnist.ini:14: [CALIBRATION] Batch"

The file: `[SECTION]` lines, `Key = value` lines, comments on lines of their own that begin with `#` or `;`, and values
that go on over indented lines. Every section inherits the keys of [DEFAULT]. An absent key and an empty value both mean
the default. Text is parsed, never evaluated. Relative paths start at the folder of the file, those that begin with `$PWD/` at
the current folder.
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
from mrt.errors import MRTError, plain_error, shortened
from mrt.files import extend_fname, model_files, read_text
from mrt.quantization.techniques import SETTINGS, TECHNIQUES

__all__ = ["COMPILED_FILES", "STAGES", "ConfigError", "Settings", "check", "checkpoint_files", "explain", "find", "load",
           "suggestion", "unwritable"]

MAX_BYTES = 1 << 24  # of a configuration
MAX_ELEMENTS = 2**31 - 1  # of a tensor of MXNet, hence of batches and devices too
COMPILED_FILES = ("symbol", "params", "data.npy", "ext")
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
    return int(text) if len(text) < 20 else _fail(f"that is a number of {len(text)} digits")


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


IGNORED = "; ignored: nothing in this section is computed on a device"


def of_table(name):
    """The field for a setting of `mrt.quantization.techniques`."""
    setting = {**SETTINGS, **TECHNIQUES}[name]
    return key({bool: BOOL, int: INT, float: FLOAT, str: STR}[setting.kind], setting.default, setting.help, setting.low,
               setting.high, setting.choices or None)


def by_node(name, example):
    """The field for a map from node names to values of a setting of `mrt.quantization.techniques`, empty by default."""
    setting = SETTINGS[name]

    def parse(text):
        try:
            return setting.checked({int: _int, float: _float}[setting.kind](text))
        except MRTError:
            raise ValueError from None
    return key(_map_of(1, Kind(setting.expected, parse), example), _read_only({}), setting.help)


def _device_type(ignored=False):
    return key(STR, None, "cpu or gpu; empty: as in [DEFAULT], and there cpu" + IGNORED * ignored, choices=("cpu", "gpu"))


def _device_ids(ignored=False):
    return key(INTS, (), "numbers of the devices, required for gpu" + IGNORED * ignored, low=0, high=MAX_ELEMENTS)


def _dump():
    return key(BOOL, False, "keep the result of this stage, so that Start can resume behind it")


@dataclasses.dataclass(frozen=True)
class Default:
    """[DEFAULT]"""

    model_name: str = key(STR, REQUIRED, "file name of the model without .json and .params")
    input_shape: Tuple[int, ...] = key(SHAPE, REQUIRED, "shape of the input, -1 for the batch axis")
    model_dir: str = key(PATH, conf.MRT_MODEL_ROOT, "folder of the model")
    output_dir: Optional[str] = key(PATH, None, "folder for what the run writes: kept stages and, unless Dump_dir says "
                                    "another, <Model_name>_cvm; empty: Model_dir")
    device_type: Optional[str] = _device_type()
    device_ids: Tuple[int, ...] = _device_ids()
    verbosity: int = key(INT, 0, "0 none, 10 debug, 20 info, 30 warning, 40 error, 50 critical", low=0, high=50)
    start: str = key(STR, "DEFAULT", "stage whose kept result is loaded; those before it are skipped", choices=STAGES)
    seed: int = key(INT, 0, "seed of all random numbers", low=0, high=2**32 - 1)
    report: Optional[str] = key(PATH, None, "file for a report in JSON")


@dataclasses.dataclass(frozen=True)
class Prepare:
    """[PREPARE]"""

    device_type: Optional[str] = _device_type(ignored=True)
    device_ids: Tuple[int, ...] = _device_ids(ignored=True)
    dump: bool = _dump()


@dataclasses.dataclass(frozen=True)
class SplitModel:
    """[SPLIT_MODEL]"""

    keys: Tuple[str, ...] = key(NAMES, (), "nodes to cut behind; empty: the whole model becomes integer")
    device_type: Optional[str] = _device_type(ignored=True)
    device_ids: Tuple[int, ...] = _device_ids(ignored=True)
    dump: bool = _dump()


@dataclasses.dataclass(frozen=True)
class Calibration:
    """[CALIBRATION]"""

    dataset: str = key(STR, REQUIRED, "name of a registered data set")
    dataset_dir: Optional[str] = key(PATH, None, "folder that holds a folder called like the data set")
    dataset_module: Optional[str] = key(STR, None, "Python file or module with your own data sets, imported first")
    batch: int = key(INT, 16, "images per batch", low=1, high=MAX_ELEMENTS)
    calibrate_num: int = key(INT, 1, "number of batches", low=1, high=MAX_ELEMENTS)
    lambda_: Optional[float] = of_table("lambda_")
    calibrate_method: Optional[str] = of_table("calibrate_method")
    device_type: Optional[str] = _device_type()
    device_ids: Tuple[int, ...] = _device_ids()
    dump: bool = _dump()


_Techniques = dataclasses.make_dataclass("_Techniques", [(name, Any, of_table(name)) for name in TECHNIQUES], frozen=True)


@dataclasses.dataclass(frozen=True)
class Quantization(_Techniques):
    """[QUANTIZATION]"""

    input_precision: int = of_table("input_precision")
    output_precision: Optional[int] = of_table("output_precision")
    softmax_lambd: float = of_table("softmax_lambd")
    shift_bits: int = of_table("shift_bits")
    thresholds: Mapping[str, float] = by_node("thresholds", "node: 2.64")
    restore_name: Tuple[str, ...] = key(NAMES, (), "nodes computed in floating point, to find the one that loses "
                                        "accuracy; _OP_<operator>, _ALL_EXCEPT_")
    operand_precision: Mapping[str, int] = by_node("operand_precision", "layer: 15")
    preset: str = of_table("preset")
    device_type: Optional[str] = _device_type(ignored=True)
    device_ids: Tuple[int, ...] = _device_ids(ignored=True)
    dump: bool = _dump()


@dataclasses.dataclass(frozen=True)
class MergeModel:
    """[MERGE_MODEL]"""

    attribute_deps: Optional[Mapping] = key(_map_of(2, STR, "operator: attribute: node"), None,
                                            "attributes of the upper half to multiply by a node's scale, or None")
    oscale_maps: Optional[Mapping] = key(_map_of(1, STR, "output: node"), None,
                                         "for every output the node whose scale it has, or None")
    device_type: Optional[str] = _device_type(ignored=True)
    device_ids: Tuple[int, ...] = _device_ids(ignored=True)
    dump: bool = _dump()


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """[EVALUATION], which may be missing"""

    batch: Optional[int] = key(INT, None, "images per batch; empty: as in calibration", low=1, high=MAX_ELEMENTS)
    iter_num: int = key(INT, 0, "number of batches; 0: nothing is evaluated", low=0, high=MAX_ELEMENTS)
    formal_samples: Optional[int] = key(INT, None, "samples for the reference kernels too, which take long; empty: a tenth of "
                                        "the time, 1 to 100 samples, fewer on slower machines", low=1, high=MAX_ELEMENTS)
    dataset: Optional[str] = key(STR, None, "empty: as in calibration")
    dataset_dir: Optional[str] = key(PATH, None, "empty: as in calibration")
    device_type: Optional[str] = _device_type()
    device_ids: Tuple[int, ...] = _device_ids()


@dataclasses.dataclass(frozen=True)
class Compilation:
    """[COMPILATION], which may be missing"""

    batch: int = key(INT, 1, "images per batch of the compiled model", low=1, high=MAX_ELEMENTS)
    dump_dir: Optional[str] = key(PATH, None, "folder for <Model_name>_cvm; empty: Output_dir")
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
            default, choices = field.metadata["default"], field.metadata["choices"]
            empty = default is None or default in ((), {})
            shown = "required" if default is REQUIRED else "empty" if empty else default
            unsaid = choices and not all(re.search(rf"\b{choice}\b", field.metadata["help"]) for choice in choices)
            allowed = f"; one of {', '.join(choices)}" if unsaid else ""
            lines.append(f"  {_spelling(field):<18} {shown!s:<12} {field.metadata['help']}{allowed}")
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
        """Model_dir/Model_name, the beginning of the names of the model's files."""
        return os.path.join(self.default.model_dir, self.default.model_name)

    @property
    def kept_prefix(self):
        """Output_dir/Model_name, the beginning of the names of all checkpoints."""
        return os.path.join(self.default.output_dir, self.default.model_name)

    @property
    def compiled_folder(self):
        """Dump_dir/<Model_name>_cvm; only with a section [COMPILATION]."""
        return os.path.join(self.compilation.dump_dir, f"{self.default.model_name}_cvm")

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
            self._problem(number, f"found {shortened(repr(text))}, expected a section such as [CALIBRATION]")
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
            self._problem(number, f"found {shortened(repr(text))} {where}, expected 'Key = value' below a [SECTION]")
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


def suggestion(name, known):
    """', did you mean ...?' with the nearest of `known`, empty when nothing is near."""
    question = _did_you_mean(name, known)
    return f", {question}" if question else ""


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
            self.problems.append(f"{_where(self.file, entry.line, section, entry.name)}: found "
                                 f"{shortened(repr(entry.text))}, expected {_expected(meta)}{shortened(detail)}")
            return None

    def _checked(self, meta, text):
        value = meta["kind"].parse(text)
        if meta["kind"] is PATH:
            return _absolute(value, self.file)
        choices = meta["choices"]
        if choices and value not in choices:
            raise ValueError(_did_you_mean(value, choices))
        numbers = value if isinstance(value, tuple) else (value,)
        for low, sign in ((meta["low"], 1), (meta["high"], -1)):
            if low is not None and any(sign * n < sign * low for n in numbers):
                raise ValueError("")
        return value


def _absolute(path, file):
    """`path` as the configuration `file` means it."""
    if path == "$PWD" or path.startswith("$PWD/"):
        path = os.getcwd() + path[len("$PWD"):]
    return os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(file)), os.path.expanduser(path)))


def _expected(meta):
    if meta["choices"]:
        return "one of " + ", ".join(meta["choices"])
    low, high = meta["low"], meta["high"]
    limits = f" from {low} to {high}" if high is not None else f" of at least {low}" if low is not None else ""
    return meta["kind"].expected + limits


def find(name):
    """The path that a user means by `name`: that of a file or, for a plain name such as `mnist`, `mnist.ini` or
    `model_zoo/mnist.ini` where there is no such file, that of the configuration of the zoo. ConfigError lists those."""
    name = os.fspath(name)
    folder, base = os.path.split(name)
    if folder not in ("", "model_zoo") or (os.path.exists(name) and not os.path.isdir(name)):
        return name
    zoo = conf.zoo_folder()
    names = sorted(f[:-len(".ini")] for f in os.listdir(zoo) if f.endswith(".ini")) if os.path.isdir(zoo) else []
    wanted = base[:-len(".ini")] if base.endswith(".ini") else base
    if wanted not in names:
        raise ConfigError([f"no configuration {name}, neither a file here nor a name of the zoo: "
                           + (_nearest(wanted, names) if names else f"there is none in {zoo}")])
    return os.path.join(zoo, wanted + ".ini")


def load(path):
    """Read and check the text of the configuration at `path`. Raises ConfigError with every problem found.

    `check` looks at the files and folders it names.
    """
    try:
        text = read_text(path, MAX_BYTES)
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not a text file in UTF-8 (byte {error.start})"]) from error
    except OSError as error:
        raise ConfigError([f"configuration {plain_error(error)}"]) from error
    control = re.search(r"[\0-\x08\x0e-\x1f\x7f]", text)
    if control:
        line = len(text[:control.start()].splitlines()) or 1
        raise ConfigError([f"{path}:{line}: found the control character {control.group()!r}, expected text"])
    builder = _Builder(_Reader(os.fspath(path), text))
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
    default = dataclasses.replace(base, device_type=base.device_type or "cpu", output_dir=base.output_dir or base.model_dir)
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
            changes["dump_dir"] = part.dump_dir or default.output_dir
        if name == "calibration":
            changes["calibrate_method"] = part.calibrate_method or ("absmax" if part.lambda_ is None else "lambda")
        parts[name] = dataclasses.replace(part, **changes)
    return dataclasses.replace(settings, **parts)


def _contradictions(settings):
    """Problems that need no look at the disk."""
    default, split, merge = settings.default, settings.split_model, settings.merge_model
    problems = []

    def problem(section, name, text):
        problems.append(f"{settings.where(section, name)}: {text}")

    shape = default.input_shape
    if shape.count(-1) != 1 or any(n != -1 and n < 1 for n in shape):
        problem("DEFAULT", "Input_shape", f"found {shape}, expected one -1 for the batch and positive sizes otherwise")
    else:
        for section in ("CALIBRATION", "EVALUATION", "COMPILATION"):
            part = settings.section(section)
            elements = part and abs(math.prod(shape)) * part.batch
            if elements and elements > MAX_ELEMENTS:
                problem(section, "Batch", f"found {part.batch}, which makes an input of {elements:,} elements, expected at most "
                        f"{MAX_ELEMENTS:,}, as many as a tensor of MXNet can have; choose a smaller one")
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
    return {"PREPARE": list(extend_fname(f"{prefix}.prepare")),
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
    missing = [f for f in model_files(settings.prefix) if not os.path.isfile(f)]
    if missing:
        problems.append(f"{settings.where('DEFAULT', 'Model_name')}: no file {' and no file '.join(missing)}; put the "
                        f"model there or correct Model_dir and Model_name{_similar_models(settings)}")
    if default.start != "DEFAULT":
        needed = checkpoint_files(settings.kept_prefix, default.start, bool(settings.split_model.keys))
        missing = [f for f in needed if not os.path.isfile(f)]
        if missing:
            problems.append(f"{settings.where('DEFAULT', 'Start')}: Check point of `{default.start}` not found, please "
                            f"move the start point earlier (no file {_joined(missing)}; a stage keeps its result with "
                            "Dump = True)")
    return problems


def _similar_models(settings):
    names = [re.sub(r"(-0000)?\.params$", "", f) for f in os.listdir(settings.default.model_dir) if f.endswith(".params")]
    close = difflib.get_close_matches(settings.default.model_name, names, 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close and close[0] != settings.default.model_name else ""


def _dataset_problems(settings):
    try:
        import_dataset_module(settings)
    except ConfigError as error:
        return list(error.problems)
    from mrt.dataset import DS_REG  # imports MXNet, which is not needed to read a configuration
    problems = {}
    for section in ("CALIBRATION", "EVALUATION", "COMPILATION"):
        part = settings.section(section)
        if part is None:
            continue
        cls = DS_REG.get(part.dataset)
        name, text = _data_problem(settings, section, cls) if cls else (
            "Dataset", f"found {part.dataset!r}, expected a registered data set, {_nearest(part.dataset, DS_REG)} "
            "(Dataset_module imports a file with your own)")
        if text:  # once, where several sections name the same data
            problems.setdefault(text, f"{settings.where('DEFAULT' if name == 'Input_shape' else section, name)}: {text}")
    return list(problems.values())


def _data_problem(settings, section, cls):
    """(key, sentence) of what is wrong with the data of a section, as far as their files tell without being read whole."""
    from mrt.dataset import DatasetError
    part, shape = settings.section(section), settings.default.input_shape
    try:
        is_train = section == "CALIBRATION" and training_part(cls, part.dataset_dir)
        options = (part.dataset_dir, True) if is_train else (part.dataset_dir,)
        cls.locate(*options)
        if "extent" not in vars(cls):
            return "Dataset", None
        count, *found = cls.extent(*options)
    except DatasetError as error:
        return "Dataset", str(error)
    try:
        if found and shape[0] == -1:
            cls.require_sample_shape(shape[1:], found)
    except DatasetError as error:
        return "Input_shape", str(error)
    batches = count / part.batch
    if math.isfinite(count):
        batches = math.floor(batches) if cls.last_batch == "discard" else math.ceil(batches)
    if section == "CALIBRATION":
        words = "training part" if is_train else "test part" if cls.train_part else "only part"
        return "Calibrate_num", too_few(settings, cls.name, words, batches)
    if section == "COMPILATION" and count < part.batch:
        full = tuple(part.batch if n == -1 else n for n in shape)
        return "Batch", (f"data set {cls.name!r} gives no batch of shape {full} for data.npy: it holds {count} samples; choose a "
                         "smaller Batch")
    if section == "EVALUATION" and part.iter_num and not batches:
        return "Batch", f"data set {cls.name!r} gives no batch of {part.batch} samples: it holds {count}; choose a smaller Batch"
    return "Dataset", None


def training_part(cls, folder):
    """Whether the data set `cls` has a training part of its own, and its files are there."""
    from mrt.dataset import DatasetError
    try:
        return bool(cls.train_part and cls.locate(folder, True))
    except DatasetError:
        return False


def too_few(settings, name, part, batches):
    """What to say when the data for calibration end too early, else None."""
    wanted, size = settings.calibration.calibrate_num, settings.calibration.batch
    if batches >= wanted:
        return None
    return f"the {part} of data set {name!r} ends after {batches} of {wanted} batches of {size}; choose fewer or smaller ones"


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
        path = _absolute(text, settings.file)
        name = "mrt_dataset_module_" + re.sub(r"\W", "_", path)
        if name in sys.modules:
            return
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise ConfigError([f"{where}: {text} cannot be imported ({type(error).__name__}: {plain_error(error)})"]) \
            from error


def _output_problems(settings):
    """What stages will write: it is there and may be replaced, or can be made."""
    outputs, report = [], settings.default.report
    if report:
        outputs.append(("DEFAULT", "Report", unwritable(report, settings)))
    if settings.compilation:
        outputs.append(("COMPILATION", "Dump_dir", _not_a_place_for_files(settings.compiled_folder)))
    for stage in STAGES[1:]:
        if settings.section(stage).dump:
            files = checkpoint_files(settings.kept_prefix, stage, bool(settings.split_model.keys))
            outputs.append((stage, "Dump", next(filter(None, map(unwritable, files)), None)))
    return [f"{settings.where(section, name)}: {problem}" for section, name, problem in outputs if problem]


def _files(settings):
    """What the run reads, and what it writes besides a report."""
    split, kept = bool(settings.split_model.keys), [s for s in STAGES[1:] if settings.section(s).dump]
    start = [settings.default.start] if settings.default.start != "DEFAULT" else []
    files = [settings.file, *model_files(settings.prefix)]
    files += [file for stage in kept + start for file in checkpoint_files(settings.kept_prefix, stage, split)]
    if settings.compilation:
        files += [os.path.join(settings.compiled_folder, name) for name in COMPILED_FILES]
    return files


def unwritable(path, settings=None):
    """Why the file `path`, which need not exist yet, cannot be written, as a sentence; None if it can. With `settings`, also
    where the run needs it for something else."""
    if os.path.isdir(path):
        return f"{path} is a folder, expected a file"
    if settings and os.path.realpath(path) in map(os.path.realpath, _files(settings)):
        return f"{path} belongs to the run itself, and would be overwritten; name another file"
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass  # `_not_a_place_for_files` has more to say
    except OSError as error:
        return f"{plain_error(error)}; choose another file"
    return _not_a_place_for_files(os.path.dirname(os.path.abspath(path)))


def _not_a_place_for_files(folder):
    """Why no file can be made in `folder`, which need not exist yet, as a sentence; None if one can."""
    reason, existing = None, folder
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        reason = f"{existing} is not a folder"
    elif not os.access(existing, os.W_OK | os.X_OK):
        reason = f"no permission to write into {existing}"
    elif existing != folder:
        try:
            os.lstat(folder)
        except FileNotFoundError:
            pass
        except OSError as error:  # such as too long a name
            reason = plain_error(error)
    return f"cannot write into {folder}: {reason}; choose another folder or change its permissions" if reason else None
