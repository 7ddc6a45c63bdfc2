"""Writes an engine directory: whole or not at all, the same bytes for the same plan.

    engine/
      manifest.json              what there is, with SHA-256 of every file
      plan.json                  the plan it was built from
      parts/000/model.onnx       one folder a segment (and rank of a sharded one: parts/000/rank1);
                                 its external weights keep their names
      parts/000/streamed.bin     weights that are fetched for each run of the part
      parts/000/fused/           kernels, weights and schedule of a generated part
      golden/<shape>.*.npz       inputs, outputs, and the unchanged model's outputs

Everything is written into a sibling directory, flushed to disk, and moved into place by one rename
(on Linux an exchange, so that not even an instant is without an engine). Whatever interrupts it,
the old engine stays; what a killed process left behind is removed by the next build.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from google.protobuf.message import DecodeError
from onnx import TensorProto

from planner.emit import swap
from planner.emit.blueprint import STREAMED, Blueprint, Part, Talk
from planner.emit.golden import FOLDER as GOLDEN_FOLDER
from planner.emit.golden import write_goldens
from planner.errors import ModelError, UsageError
from planner.graph import proto
from planner.runtime.integrity import MANIFEST, VERIFIED, file_entry, manifest_bytes, read_manifest
from planner.spec.io import canonical_json
from planner.spec.manifest import (
    FusedSegment,
    Manifest,
    OrtSegment,
    Segment,
    Stage,
    StreamedWeights,
)

PLAN = "plan.json"
PARTS = "parts"
_ANY_NAME = "model"
"""What most tools call the file they export: it tells nobody which model it is."""
_URL_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LAYOUT = frozenset({MANIFEST, PLAN, PARTS, GOLDEN_FOLDER, VERIFIED})


def write_engine(directory: Path, blueprint: Blueprint) -> Manifest:
    """Build the engine beside `directory`, then put it in place; an older engine is replaced.

    Raises:
        UsageError: the place is taken by something else, read-only or full.
        ModelError: a part is no ONNX file, or refers to data outside its folder.
    """
    if _URL_NAME.fullmatch(blueprint.name) is None:
        raise UsageError(
            f"model name {blueprint.name!r} cannot be part of a URL",
            fix=f"use letters, digits, '.', '_' and '-': {served_name(Path(blueprint.name))!r}",
        )
    target = directory.resolve()
    refuse_foreign(target)
    with swap.translated_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        swap.remove_leftovers(target)
        with swap.building(target) as scratch:
            manifest = _fill(scratch, blueprint)
            swap.sync_tree(scratch)
            swap.put_in_place(scratch, target)
    return manifest


def served_name(model_path: Path) -> str:
    """The name a model is served under: its file's, with what a URL cannot hold replaced.

    Its folder's where the file is called like any other model: `kws/model.onnx` -> `kws`.
    """
    is_named = model_path.stem != _ANY_NAME
    named = model_path.stem if is_named else model_path.absolute().parent.name
    return re.sub(r"[^A-Za-z0-9._-]+", "_", named).strip("_.") or _ANY_NAME


def is_current(directory: Path, plan_digest: str) -> bool:
    """Whether an engine of this very plan is already there. Hashes are not checked: `load` does.

    Raises:
        VerificationError: there is an engine, but its manifest is damaged.
    """
    if not (directory / MANIFEST).exists():
        return False
    return read_manifest(directory).plan_digest == plan_digest


def refuse_foreign(directory: Path) -> None:
    """Only an engine, an empty directory or nothing at all may be replaced.

    Raises:
        UsageError: names the entry that infopt did not write.
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UsageError(
            "is a file, not a directory", where=str(directory), fix="choose another -o"
        )
    names = {entry.name for entry in directory.iterdir()}
    foreign = sorted(names - _LAYOUT)
    if foreign or (names and MANIFEST not in names):
        raise UsageError(
            f"holds {(foreign or sorted(names))[0]!r}, which is no part of an engine; "
            "not overwriting it",
            where=str(directory),
            fix="choose another -o, or move that away",
        )


