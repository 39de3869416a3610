"""The errors of this package. Each message says what was found, what was expected, where, and what to do."""

__all__ = ["MRTError", "MRTWarning", "ModelError", "StateError", "UnsupportedError", "plain_error", "shortened"]


class MRTError(Exception):
    """Base of every error a user can cause; `python -m mrt.main2` prints it as one line and exits with status 1."""


class ModelError(MRTError, ValueError):
    """A checkpoint, symbol or params file is damaged, incomplete, or does not fit together."""


class UnsupportedError(MRTError, NotImplementedError):
    """The network holds operators or attributes that cannot become integers; the message lists all of them."""


class StateError(MRTError, RuntimeError):
    """A method was called before the step it builds on, or twice; the message names the step."""


class MRTWarning(UserWarning):
    """Something a user should know that stops nothing; the command prints it as a notice."""


def plain_error(error):
    """The text of an exception as one sentence; an OSError as 'path: reason' without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def shortened(text, length=200):
    """`text` for a message: its beginning, where it is longer than `length`."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"
