"""The ONNX parts of an engine as ONNX Runtime sessions, ready to be called one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.errors import VerificationError
from planner.runtime import integrity, ort, refusals
from planner.spec.manifest import FusedSegment, Manifest, OrtSegment, Segment

if TYPE_CHECKING:
    from planner.runtime.fused.session import FusedSession


@dataclass(frozen=True, slots=True)
class Bound:
    """One part, ready to run; `dead` are the tensors nobody reads after it."""

    run: ort.BoundRun
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead: tuple[str, ...]
    file: str
    kernels: FusedSession | None = None
    """Generated kernels; None: ONNX Runtime runs it."""

    def call(self, feeds: dict[str, Any]) -> dict[str, Any]:
        """Outputs by name.

        Raises:
            DataError: values that the model refuses.
            EnvironmentMismatchError: not enough memory.
        """
        try:
            values = self.run(feeds)
        except refusals.ORT_ERRORS as error:
            raise refusals.run_error(error, self.file) from None
        return dict(zip(self.outputs, values))  # noqa: B905 - ONNX Runtime returns what was asked

    def advance(self, alive: dict[str, Any]) -> None:
        """Runs on what is alive, adds what it makes and drops what nobody reads any more."""
        alive.update(self.call({name: alive[name] for name in self.inputs}))
        for name in self.dead:
            del alive[name]


def bind(
    directory: Path,
    segment: OrtSegment,
    file: str,
    listed: set[str],
    dead: tuple[str, ...],
    *,
    has_arena: bool = True,
) -> Bound:
    """The part in `file`, loaded.

    Args:
        has_arena: as in `ort.make_session`.

    Raises:
        VerificationError: it is not in the list of files, or not what the manifest says.
        EnvironmentMismatchError: a provider is absent, or the memory does not suffice.
    """
    session = open_part(directory, segment, file, listed, has_arena=has_arena)
    return Bound(ort.bind(session, segment.outputs), segment.inputs, segment.outputs, dead, file)


def open_part(
    directory: Path,
    segment: OrtSegment,
    file: str,
    listed: set[str],
    *,
    has_arena: bool = True,
    stream: int | None = None,
) -> Any:
    """An ONNX Runtime session of the part in `file`.

    Args:
        has_arena, stream: as in `ort.make_session`.

    Raises:
        VerificationError: it is not in the list of files, or not what the manifest says.
        EnvironmentMismatchError: a provider is absent, or the memory does not suffice.
    """
    if file not in listed:
        raise VerificationError(
            f"segment file {file!r} is not in the list of files",
            where=str(directory / integrity.MANIFEST),
        )
    settings = segment.settings
    session = ort.make_session(directory / file, settings, has_arena=has_arena, stream=stream)
    inputs, outputs = ort.tensor_specs(session)
    declared = {spec.name for spec in inputs}, {spec.name for spec in outputs}
    if set(segment.inputs) != declared[0] or not set(segment.outputs) <= declared[1]:
        raise VerificationError(
            "its inputs and outputs are not those the manifest declares",
            where=str(directory / file),
        )
    return session


def bind_fused(
    directory: Path,
    segment: FusedSegment,
    listed: set[str],
    dead: tuple[str, ...],
    copies: int,
    apart: Mapping[str, str],
    shared_percent: int | None,
) -> Bound:
    """The part's kernels, loaded; their files were checked with the engine's.

    Args:
        apart: kernels of loops that run as launches here whether they fit or not, and why.
        shared_percent: of a multiprocessor's memory, asked for as shared memory; where not given,
            what the part was built with.

    Raises:
        VerificationError: its table of contents is not in the list of files, or damaged.
        EnvironmentMismatchError: no GPU, another architecture, too little memory, an old driver.
    """
    from planner.runtime.fused import manifest as fused
    from planner.runtime.fused.driver import SHARED_PERCENT
    from planner.runtime.fused.session import open_checked

    if f"{segment.folder}/{fused.FILE}" not in listed:
        raise VerificationError(
            f"segment folder {segment.folder!r} is not in the list of files",
            where=str(directory / integrity.MANIFEST),
        )
    asked = segment.shared_percent if shared_percent is None else shared_percent
    share = SHARED_PERCENT if asked is None else asked
    folder = directory / segment.folder
    kernels = open_checked(folder, copies=copies, apart=apart, shared_percent=share)

    def run(feeds: dict[str, Any]) -> list[Any]:
        found = kernels.run(feeds)
        return [found[name] for name in segment.outputs]

    return Bound(run, segment.inputs, segment.outputs, dead, segment.folder, kernels)


def dead_after(
    directory: Path, manifest: Manifest, segments: Sequence[Segment]
) -> list[tuple[str, ...]]:
    """For each segment, the tensors that nothing reads after it (its caller's inputs included).

    Raises:
        VerificationError: a segment reads, or the engine returns, what nobody makes.
    """
    alive = {spec.name for spec in manifest.inputs}
    wanted = {spec.name for spec in manifest.outputs}
    dead = []
    for index, segment in enumerate(segments):
        _refuse_unmade(directory, set(segment.inputs) - alive)
        alive |= set(segment.outputs)
        later = {name for follower in segments[index + 1 :] for name in follower.inputs}
        gone = alive - later - wanted
        alive -= gone
        dead.append(tuple(sorted(gone)))
    _refuse_unmade(directory, wanted - alive)
    return dead


def _refuse_unmade(directory: Path, names: set[str]) -> None:
    if names:
        raise VerificationError(
            f"no segment makes {', '.join(sorted(map(repr, names)))}",
            where=str(directory / integrity.MANIFEST),
        )


def chain(
    segments: Sequence[Bound], feeds: Mapping[str, Any], outputs: Sequence[str]
) -> dict[str, Any]:
    """Runs one part after the other."""
    alive: dict[str, Any] = dict(feeds)
    for segment in segments:
        segment.advance(alive)
    return {name: alive[name] for name in outputs}
