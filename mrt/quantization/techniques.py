"""One table of what can be set about calibration and quantization.

From it come the checks of the methods of `mrt.transformer.MRT`, the keys of [CALIBRATION] and
[QUANTIZATION] with their help (`mrt.pipeline.config`), what a checkpoint may hold, the options of the
quantizer, and the rows of tests/bench/accuracy.py.
"""
import dataclasses
import math
import numbers
from typing import Any, Optional, Tuple

import numpy as np

from mrt.errors import MRTError

__all__ = ["SETTINGS", "TECHNIQUES", "Setting", "Technique", "checked_techniques"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One value that can be set: bool, int, float or str (`kind`), one of `choices` or from `low` to
    `high`. A default of None means that None may be set too."""

    name: str
    kind: type
    default: Any
    help: str
    setter: str  # method of MRT
    choices: Tuple[str, ...] = ()
    low: Optional[float] = None
    high: Optional[float] = None
    section: Optional[str] = "QUANTIZATION"

    @property
    def key(self):
        """Its name in a configuration."""
        return self.name.rstrip("_").capitalize()

    @property
    def expected(self):
        """What a value must be, in words."""
        if self.choices:
            return " or ".join(map(repr, self.choices))
        what = {bool: "True or False", int: "an integer", float: "a number"}[self.kind]
        if self.high is not None:
            return f"{what} from {self.low:g} to {self.high:g}"
        return what if self.low is None else f"{what} of at least {self.low:g}"

    def checked(self, value, of=None):
        """The value as bool, int, float or str. MRTError for one of another type or out of range;
        `of`: the node it is for."""
        if value is None and self.default is None:
            return None
        if not self._is_right(value):
            what = self.name.rstrip("_") + (f" of {of}" if of else "")
            place = self.setter + (f"; {self.key} in [{self.section}]" if self.section else "")
            raise MRTError(f"{what} is {value!r}, expected {self.expected} ({place})")
        return self.kind(value)

    def _is_right(self, value):
        if self.kind is bool:
            return isinstance(value, (bool, np.bool_))
        if self.kind is str:
            return isinstance(value, str) and value in self.choices
        number = numbers.Integral if self.kind is int else numbers.Real
        return (isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
                and (self.low is None or value >= self.low)
                and (self.high is None or value <= self.high))


@dataclasses.dataclass(frozen=True)
class Technique(Setting):
    """A way to raise accuracy inside 8 bits. `off`: the value without it. `before_calibrate`: values
    for which calibration has to keep something, so that they must be chosen before."""

    setter: str = "set_techniques"
    off: Any = False
    before_calibrate: Tuple = ()


def _table(*rows):
    return {row.name: row for row in rows}


TECHNIQUES = _table(
    Technique("weight_granularity", str, "channel",
              "one weight scale per output channel, or per tensor",
              choices=("channel", "tensor"), off="tensor"),
    Technique("full_range", bool, True, "non-negative inputs of layers use the codes below 0 too"),
    Technique("equalize", bool, True,
              "channels of a layer's input get scales of their own where that pays"),
    Technique("clip_inputs", bool, True,
              "a layer's input is clipped where that lowers its mean square error"),
    Technique("bias_correction", str, "analytic",
              "biases make up for the mean error of rounded weights (analytic), or for all that is "
              "measured on calibration data (empirical), which takes longer",
              choices=("none", "analytic", "empirical"), off="none", before_calibrate=("empirical",)),
    Technique("rounding", str, "nearest",
              "how weights become integers: nearest, or adaptive, which takes longer and is more "
              "accurate",
              choices=("nearest", "adaptive"), off="nearest", before_calibrate=("adaptive",)),
    Technique("two_part_budget", float, 0.02,
              "share of time, gas and bytes to spend on layers in two parts", off=0, low=0),
)

SETTINGS = _table(
    Setting("calibrate_method", str, None,
            "how thresholds are chosen; empty: lambda if Lambda is set, else absmax", "calibrate",
            choices=("absmax", "lambda", "percentile", "mse", "kl"), section="CALIBRATION"),
    Setting("lambda_", float, None,
            "threshold abs(mean) + Lambda * std; empty: largest absolute value", "calibrate",
            low=0.01, high=1e6, section="CALIBRATION"),
    Setting("input_precision", int, 8, "bits of the input", "set_input_prec", low=2, high=31),
    Setting("output_precision", int, None,
            "bits of the outputs at most; empty: as they come", "set_output_prec", low=2, high=32),
    Setting("operand_precision", int, 8,
            "bits of the input of single layers; above 8 they run in two parts", "set_operand_prec",
            low=2, high=15),
    Setting("thresholds", float, 0.0,
            "thresholds by node name, instead of the calibrated ones", "set_threshold", low=0),
    Setting("softmax_lambd", float, 10.0,
            "a softmax input further below the largest counts as so far below", "set_softmax_lambd",
            low=0.1, high=100),
    Setting("shift_bits", int, 5,
            "for Preset = original: a tensor so many bits too wide is shifted", "set_shift_bits",
            low=0, high=31),
    Setting("preset", str, "default",
            "default, or original: what the original MRT did, for comparison", "set_preset",
            choices=("default", "original")),
)


def checked_techniques(techniques):
    """The techniques (name -> value) with every value checked. MRTError for a name that is none."""
    unknown = sorted(set(techniques) - set(TECHNIQUES))
    if unknown:
        raise MRTError(f"no technique is called {', '.join(unknown)}; known are "
                       f"{', '.join(TECHNIQUES)}")
    return {name: TECHNIQUES[name].checked(value) for name, value in techniques.items()}
