"""Checks of what callers of the public classes give: a wrong type is an MRTError that says what was found and expected.

Each function takes what the argument is, in words, and its value, and returns the value in its plain type.
"""
import math
import numbers
import os

import numpy as np

from mrt.errors import ModelError, MRTError
from mrt.utils import shortened

__all__ = ["choice", "flag", "instance", "integer", "mapping", "name", "names", "number", "path", "shape"]


def _wrong(what, value, expected, kind=MRTError):
    raise kind(f"{what} must be {expected}, found {shortened(repr(value))}")


def _limits(low, high):
    return f" from {low} to {high}" if high is not None else f" of at least {low}" if low is not None else ""


def _outside(value, low, high):
    return (low is not None and value < low) or (high is not None and value > high)


def integer(what, value, low=None, high=None):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or _outside(value, low, high):
        _wrong(what, value, f"an integer{_limits(low, high)}")
    return int(value)


def number(what, value, low=None):
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value) or _outside(value, low, None):
        _wrong(what, value, f"a number{_limits(low, None)}")
    return float(value)


def flag(what, value):
    if not isinstance(value, (bool, np.bool_, int)) or value not in (0, 1):
        _wrong(what, value, "True or False")
    return bool(value)


def choice(what, value, choices):
    if not isinstance(value, str) or value not in choices:
        _wrong(what, value, " or ".join(map(repr, choices)))
    return value


def name(what, value):
    if not isinstance(value, str) or not value:
        _wrong(what, value, "a name")
    return value


def names(what, value):
    """A list of names; one name alone is a mistake that would be taken as a list of letters."""
    if isinstance(value, str) or not _iterable(value):
        _wrong(what, value, f"a list of names{f', such as [{value!r}]' if isinstance(value, str) else ''}")
    return [name(f"each of the {what}", item) for item in value]


def path(what, value):
    """A path as text, with the user's home folder filled in."""
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str) or "\0" in os.fspath(value):
        _wrong(what, value, "a path")
    return os.path.expanduser(os.fspath(value))


def mapping(what, value, expected):
    """A dict, `expected` in words."""
    if not hasattr(value, "items"):
        _wrong(what, value, expected)
    return dict(value)


def instance(what, value, kind, expected):
    if not isinstance(value, kind):
        _wrong(what, value, expected)
    return value


def shape(what, value):
    """A tuple of positive integers, the batch filled in; a map of names to such ones; or None. ModelError for others."""
    if value is None:
        return None
    if hasattr(value, "items"):
        return {key: shape(f"{what} of {key}", item) for key, item in value.items()}
    extents = tuple(value) if _iterable(value) and not isinstance(value, str) else (None,)
    if any(isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 1 for n in extents):
        _wrong(what, value, "positive integers with the batch filled in, as (1, 3, 224, 224)", ModelError)
    return tuple(int(n) for n in extents)


def _iterable(value):
    return hasattr(value, "__iter__") or hasattr(value, "__getitem__")
