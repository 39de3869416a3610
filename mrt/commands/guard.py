"""What every command does around its work: standard streams that are closed or full, interruptions, and errors in one line each.

Imports nothing that takes long, so that interruptions are met soon after the start.
"""
import contextlib
import functools
import os
import signal
import sys

from mrt.errors import MRTError

__all__ = ["INTERRUPTED", "guarded", "importing", "tell"]

INTERRUPTED = 130  # what a shell reports of a program that SIGINT ended


class _OutputError(BaseException):
    """Stdout cannot be written, for the reason `__cause__`. No Exception, so that nobody on the way takes it for an error of
    another file."""


class _Output:
    """Stdout that raises _OutputError."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        with _telling_output():
            return self._stream.write(text)

    def flush(self):
        with _telling_output():
            self._stream.flush()

    def __getattr__(self, name):
        return getattr(self._stream, name)


@contextlib.contextmanager
def _telling_output():
    try:
        yield
    except OSError as error:
        raise _OutputError from error


def guarded(main):
    """Decorator for the function behind a command, which returns its exit status. Nothing but that status, or SystemExit, comes
    out of the result, and every error is a line on stderr: 1 for an error, 130 after an interruption. Without a word, but with
    status 1, ends a command whose reader left, as `| head` does."""
    @functools.wraps(main)
    def run(*args, **kwargs):
        _open_standard_streams()
        try:
            with contextlib.redirect_stdout(_Output(sys.stdout)):
                try:
                    return main(*args, **kwargs)
                finally:
                    sys.stdout.flush()  # here, where its failure can be told
        except _OutputError as error:
            _tell_output(error.__cause__)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except MRTError as error:
            tell(str(error))
        except MemoryError as error:
            tell(f"there is not enough memory: {_plain(error)}")
        except OSError as error:
            tell(_plain(error))
        except Exception as error:
            tell(f"{type(error).__name__}: {error} (this is a defect of MRT, found at {_place(error)})")
        return 1
    return run


@contextlib.contextmanager
def importing():
    """Around imports, which take seconds: an interruption ends the process at once. Nothing is under way that would have to be
    cleaned up, and an exception might not get through (numpy turns it into an ImportError)."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, or somebody else's
        yield
        return

    def leave(*_):
        with contextlib.suppress(OSError):
            os.write(2, b"interrupted\n")
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def tell(text):
    """Print an error as one line."""
    print(f"error: {' '.join(text.split())}", file=sys.stderr)


def _tell_output(error):
    """Say why stdout cannot be written; a reader that left knows."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter tries once more at its end
    if not isinstance(error, BrokenPipeError):
        tell(f"standard output cannot be written: {_plain(error)}")


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


def _plain(error):
    from mrt.errors import plain_error
    return plain_error(error)


def _place(error):
    import traceback
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}:{frame.lineno}"