def _fill(scratch: Path, blueprint: Blueprint) -> Manifest:
    plan_path = scratch / PLAN
    plan_path.write_bytes(canonical_json(blueprint.plan))
    (scratch / PARTS).mkdir()
    stages = _write_stages(scratch, blueprint.parts)
    golden = write_goldens(scratch, blueprint.goldens)
    files = sorted(path for path in scratch.rglob("*") if path.is_file())
    manifest = Manifest(
        name=blueprint.name,
        plan_digest=blueprint.plan.digest,
        model_sha256=blueprint.plan.model.sha256,
        environment=blueprint.environment,
        inputs=blueprint.inputs,
        outputs=blueprint.outputs,
        stages=stages,
        golden=golden,
        predicted_latency_us=dict(blueprint.predicted_latency_us),
        built_for=blueprint.built_for,
        files=tuple(file_entry(scratch, path) for path in files),
    )
    (scratch / MANIFEST).write_bytes(manifest_bytes(manifest))
    return read_manifest(scratch)


def _write_stages(scratch: Path, parts: Sequence[Part | Talk]) -> tuple[Stage, ...]:
    stages: list[tuple[str, tuple[int, ...], list[Segment]]] = []
    for index, part in enumerate(parts):
        segment = part.segment if isinstance(part, Talk) else _segment(scratch, index, part)
        if not stages or stages[-1][:2] != (part.device, part.ranks):
            stages.append((part.device, part.ranks, []))
        stages[-1][2].append(segment)
    return tuple(
        Stage(device=device, ranks=ranks, segments=tuple(found)) for device, ranks, found in stages
    )


def _segment(scratch: Path, index: int, part: Part) -> OrtSegment | FusedSegment:
    library = _library(scratch, index, part)
    if part.fused_path is None:
        return library
    target = scratch / PARTS / f"{index:03d}" / "fused"
    shutil.copytree(part.fused_path, target)
    return FusedSegment(
        folder=target.relative_to(scratch).as_posix(),
        inputs=part.inputs,
        outputs=part.outputs,
        library=library,
        shared_percent=part.shared_percent,
    )


def _library(scratch: Path, index: int, part: Part) -> OrtSegment:
    folder = scratch / PARTS / f"{index:03d}"
    sources = (part.onnx_path, *part.shard_paths)
    folders = [folder if len(sources) == 1 else folder / f"rank{n}" for n in range(len(sources))]
    files = [
        _pack(own, source, may_link=part.is_temporary).relative_to(scratch).as_posix()
        for own, source in zip(folders, sources, strict=True)
    ]
    return OrtSegment(
        file=files[0],
        shards=tuple(files[1:]),
        inputs=part.inputs,
        outputs=part.outputs,
        settings=part.settings,
        streamed=_streamed(scratch, folder, part),
    )


def _streamed(scratch: Path, folder: Path, part: Part) -> StreamedWeights | None:
    if part.outside is None:
        return None
    target = folder / STREAMED
    _place(part.outside.path, target, may_link=part.is_temporary)
    file = target.relative_to(scratch).as_posix()
    return StreamedWeights(file=file, tensors=part.outside.tensors)


def _pack(folder: Path, source: Path, *, may_link: bool) -> Path:
    folder.mkdir(parents=True)
    packed = folder / "model.onnx"
    _place(source, packed, may_link=may_link)
    for location in external_locations(source):
        target = folder / location
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(source.parent / location, target, may_link=may_link)
    return packed


def _place(source: Path, target: Path, *, may_link: bool) -> None:
    if not source.is_file():
        raise ModelError("missing", where=str(source), fix="put the model's weights beside it")
    if may_link and not source.is_symlink():
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def external_locations(path: Path) -> list[str]:
    """Relative paths of the external data files an ONNX file refers to, sorted, each once.

    Raises:
        ModelError: not an ONNX file, or a path that leaves the model's folder.
    """
    try:
        onnx_model = proto.read(path)
    except (OSError, DecodeError) as error:
        raise ModelError(f"not a readable ONNX file: {error}", where=str(path)) from None
    found = {location for tensor in proto.tensors(onnx_model) for location in _location(tensor)}
    for location in found:
        parts = PurePosixPath(location)
        if parts.is_absolute() or ".." in parts.parts or location == "model.onnx":
            raise ModelError(f"external data at {location!r} leaves its folder", where=str(path))
    return sorted(found)


def _location(tensor: TensorProto) -> list[str]:
    if tensor.data_location != TensorProto.EXTERNAL:
        return []
    return [entry.value for entry in tensor.external_data if entry.key == "location"]
