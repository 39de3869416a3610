"""Small helpers shared by the library and the command: logging, file names, whole-file writes, progress, validation."""
import contextlib
import errno
import logging
import os
import stat
import sys
import tempfile
import threading
import time

__all__ = ["Progress", "atomic_path", "atomic_write", "extend_fname", "log_init", "model_files", "multi_validate", "open_regular",
           "plain_error", "read_text", "shortened"]

_COLOURS = {"DEBUG": "36", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "35"}
_SILENT = logging.CRITICAL + 10


# ---- logging ---------------------------------------------------------------------------------------------------------

class _Formatter(logging.Formatter):
    """`[ time name.LEVEL ] message`, the level coloured on a terminal."""

    def __init__(self, colour):
        super().__init__(datefmt="%Y-%m-%d %H:%M:%S")
        self._colour = colour

    def format(self, record):
        level = record.levelname
        if self._colour and level in _COLOURS:
            level = f"\033[{_COLOURS[level]}m{level}\033[0m"
        text = f"[ {self.formatTime(record, self.datefmt)} {record.name}.{level} ] {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def log_init(level=logging.INFO):
    """Send log records of `level` and above to stderr; level 0 silences all. Called again, it changes the level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(sys.stderr.isatty()))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h.formatter, _Formatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level or _SILENT)


def plain_error(error):
    """The text of an exception as one sentence; an OSError as 'path: reason' without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def shortened(text, length=200):
    """`text` for a message: its beginning, where it is longer than `length`."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"


# ---- files -----------------------------------------------------------------------------------------------------------

def extend_fname(prefix, with_ext=False):
    """(prefix.json, prefix.params), and prefix.ext as a third with `with_ext`."""
    names = [f"{prefix}.json", f"{prefix}.params"]
    return (*names, f"{prefix}.ext") if with_ext else tuple(names)


def model_files(prefix):
    """(symbol file, params file) of the model that `prefix` names: prefix.json and prefix.params or, where only these are there,
    prefix-symbol.json and prefix-0000.params, as MXNet exports them."""
    exported = f"{prefix}-symbol.json", f"{prefix}-0000.params"
    own = extend_fname(prefix)
    return exported if os.path.isfile(exported[0]) and not os.path.isfile(own[0]) else own


def open_regular(path):
    """Open a file for reading bytes. OSError also for what is none, such as a folder, a pipe or a device: those never end, or
    never begin."""
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # for a NUL
        raise OSError(errno.EINVAL, str(error), repr(path)) from None
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return open(path, "rb")


def read_text(path, limit):
    """The UTF-8 text of a file, without a byte order mark. OSError when it cannot be read, is no regular file or holds more than
    `limit` bytes; UnicodeDecodeError."""
    with open_regular(path) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than the {limit:,} bytes that such a file may have", os.fspath(path))
    return data.decode("utf-8-sig")


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path in the folder of `path` and rename it to `path` when the block ends without an error.

    Whoever reads `path` sees the old file or the new one, never a part of either. Missing folders are created.
    The temporary name keeps the suffix of `path`, because some writers choose the format by it. An OSError names `path`.
    """
    path = os.path.abspath(os.path.expanduser(os.fspath(path)))
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=".tmp-", suffix="-" + name, dir=folder)
        os.close(handle)
        yield temporary
        _open_to_readers(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is None or error.filename in (None, temporary):  # a full disk is told without the file's name
            raise OSError(error.errno, f"cannot be written: {error.strerror or error}", path) from error
        raise
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def atomic_write(path, data):
    """Write `data` (bytes or text, text as UTF-8) to `path` as a whole: see `atomic_path`."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(data.encode("utf-8") if isinstance(data, str) else data)


def _open_to_readers(path):
    """Give a file made by mkstemp (readable by its owner alone) the permissions an ordinary open() would have."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)


# ---- progress --------------------------------------------------------------------------------------------------------

class Progress:
    """Show that something is going on, when it takes longer than a second. Use as a context manager.

    On a terminal one line is rewritten and removed at the end; elsewhere a plain line appears after a second and then
    every `every` seconds. A thread draws, so that work that never calls `update` is shown too, with its seconds.
    """

    def __init__(self, title, total=None, unit="", every=5.0, stream=None):
        self._title, self._total, self._unit, self._every = title, total, unit, every
        self._stream = stream or sys.stderr
        self._terminal = hasattr(self._stream, "isatty") and self._stream.isatty()
        self._done, self._drawn = 0, False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw_until_stopped, daemon=True)

    def __enter__(self):
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()
        if self._drawn and self._terminal:
            self._write("\r\033[K")

    def expect(self, total, unit):
        """From now on count up to `total` units."""
        self._done, self._total, self._unit = 0, total, unit

    def update(self, count=1):
        """Count `count` more units as done."""
        self._done += count

    def text(self):
        """The line as shown now."""
        elapsed = time.monotonic() - self._start
        parts = [f"{self._title}:"]
        if self._total:
            parts.append(f"{self._done}/{self._total} {self._unit}".strip() + ",")
            if 0 < self._done < self._total:
                parts.append(f"about {elapsed * (self._total - self._done) / self._done:.0f} s left,")
        parts.append(f"{elapsed:.0f} s")
        return " ".join(parts)

    def _draw_until_stopped(self):
        wait = 1.0
        while not self._stop.wait(wait):
            wait = 0.2 if self._terminal else self._every
            self._drawn = True
            self._write(f"\r{self.text()}\033[K" if self._terminal else f"{self.text()}\n")

    def _write(self, text):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed stream, or None, must not end the work
            self._stream.write(text)
            self._stream.flush()


# ---- validation ------------------------------------------------------------------------------------------------------

def multi_validate(base_func, data_iter, *comp_funcs, iter_num=10, logger=None, batch_size=16):
    """Run several evaluation functions over the same batches and log one line per batch.

    data_iter: function giving the next (data, label); its StopIteration ends the validation.
    base_func, comp_funcs: functions (data, label) -> display string, or (display string, milliseconds); each keeps its
    own metric, so the strings are cumulative.
    batch_size: samples counted for a batch whose label has no shape.
    Returns the last string of each function, in order; empty strings when there was no batch.
    """
    logger = logger or logging.getLogger("mrt.validate")
    funcs = (base_func, *comp_funcs)
    texts, total = [""] * len(funcs), 0
    for iteration in range(iter_num):
        try:
            data, label = data_iter()
        except StopIteration:
            logger.info("end of data after %d batches", iteration)
            break
        texts = [_display(func(data, label)) for func in funcs]
        total += label.shape[0] if getattr(label, "shape", ()) else batch_size
        columns = " | ".join(f"{func.__name__}: {text}" for func, text in zip(funcs, texts))
        logger.info("Iteration: %3d | %s | Total Sample: %5d", iteration, columns, total)
    return texts


def _display(result):
    if isinstance(result, tuple):
        text, milliseconds = result
        return f"{text} ({milliseconds:.1f} ms)"
    return str(result)
