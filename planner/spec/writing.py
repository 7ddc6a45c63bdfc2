"""Files written whole or not at all, and refused before long work where they could not be."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from planner.errors import UsageError

_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
_OPEN_FILE = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})\Z")


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside `path` and renames: a reader, a crash or a full disk never sees half a file.

    A link stays, what it points to is replaced; a pipe or a device (`/dev/null`) is written to, for
    a rename would put a file in its place. `/dev/stdout` is what was printed to so far, and goes on
    from there: where it is a file, opening it anew would begin at its start.

    Raises:
        UsageError: the folder is missing, read-only or full.
    """
    try:
        descriptor = _descriptor(path)
        if descriptor is not None:
            _continue(descriptor, content)
        elif _is_stream(path):
            path.write_bytes(content)
        else:
            _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        _refuse_write(path, error)


def _descriptor(path: Path) -> int | None:
    """Number of the file that this process has open, where the path names one by that."""
    name = str(path)
    if name in _STANDARD:
        return _STANDARD[name]
    match = _OPEN_FILE.match(name)
    return int(match[1]) if match else None


def _continue(descriptor: int, content: bytes) -> None:
    """Writes where the file that is open stands now."""
    for printed in filter(None, (sys.stdout, sys.stderr)):  # none, where it was closed at the start
        printed.flush()
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_and_sync(beside, content)
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):  # gone already, or its folder is none
            beside.unlink()


def refuse_unwritable(*paths: Path | None) -> None:
    """Says at once what would fail at the end of long work; a full disk only shows when written.

    Raises:
        UsageError: the folder of one is none, read-only or somebody else's.
    """
    for path in paths:
        if path is not None:
            _refuse_unwritable(path)


def _refuse_unwritable(path: Path) -> None:
    try:
        _try_to_write(path)
    except OSError as error:
        _refuse_write(path, error)


def _try_to_write(path: Path) -> None:
    descriptor = _descriptor(path)
    if descriptor is not None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if _is_stream(path):
        return
    folder = next(parent for parent in Path(os.path.realpath(path)).parents if parent.exists())
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    tempfile.TemporaryFile(dir=folder).close()  # it never has a name where the system allows


def _write_and_sync(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _refuse_write(path: Path, error: OSError) -> NoReturn:
    fixes = {
        errno.ENOSPC: "free some space, or write elsewhere with -o",
        errno.EDQUOT: "free some space, or write elsewhere with -o",
        errno.EROFS: "the file system is read-only: write elsewhere with -o",
        errno.EACCES: "write to a folder of yours with -o",
        errno.EISDIR: "that is a folder: name a file",
    }
    fix = fixes.get(error.errno or 0)
    raise UsageError(f"cannot be written: {error.strerror}", where=str(path), fix=fix) from error
