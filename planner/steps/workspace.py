"""Where a plan's intermediate files live, and how each result is computed only once.

Everything that takes time is kept under a digest of all it depends on: measurements and small
results in the store, the simplified model in the cache folder. A second plan of the same model
with another promise finds all of it there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner import __version__
from planner.profiling.store import Store
from planner.progress import Reporter
from planner.steps.scratch import hold, remove_unheld, scratch_folder

_KEEP_MODELS = 8
_MAKING = ".making-"
_SCRATCH = "infopt-plan-"
_IS_THERE = (errno.EEXIST, errno.ENOTEMPTY)


def digest(*parts: Any) -> str:
    """SHA-256 over JSON-able parts."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file and of the external data beside it."""
    total = hashlib.sha256()
    for part in (path, path.with_name(path.name + ".data")):
        if part.exists():
            with part.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


@dataclass(frozen=True, slots=True)
class Workspace:
    """The store, a folder that outlives the run, one that does not, and who listens."""

    store: Store
    kept: Path
    scratch: Path
    reporter: Reporter
    holding: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """Folders of the cache that nobody may remove while this workspace is open."""

    def once(self, kind: str, key: str, compute: Callable[[], Any]) -> Any:
        """The payload stored under `key`, computed and stored where it is not there yet; another
        planner's, where that was faster."""
        found = self.store.get(key)
        if found is None:
            self.store.keep(kind, {key: compute()})
            found = self.store.get(key)
        return found

    def kept_folder(self, key: str, make: Callable[[Path], None]) -> Path:
        """A folder of the cache, made whole (then renamed) where it is not there yet."""
        target = self.kept / key[:32]
        while not hold(target, self.holding):
            self.kept.mkdir(parents=True, exist_ok=True)
            with scratch_folder(self.kept, _MAKING) as making:
                made = making / "made"
                made.mkdir()
                make(made)
                _move(made, target)
        os.utime(target)
        return target


def _move(made: Path, target: Path) -> None:
    """Where another planner was faster, its folder serves."""
    try:
        made.rename(target)
    except OSError as error:
        if error.errno not in _IS_THERE:
            raise


@contextmanager
def workspace(reporter: Reporter, store: Store | None = None) -> Iterator[Workspace]:
    """A workspace on the user's cache folder; what is temporary goes when the block ends."""
    own = store or Store()
    kept = own.path.parent / f"models-{__version__}"
    try:
        with (
            scratch_folder(Path(tempfile.gettempdir()), _SCRATCH) as scratch,
            contextlib.ExitStack() as holding,
        ):
            yield Workspace(own, kept, scratch, reporter, holding)
        _trim(kept)
    finally:
        if store is None:
            own.close()


def _trim(kept: Path) -> None:
    """Keeps the folders used last, and those in use: the cache must not grow without end."""
    if not kept.exists():
        return
    folders = [path for path in kept.iterdir() if not path.name.startswith(_MAKING)]
    folders.sort(key=_used_at, reverse=True)
    for folder in folders[_KEEP_MODELS:]:
        remove_unheld(folder, _MAKING)


def _used_at(folder: Path) -> float:
    """When it was used last, in seconds since the epoch; 0 where another planner has removed it."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
