"""Texts of strangers' files, made fit for a terminal."""

from __future__ import annotations


def printable(text: str, most: int | None = None) -> str:
    """``text`` with escapes for all that is not printable, so that it cannot move a cursor, hide what stands beside it or add
    a line; shortened to ``most`` characters."""
    if most is not None and len(text) > most:
        text = text[: most - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
