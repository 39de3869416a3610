"""Folders that hold one model: ``symbol``, ``params`` and, beside a model that MRT compiled, ``ext``."""

from __future__ import annotations

import hashlib
import json
import os

from . import _lib
from .context import Context
from .model import Model, load

EXT_BYTES = 1 << 26


def read_folder(folder: str | os.PathLike[str], *names: str) -> list[bytes]:
    """The contents of the files called ``names`` of one folder, even if another takes its place meanwhile.

    Where ``ext`` says their SHA-256, they are compared with it. Raises CvmLogicError for parts of two models, CvmRuntimeError
    for files that cannot be read.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as e:
        raise _lib.CvmRuntimeError(f"the folder {os.fspath(folder)} cannot be read: {e.strerror}") from None
    try:
        contents = [_read(folder, handle, name) for name in names]
        digests = _digests(folder, handle)
    finally:
        os.close(handle)
    for name, content in zip(names, contents):
        if name in digests and hashlib.sha256(content).hexdigest() != digests[name]:
            raise _lib.CvmLogicError(
                f"{os.path.join(folder, name)} is not the file that the ext beside it was written with: "
                "the folder holds parts of two models; compile it again, or remove ext if the others belong together"
            )
    return contents


def load_folder(folder: str | os.PathLike[str], ctx: Context | None = None) -> Model:
    """Loads and verifies the model of a folder; errors as of ``read_folder`` and ``load``."""
    return load(*read_folder(folder, "symbol", "params"), ctx)


def _read(folder: str | os.PathLike[str], handle: int, name: str, limit: int = -1) -> bytes:
    try:
        with open(name, "rb", opener=lambda path, flags: os.open(path, flags, dir_fd=handle)) as f:
            return f.read(limit)
    except OSError as e:
        raise _lib.CvmRuntimeError(f"the {name} file {os.path.join(folder, name)} cannot be read: {e.strerror}") from None


def _digests(folder: str | os.PathLike[str], handle: int) -> dict[str, str]:
    """File name -> SHA-256 as ``ext`` says it: JSON documents, one a line. Empty where it says none, as the original's."""
    if "ext" not in os.listdir(handle):
        return {}
    text = _read(folder, handle, "ext", EXT_BYTES + 1)
    try:
        documents = [json.loads(line) for line in text.splitlines() if line.strip()] if len(text) <= EXT_BYTES else None
    except (ValueError, RecursionError):
        documents = None
    if documents is None:
        raise _lib.CvmLogicError(f"{os.path.join(folder, 'ext')} is damaged, expected lines of JSON; compile the model again")
    found = [d["sha256"] for d in documents if isinstance(d, dict) and isinstance(d.get("sha256"), dict)]
    return found[-1] if found else {}
