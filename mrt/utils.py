"""What training scripts take from here: logging, file names, validation."""
import logging
import sys

from mrt.files import extend_fname

__all__ = ["extend_fname", "log_init", "multi_validate"]

_COLOURS = {"DEBUG": "36", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "35"}
_SILENT = logging.CRITICAL + 10


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
