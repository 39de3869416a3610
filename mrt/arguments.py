"""Checks of what callers of the public classes give: a wrong type is an MRTError that says what was found and expected.

The settings of `mrt.quantization.techniques` are checked there. Each function takes what the argument is, in words, and its
value, and returns the value in its plain type.
"""
import numbers
import os

from mrt.errors import ModelError, MRTError, shortened

__all__ = ["choice", "instance", "mapping", "names", "path", "shape"]


def _wrong(what, value, expected, kind=MRTError):
    raise kind(f"{what} must be {expected}, found {shortened(repr(value))}")


def choice(what, value, choices):
    if not isinstance(value, str) or value not in choices:
        _wrong(what, value, " or ".join(map(repr, choices)))
    return value


def names(what, value):
    """A list of names; one name alone is a mistake that would be taken as a list of letters."""
    if isinstance(value, str) or not _iterable(value):
        _wrong(what, value, f"a list of names{f', such as [{value!r}]' if isinstance(value, str) else ''}")
    for item in value:
        if not isinstance(item, str) or not item:
            _wrong(f"each of the {what}", item, "a name")
    return list(value)


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
