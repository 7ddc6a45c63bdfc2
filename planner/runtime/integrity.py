"""Is an engine directory exactly what was built? Manifest, file list, sizes, SHA-256.

Why extra files are refused too: ONNX Runtime resolves external data by name, so a file that nobody
listed can still change what a model computes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from planner.errors import SpecError, UsageError, VerificationError
from planner.spec import io
from planner.spec.io import canonical_bytes, canonical_json
from planner.spec.manifest import FileEntry, Manifest

MANIFEST = "manifest.json"
VERIFIED = "verified.json"
"""What a target measured; beside the sealed files, and only asked which of them to run."""
_REBUILD = "build the engine again: infopt deploy plan.json"
_HASH_THREADS = 4


def manifest_bytes(manifest: Manifest) -> bytes:
    """The only bytes a manifest is stored as; its digest is filled in."""
    unsealed = canonical_json(manifest.model_copy(update={"digest": ""}))
    digest = hashlib.sha256(unsealed).hexdigest()
    return canonical_json(manifest.model_copy(update={"digest": digest}))


def read_manifest(directory: Path) -> Manifest:
    """The manifest of an engine directory, checked against its own digest.

    Raises:
        UsageError: there is no such directory.
        VerificationError: missing, garbled, altered, or of another version.
    """
    path = directory / MANIFEST
    if not directory.is_dir():
        raise UsageError(
            "a file, not an engine directory" if directory.exists() else "no such directory",
            where=str(directory),
            fix="give the directory that `infopt deploy` wrote",
        )
    if not path.exists():
        raise VerificationError(
            "no manifest here: this is not an engine directory",
            where=str(path),
            fix="give the directory that `infopt deploy` wrote",
        )
    if path.is_symlink():
        raise VerificationError("is a symbolic link", where=str(path), fix=_REBUILD)
    try:
        manifest = io.read_manifest(path)
        data = path.read_bytes()
    except SpecError as error:
        raise VerificationError(error.what, where=error.where, fix=error.fix or _REBUILD) from None
    except OSError as error:
        raise VerificationError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if not _is_sealed(data):
        raise VerificationError(
            "damaged or edited: it does not match its own digest", where=str(path), fix=_REBUILD
        )
    return manifest


def _is_sealed(data: bytes) -> bool:
    """Whether these are the bytes that were written. What they hold is looked at, not what it means
    today: a manifest from before a field existed is as whole as ever."""
    found = json.loads(data)
    unsealed = canonical_bytes({**found, "digest": ""})
    return (
        canonical_bytes(found) == data and hashlib.sha256(unsealed).hexdigest() == found["digest"]
    )


def check_files(directory: Path, entries: Iterable[FileEntry], *, verify_hashes: bool) -> None:
    """Every listed file is there, regular and unaltered; no other file is.

    Raises:
        VerificationError: names the first offending file.
    """
    listed = {entry.path: entry for entry in entries}
    for name in listed:
        _refuse_escape(directory, name)
    present = _walk(directory)
    for name in sorted(present - listed.keys() - {MANIFEST, VERIFIED}):
        raise VerificationError(
            "not listed in the manifest",
            where=str(directory / name),
            fix="remove the file if it is yours; otherwise build the engine again",
        )
    for entry in listed.values():
        _check_size(directory, entry, entry.path in present)
    if not verify_hashes:
        return
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        digests = pool.map(lambda entry: _digest(directory / entry.path), listed.values())
        for entry, digest in zip(listed.values(), digests, strict=True):
            _check_digest(directory, entry, digest)


def _refuse_escape(directory: Path, name: str) -> None:
    path = PurePosixPath(name)
    is_plain = name == str(path) and "\\" not in name and "\0" not in name
    if not is_plain or path.is_absolute() or ".." in path.parts or name in (".", MANIFEST):
        raise VerificationError(
            f"lists the path {name!r}, which is not a plain path inside the engine",
            where=str(directory / MANIFEST),
            fix=_REBUILD,
        )


def _walk(directory: Path) -> set[str]:
    """Relative paths of all regular files below.

    Raises:
        VerificationError: a symbolic link, device, socket or unreadable folder.
    """
    found: set[str] = set()
    for folder, subfolders, names in os.walk(directory, onerror=_unreadable):
        for name in (*subfolders, *names):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise VerificationError(
                    "is a symbolic link or special file; an engine holds regular files only",
                    where=str(path),
                    fix=_REBUILD,
                )
        found.update(Path(folder, name).relative_to(directory).as_posix() for name in names)
    return found


def _unreadable(error: OSError) -> None:
    raise VerificationError(f"cannot be read: {error.strerror}", where=str(error.filename))


def _check_size(directory: Path, entry: FileEntry, is_present: bool) -> None:
    path = directory / entry.path
    if not is_present:
        raise VerificationError("missing from the engine", where=str(path), fix=_REBUILD)
    size_bytes = path.stat().st_size
    if size_bytes != entry.size_bytes:
        raise VerificationError(
            f"has {size_bytes} bytes; {entry.size_bytes} were built", where=str(path), fix=_REBUILD
        )


def check_length(directory: Path, entry: FileEntry) -> None:
    """Whether a file that is mapped is as long as it was built: some microseconds.

    Raises:
        VerificationError: it is gone or of another length.
    """
    path = directory / entry.path
    _check_size(directory, entry, path.exists())


def _digest(path: Path) -> str | OSError:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return error


def _check_digest(directory: Path, entry: FileEntry, digest: str | OSError) -> None:
    path = str(directory / entry.path)
    if isinstance(digest, OSError):
        raise VerificationError(f"cannot be read: {digest.strerror}", where=path)
    if digest != entry.sha256:
        raise VerificationError(
            "altered since it was built (SHA-256 differs)", where=path, fix=_REBUILD
        )


def file_entry(directory: Path, path: Path) -> FileEntry:
    """The manifest line of a file that was just written."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(
        path=path.relative_to(directory).as_posix(),
        size_bytes=path.stat().st_size,
        sha256=digest,
    )
