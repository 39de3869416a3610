"""Files: their names, reading them within bounds, writing them as a whole."""
import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile

__all__ = ["atomic_folder", "atomic_path", "atomic_write", "extend_fname", "model_files", "open_regular", "read_text", "sha256"]

_TEMPORARY = ".tmp-mrt-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux


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
        large = os.fstat(stream.fileno()).st_size > limit
        data = b"" if large else stream.read(limit + 1)  # of what has no size, such as files below /proc, no more either
    if large or len(data) > limit:
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
    with _temporary(folder, name, _make_file) as temporary:
        yield temporary
        _open_to_readers(temporary, 0o666)
        os.replace(temporary, path)


def atomic_write(path, data):
    """Write `data` (bytes or text, text as UTF-8) to `path` as a whole: see `atomic_path`."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_folder(path, parts):
    """Yield a new folder to be filled, and put it in the place of the folder `path` when the block ends without an error.

    In one step, so that whoever reads `path` finds the old folder or the new one; on file systems that cannot exchange two
    folders (NFS), no folder in between. What else than the files called `parts` lay in the old folder lies in the new one too.
    """
    path = os.path.realpath(os.path.expanduser(os.fspath(path)))
    parent, name = os.path.split(path)
    aside = os.path.join(parent, f".old-{name}")
    os.makedirs(parent, exist_ok=True)
    _recover(path, aside)
    with _temporary(parent, name, tempfile.mkdtemp) as temporary:
        _open_to_readers(temporary, 0o777)
        yield temporary
        if not os.path.lexists(path):
            os.rename(temporary, path)
            return
        _take_over(path, temporary, parts)
        if not _exchange(temporary, path):
            os.rename(path, aside)
            os.rename(temporary, path)
            shutil.rmtree(aside, ignore_errors=True)


def _recover(path, aside):
    """Undo or finish what a killed run has begun: the old folder was put aside, and the new one was to follow."""
    if os.path.isdir(aside):
        if os.path.lexists(path):
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.rename(aside, path)


def _take_over(old, new, parts):
    """Everything in the folder `old` but `parts` and what `new` has already: the same files under a second name."""
    shutil.copymode(old, new)
    for entry in os.scandir(old):
        target = os.path.join(new, entry.name)
        if entry.name in parts or os.path.lexists(target) or entry.name.startswith(_TEMPORARY):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.copytree(entry.path, target, symlinks=True, copy_function=_link)
        else:
            _link(entry.path, target)


def _link(source, target):
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without hard links, or somebody else's file
        shutil.copy2(source, target, follow_symlinks=False)


def _exchange(first, second):
    """Exchange two paths in one step; False where the system or the file system cannot."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    if function(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), second)


@contextlib.contextmanager
def _temporary(folder, name, make):
    """A new file or folder for `name` in `folder`, gone at the end; those that killed processes have left are removed first.

    A lock, which ends with the process, tells them from those in use.
    """
    os.makedirs(folder, exist_ok=True)
    _sweep(folder)
    path = None
    try:
        path, handle = _locked(lambda: make(prefix=_TEMPORARY, suffix="-" + name[-40:], dir=folder))
        try:
            yield path
        finally:
            _remove(path)
            os.close(handle)
    except OSError as error:
        raise _about(error, path, os.path.join(folder, name)) from error


def _about(error, temporary, path):
    """`error` as one about `path`, not about what is temporary; that the disk is full is told without any name."""
    found = error.filename
    if temporary is None or found is None:
        return OSError(error.errno, error.strerror or str(error), path)
    if os.fspath(found).startswith(temporary):
        return OSError(error.errno, error.strerror, path + os.fspath(found)[len(temporary):])
    return error


def _make_file(**where):
    handle, path = tempfile.mkstemp(**where)
    os.close(handle)
    return path


def _locked(make):
    """(path, open descriptor that holds the lock) of what `make` makes; once more if it was swept away before it had the lock."""
    while True:
        path = make()
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(path, os.O_RDONLY)
            with contextlib.suppress(OSError):  # where there are no locks, `_sweep` finds none either
                fcntl.flock(handle, fcntl.LOCK_SH)
            if os.path.exists(path):
                return path, handle
            os.close(handle)


def _sweep(folder):
    """Remove the temporary files and folders of processes that are no more."""
    for entry in list(os.scandir(folder)):
        if not entry.name.startswith(_TEMPORARY):
            continue
        with contextlib.suppress(OSError):  # in use, or not ours
            handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(entry.path)
            finally:
                os.close(handle)


def _remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _open_to_readers(path, permissions):
    """Give what tempfile made for its owner alone the permissions that it would have otherwise."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, permissions & ~mask)


def sha256(path):
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
