"""Folders that go when their block ends, or, after a `kill -9`, when the next planner looks.

Who uses one holds a lock on a file inside; the kernel lets go of it however the process ends. Why
not the process id in the name: planners in two containers may share a folder, but not their ids.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = ".in-use"
_UNLOCKED_S = 60.0
"""A folder without a lock file was made a moment ago, or its maker died in that moment."""


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent`; those that were left behind under the same prefix go."""
    remove_abandoned(parent, prefix)
    with tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as name:
        folder = Path(name)
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder


def hold(folder: Path, holding: contextlib.ExitStack) -> bool:
    """Keeps a folder that outlives its users from being removed until `holding` ends; False where
    there is none."""
    while True:
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return False
        fcntl.flock(lock, fcntl.LOCK_SH)
        if _is_file(folder / _LOCK, lock):
            holding.callback(os.close, lock)
            return True
        os.close(lock)  # it was removed while we waited


def remove_unheld(folder: Path, prefix: str) -> None:
    """Removes a folder that nobody holds; first it goes under a name of that prefix, so that
    nobody finds half of it."""
    with contextlib.suppress(OSError), (folder / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as grave:
            folder.rename(Path(grave) / folder.name)


def _is_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Removes our user's folders of that prefix that nobody holds any more."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        found = [path for path in parent.iterdir() if path.name.startswith(prefix)]
    for folder in found:
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    try:
        return _is_ours_and_unheld(folder)
    except OSError:  # another planner removes it as well
        return False


def _is_ours_and_unheld(folder: Path) -> bool:
    found = folder.lstat()
    if found.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
        return False
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return time.time() - found.st_mtime > _UNLOCKED_S
    return True
