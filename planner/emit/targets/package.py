"""Puts a target's files in place: all of them or none, and nobody else's are touched."""

from __future__ import annotations

from pathlib import Path

from planner.emit import swap
from planner.emit.targets.base import Source, Target, Wishes
from planner.errors import SpecError, UsageError
from planner.runtime.integrity import file_entry, read_manifest
from planner.spec.io import canonical_json, read_package, read_plan
from planner.spec.package import Package

CONTENTS = "infopt-package.json"


def package(target: Target, engine: Path, out: Path, wishes: Wishes) -> Package:
    """Writes what `target` needs of an engine into `out`; an older package there is replaced.

    Raises:
        UsageError: wishes or an engine that the target cannot serve; `out` is somebody else's,
            read-only or full.
        VerificationError: the engine is damaged.
    """
    target.check(wishes)
    place = out.resolve()
    refuse_foreign(place)
    source = Source(engine, read_manifest(engine), read_plan(engine / "plan.json"), wishes)
    with swap.translated_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        swap.remove_leftovers(place)
        with swap.building(place) as scratch:
            made = _fill(scratch, target, source)
            swap.sync_tree(scratch)
            swap.put_in_place(scratch, place)
    return made


def refuse_foreign(folder: Path) -> None:
    """Only a package, an empty folder or nothing at all may be replaced.

    Raises:
        UsageError: names the file that infopt did not write.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError("is a file, not a folder", where=str(folder), fix="choose another --files")
    present = {path.relative_to(folder).as_posix() for path in _files(folder)}
    foreign = sorted(present - _written(folder))
    if foreign:
        raise UsageError(
            f"holds {foreign[0]!r}, which infopt did not write; not overwriting it",
            where=str(folder),
            fix="choose another --files, or move that away",
        )


def _written(folder: Path) -> set[str]:
    try:
        made = read_package(folder / CONTENTS)
    except SpecError:
        return set()
    return {CONTENTS, *(entry.path for entry in made.files)}


def _files(folder: Path) -> list[Path]:
    """All but what Python leaves behind where the application was run."""
    found = (path for path in folder.rglob("*") if not path.is_dir())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def _fill(scratch: Path, target: Target, source: Source) -> Package:
    written = target.write(source, scratch)
    made = Package(
        target=target.name,
        name=source.manifest.name,
        plan_digest=source.manifest.plan_digest,
        replicas=source.wishes.replicas,
        files=tuple(file_entry(scratch, path) for path in _files(scratch)),
        notes=written.notes,
        start=written.start,
    )
    (scratch / CONTENTS).write_bytes(canonical_json(made))
    return made
