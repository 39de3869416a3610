"""A line that says how far the work is."""
import contextlib
import sys
import threading
import time

__all__ = ["Progress"]


class Progress:
    """Show that something is going on, when it takes longer than a second. Use as a context manager.

    On a terminal one line is rewritten and removed at the end; elsewhere a plain line appears after a second and then
    every `every` seconds. A thread draws, so that work that never calls `update` is shown too, with its seconds.
    """

    def __init__(self, title, total=None, unit="", every=5.0, stream=None):
        self._title, self._total, self._unit, self._every = title, total, unit, every
        self._stream = stream or sys.stderr
        self._terminal = hasattr(self._stream, "isatty") and self._stream.isatty()
        self._done, self._drawn, self._left = 0, False, None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw_until_stopped, daemon=True)

    def __enter__(self):
        self._start = self._since = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()
        if self._drawn and self._terminal:
            self._write("\r\033[K")

    def expect(self, total, unit, left=None):
        """From now on count up to `total` units. `left`: a function that gives the seconds left, None while it cannot know;
        by default every unit is taken to need the same time."""
        self._done, self._total, self._unit, self._left, self._since = 0, total, unit, left, time.monotonic()

    def update(self, count=1):
        """Count `count` more units as done."""
        self._done += count

    def text(self):
        """The line as shown now."""
        now = time.monotonic()
        parts = [f"{self._title}:"]
        if self._total:
            parts.append(f"{self._done}/{self._total} {self._unit}".strip() + ",")
            left = self._left() if self._left else self._left_at_one_rate(now)
            if left is not None:
                parts.append(f"about {left:.0f} s left,")
        parts.append(f"{now - self._start:.0f} s")
        return " ".join(parts)

    def _left_at_one_rate(self, now):
        if not 0 < self._done < self._total:
            return None
        return (now - self._since) * (self._total - self._done) / self._done

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
