"""The store of measurements: one SQLite file, shared by every run on this machine.

Why SQLite in WAL mode: several planners may measure at once, and a `kill -9` in the middle of a
write must cost at most the measurement in flight. Rows are only ever added or replaced whole.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs

from planner.errors import UsageError

STORE_VERSION = 1
Row = tuple[str, str, str, float]
"""Key, kind, payload (JSON), seconds since the epoch."""
_BUSY_TIMEOUT_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS measurements (
    key      TEXT PRIMARY KEY,
    kind     TEXT NOT NULL,
    payload  TEXT NOT NULL,
    made_at  REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_kind ON measurements (kind);
"""


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One kernel, timed alone on this target.

    `latency_us` is the marginal time of one more run of the kernel inside a session while the
    machine is fast (`timing.FAST_SHARE` over interleaved rounds); `low_us`..`high_us` its 95 %
    interval. `reference_us` is the machine's reference probe in the same rounds, with the same
    `threads`, `alone_us` the serial one: how fast the machine was.
    """

    latency_us: float
    low_us: float
    high_us: float
    reference_us: float
    rounds: int
    in_context: bool = False
    """True where the kernel could not run alone and was read off a profile of its whole graph."""
    threads: int = 1
    alone_us: float = 0.0
    """0 where it was not looked at."""


def default_path() -> Path:
    """`$INFOPT_CACHE/store.sqlite`, else the user's cache directory."""
    folder = os.environ.get("INFOPT_CACHE")
    root = Path(folder) if folder else Path(platformdirs.user_cache_dir("infopt"))
    return root / f"store-v{STORE_VERSION}.sqlite"


class Store:
    """Measurements by key; safe with concurrent writers and sudden death.

    Raises:
        UsageError: the file cannot be created, opened or is not a store.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        with self._refusing("open", "point INFOPT_CACHE to a writable folder"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            self._db.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT_S * 1e3)}")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)

    @contextmanager
    def _refusing(self, verb: str, fix: str) -> Iterator[None]:
        """Whatever the disk or a damaged file does becomes one message with a way out."""
        try:
            yield
        except (OSError, sqlite3.Error, json.JSONDecodeError) as error:
            raise UsageError(
                f"cannot {verb} the store of measurements: {error}",
                where=str(self.path),
                fix=f"{fix}; remove the file if it is damaged",
            ) from error

    def get(self, key: str) -> Any:
        """The payload under `key`, or None.

        Raises:
            UsageError: the file is damaged.
        """
        with self._refusing("read", "point INFOPT_CACHE to another folder"):
            found = self._db.execute("SELECT payload FROM measurements WHERE key = ?", (key,))
            row = found.fetchone()
            return None if row is None else json.loads(row[0])

    def kernel(self, key: str) -> KernelTime | None:
        """The timing of the kernel with this digest, or None."""
        payload = self.get(key)
        if payload is None:
            return None
        try:
            return KernelTime(**payload)
        except TypeError as error:
            raise UsageError(
                f"cannot read a measurement of the store: {error}",
                where=str(self.path),
                fix="forget it: infopt cache clear",
            ) from error

    def put(self, kind: str, entries: Mapping[str, Any]) -> None:
        """Adds or replaces `{key: payload}` in one transaction."""
        rows = [(key, kind, _encode(value), time.time()) for key, value in entries.items()]
        with (
            self._refusing("write", "free some disk space, point INFOPT_CACHE elsewhere"),
            self._db,
        ):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO measurements VALUES (?,?,?,?)", rows)

    def keep(self, kind: str, entries: Mapping[str, Any]) -> None:
        """Adds those of `{key: payload}` whose key is not here yet: the first writer wins, so that
        two planners at work on one model end up with the same timings."""
        now = time.time()
        self.merge((key, kind, _encode(value), now) for key, value in entries.items())

    def keep_faster(self, key: str, timed: KernelTime) -> None:
        """Puts a kernel's time in the place of one of a slower state of the machine. What stands is
        read and replaced in one transaction: another planner may have put it there meanwhile."""
        row = key, "kernel", _encode(timed), time.time()
        with (
            self._refusing("write", "free some disk space, point INFOPT_CACHE elsewhere"),
            self._db,
        ):
            self._db.execute("BEGIN IMMEDIATE")
            stands = self.kernel(key)
            if stands is None or timed.reference_us < stands.reference_us:
                self._db.execute("INSERT OR REPLACE INTO measurements VALUES (?,?,?,?)", row)

    def rows(self) -> Iterator[Row]:
        """Every entry, by key.

        Raises:
            UsageError: the file is damaged.
        """
        with self._refusing("read", "point INFOPT_CACHE to another folder"):
            yield from self._db.execute(
                "SELECT key, kind, payload, made_at FROM measurements ORDER BY key"
            )

    def merge(self, rows: Iterable[Row]) -> int:
        """Adds entries whose key is not here yet; returns how many.

        All of them or none: what `rows` raises leaves the store as it was.
        """
        before = self._db.total_changes
        with (
            self._refusing("write", "free some disk space, point INFOPT_CACHE elsewhere"),
            self._db,
        ):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR IGNORE INTO measurements VALUES (?,?,?,?)", rows)
        return self._db.total_changes - before

    def counts(self) -> dict[str, int]:
        """How many entries of each kind."""
        with self._refusing("read", "point INFOPT_CACHE to another folder"):
            rows = self._db.execute("SELECT kind, COUNT(*) FROM measurements GROUP BY kind")
            return dict(rows.fetchall())

    def remove(self, kinds: Iterable[str] | None = None) -> int:
        """Forgets entries of these kinds (all if None); returns how many."""
        with self._refusing("write", "point INFOPT_CACHE to a writable folder"), self._db:
            if kinds is None:
                return self._db.execute("DELETE FROM measurements").rowcount
            marks = [(kind,) for kind in kinds]
            return self._db.executemany("DELETE FROM measurements WHERE kind = ?", marks).rowcount

    def forget(self, key: str) -> None:
        """Removes one entry; nothing happens where there is none."""
        with self._refusing("write", "point INFOPT_CACHE to a writable folder"), self._db:
            self._db.execute("DELETE FROM measurements WHERE key = ?", (key,))

    def close(self) -> None:
        """Closes the file; what was put is kept."""
        self._db.close()


def _encode(value: Any) -> str:
    payload = asdict(value) if isinstance(value, KernelTime) else value
    return json.dumps(payload, sort_keys=True, allow_nan=False)
