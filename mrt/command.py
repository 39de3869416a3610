"""What every command does around its work: standard streams that are closed or full, interruptions, and errors in one line each.

Imports nothing that takes long, so that an interruption while MXNet is imported is met too.
"""
import functools
import os
import sys
import traceback

from mrt.errors import MRTError
from mrt.utils import plain_error

__all__ = ["INTERRUPTED", "guarded", "tell"]

INTERRUPTED = 130  # what a shell reports of a program that SIGINT ended


def guarded(main):
    """Decorator for the function behind a command, which returns its exit status. Nothing but that status, or SystemExit, comes
    out of the result, and every error is a line on stderr: 1 for an error, 130 after an interruption. Without a word, but with
    status 1, ends a command whose reader left, as `| head` does."""
    @functools.wraps(main)
    def run(*args, **kwargs):
        _open_standard_streams()
        try:
            try:
                status = main(*args, **kwargs)
            except SystemExit as stop:  # from argparse
                raise SystemExit(_finished(stop.code)) from None
            return _finished(status)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except MRTError as error:
            tell(str(error))
        except MemoryError as error:
            tell(f"there is not enough memory: {plain_error(error)}")
        except OSError as error:
            if _finished(0) == 0:  # else stdout was it, and has been told
                tell(plain_error(error))
        except Exception as error:
            tell(f"{type(error).__name__}: {error} (this is a defect of MRT, found at {_place(error)})")
        return 1
    return run


def tell(text):
    """Print an error as one line."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr)


def _open_standard_streams():
    """Let streams that the caller closed lead nowhere. Otherwise the next file that is opened would take their number, and what
    MXNet prints would land in it. Text that a stream cannot encode is escaped."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (for the rest of the process)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _finished(status):
    """`status`, or 1 when what was printed cannot be written; a reader that left knows why, other reasons are told."""
    try:
        sys.stdout.flush()
        return status
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter tries again at its end
        if not isinstance(error, BrokenPipeError):
            tell(f"standard output cannot be written: {plain_error(error)}")
        return 1


def _place(error):
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}:{frame.lineno}"
