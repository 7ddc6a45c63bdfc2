"""Measurements in a file, from one machine to another of the same kind.

    gzip of lines:  {"infopt_measurements": 1, "device": ..., "device_digest": ...}
                    [key, kind, made_at, payload]        one a measurement, by key
                    {"entries": n, "sha256": digest of every line before}

Why the digest stands in the last line: a file cut short has none, and nothing has to be read twice.
Why measurements of another device are refused: their keys would never be asked for.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from planner.errors import EnvironmentMismatchError, UsageError
from planner.profiling.store import Row, Store
from planner.spec.plan import Environment
from planner.spec.writing import write_atomically

FORMAT_VERSION = 1
_MARK = "infopt_measurements"
_MAX_LINE_BYTES = 1 << 28
_MAX_BYTES = 1 << 34
"""Unpacked: a small file may claim to hold any amount."""
_FIX = "export it again where it was made: infopt cache export FILE"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    added: int
    known: int
    """Already here: what was measured on this machine stays."""


def export_measurements(store: Store, path: Path, here: Environment) -> int:
    """Writes every measurement of the store to a file, whole or not at all; returns how many.

    The same measurements make the same bytes.

    Raises:
        UsageError: the store is damaged, or the file cannot be written.
    """
    head = {_MARK: FORMAT_VERSION, "device": here.device, "device_digest": here.device_digest}
    buffer, digest, entries = io.BytesIO(), hashlib.sha256(), 0
    with gzip.GzipFile("", "wb", fileobj=buffer, mtime=0) as packed:
        for entries, line in enumerate(_lines(head, store)):  # noqa: B007 - the last is the count
            digest.update(line)
            packed.write(line)
        packed.write(_line({"entries": entries, "sha256": digest.hexdigest()}))
    write_atomically(path, buffer.getvalue())
    return entries


def import_measurements(store: Store, path: Path, here: Environment) -> Imported:
    """Adds what the file holds and the store does not; all of it or, of a damaged file, nothing.

    Raises:
        UsageError: no such file, no measurements, damaged, or the store cannot be written.
        EnvironmentMismatchError: measured on another device or version of ONNX Runtime.
    """
    read = _Reader(path)
    try:
        packed = gzip.GzipFile(path, "rb")
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from None
    with packed:
        head = read.head(packed)
        if head["device_digest"] != here.device_digest:
            for _ in read.rows(packed):  # a damaged file is called damaged, whatever its head says
                pass
            _refuse_other_device(head, path, here)
        added = store.merge(read.rows(packed))
    return Imported(added, read.entries - added)


def _lines(head: dict[str, Any], store: Store) -> Iterator[bytes]:
    yield _line(head)
    for key, kind, payload, made_at in store.rows():
        yield _line([key, kind, made_at, payload])


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _refuse_other_device(head: dict[str, Any], path: Path, here: Environment) -> NoReturn:
    raise EnvironmentMismatchError(
        f"measured on another device: {str(head['device'])[:200]!r}; this is {here.device!r}",
        where=str(path),
        fix="a device is the same if `infopt devices` says so, ONNX Runtime's version included",
    )


class _Reader:
    """Reads lines with one eye on the digest; refuses what is not as it was written."""

    def __init__(self, path: Path) -> None:
        self.entries = 0
        self._path = path
        self._digest = hashlib.sha256()
        self._size = 0

    def refuse(self, what: str) -> NoReturn:
        raise UsageError(what, where=str(self._path), fix=_FIX)

    def _line(self, packed: gzip.GzipFile) -> bytes:
        try:
            return packed.readline(_MAX_LINE_BYTES)
        except (OSError, EOFError, zlib.error):  # a bad header or checksum, cut short, garbled
            self.refuse("damaged or no file of measurements")

    def _next(self, packed: gzip.GzipFile) -> tuple[bytes, Any]:
        line = self._line(packed)
        self._size += len(line)
        if self._size > _MAX_BYTES:
            self.refuse("larger than any store of measurements")
        if not line.endswith(b"\n"):
            self.refuse("damaged: it ends in the middle")
        try:
            return line, json.loads(line)
        except ValueError:  # not JSON, not UTF-8
            self.refuse("damaged or no file of measurements")

    def head(self, packed: gzip.GzipFile) -> dict[str, Any]:
        line, found = self._next(packed)
        self._digest.update(line)
        if not isinstance(found, dict) or not {_MARK, "device", "device_digest"} <= found.keys():
            self.refuse("no file of measurements")
        if found[_MARK] != FORMAT_VERSION:
            self.refuse(f"of format {found[_MARK]!r}, which this infopt does not read")
        return found

    def rows(self, packed: gzip.GzipFile) -> Iterator[Row]:
        """Every measurement; raises after the last one where the digest does not match."""
        while isinstance((found := self._checked(packed)), list):
            self.entries += 1
            key, kind, made_at, payload = found
            yield key, kind, payload, made_at
        wanted = {"entries": self.entries, "sha256": self._digest.hexdigest()}
        if found != wanted or self._line(packed):
            self.refuse("damaged: its digest does not match")

    def _checked(self, packed: gzip.GzipFile) -> Any:
        line, found = self._next(packed)
        if not isinstance(found, list):
            return found
        self._digest.update(line)
        kinds = [type(part) for part in found]
        if kinds not in ([str, str, float, str], [str, str, int, str]) or not _is_json(found[3]):
            self.refuse("damaged: an entry is no measurement")
        return found


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
