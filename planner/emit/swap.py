"""Replacing a directory whole: build beside it, flush, rename; nothing is ever half there."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from glob import escape
from pathlib import Path

import psutil

from planner.errors import UsageError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_LEFTOVER_AGE_S = 60.0
"""A younger one may belong to a process on another machine that shares the disk."""
_ASIDE = ".old"
"""Suffix of an engine moved away for a moment; without a target it is the only one left."""
_FIXES = {
    errno.ENOSPC: "free some space, or write elsewhere with -o",
    errno.EDQUOT: "free some space, or write elsewhere with -o",
    errno.EROFS: "the file system is read-only: write elsewhere with -o",
    errno.EACCES: "write to a folder of yours with -o",
    errno.EPERM: "write to a folder of yours with -o",
}


@contextlib.contextmanager
def translated_errors(target: Path) -> Iterator[None]:
    """What the operating system refuses becomes one clear message.

    Raises:
        UsageError: no space, no permission, read-only, or a name too long.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot be written: {error.strerror or error}",
            where=str(target),
            fix=_FIXES.get(error.errno or 0),
        ) from error


def _prefix(target: Path) -> str:
    return f".{target.name}.building-"


@contextlib.contextmanager
def building(target: Path) -> Iterator[Path]:
    """A fresh directory beside `target`; whatever is left of it afterwards is removed."""
    scratch = Path(tempfile.mkdtemp(prefix=f"{_prefix(target)}{os.getpid()}-", dir=target.parent))
    try:
        scratch.chmod(0o755)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_leftovers(target: Path) -> None:
    """Delete what builds of this target left behind when they were killed."""
    for path in target.parent.glob(f"{escape(_prefix(target))}*"):
        if path.name.endswith(_ASIDE) and not target.exists():
            path.rename(target)
            continue
        owner = path.name.removeprefix(_prefix(target)).partition("-")[0]
        is_old = time.time() - path.lstat().st_mtime > _LEFTOVER_AGE_S
        if is_old and owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def sync_tree(directory: Path) -> None:
    """Flush every file and folder below to disk, so that a rename cannot outrun its contents."""
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            _sync(Path(folder, name))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_in_place(scratch: Path, target: Path) -> None:
    """`scratch` becomes `target`; an older target ends up at `scratch`, or vanishes."""
    if not target.exists():
        scratch.rename(target)
    elif not _exchange(scratch, target):
        _rename_twice(scratch, target)
    _sync(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return bool(rename(*arguments) == 0)


def _rename_twice(scratch: Path, target: Path) -> None:
    """The fallback: the old engine is moved away and comes back if the new one cannot move in."""
    aside = scratch.with_name(scratch.name + _ASIDE)
    target.rename(aside)
    try:
        scratch.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
