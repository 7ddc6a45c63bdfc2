"""An engine some of whose parts stream their weights: one call at a time, so that what it holds at
its fullest is what its plan counted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from planner.errors import UsageError, VerificationError
from planner.runtime import integrity, ort
from planner.runtime.allocator import give_back_at_once
from planner.runtime.engine import Session
from planner.runtime.segments import Bound, dead_after
from planner.runtime.streaming.mapped import Mapped
from planner.runtime.streaming.stream import Files, Source, Stream
from planner.spec.manifest import FileEntry, Manifest, OrtSegment, StreamedWeights


class StreamedSession(Session):
    """Runs parts one after the other, weights coming and going; further callers wait."""

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        segments: Sequence[Bound],
        stream: Stream,
        host: Callable[[Any], Any],
    ) -> None:
        super().__init__(directory, manifest, segments)
        self._stream = stream
        self._host = host
        self._running = threading.Lock()
        self._mapped = _mapped_by_sessions(manifest)

    def _execute(self, segments: tuple[Bound, ...], feeds: Mapping[str, Any]) -> dict[str, Any]:
        with self._running:
            if self._segments is None:
                raise UsageError("the session is closed", where=self.name)
            for entry in self._mapped:
                integrity.check_length(self.directory, entry)
            found = super()._execute(segments, feeds)
            return {name: self._host(value) for name, value in found.items()}

    def close(self) -> None:
        """Waits for a run in progress, then lets everything go."""
        with self._running:
            if self._segments is not None:
                self._stream.close()
            super().close()


def _mapped_by_sessions(manifest: Manifest) -> tuple[FileEntry, ...]:
    """Weights that lie beside parts that keep theirs: ONNX Runtime maps those that it does not
    pack, and reads them in every run."""
    kept = [segment for segment in manifest.ort_segments if segment.streamed is None]
    folders = {PurePosixPath(segment.file).parent for segment in kept}
    graphs = {segment.file for segment in kept}
    return tuple(
        entry
        for entry in manifest.files
        if PurePosixPath(entry.path).parent in folders and entry.path not in graphs
    )


def load_streamed(directory: Path, manifest: Manifest) -> StreamedSession:
    """The sessions of an engine whose files have been checked, without the weights that stream.

    Raises:
        VerificationError: a file is not in the list of files, or not what the manifest says.
        EnvironmentMismatchError: a provider is absent, or the memory does not suffice.
    """
    listed = {entry.path for entry in manifest.files}
    segments = manifest.ort_segments
    streamed = [s.streamed for s in segments if s.streamed is not None]
    for weights in streamed:
        _refuse_unlisted(directory, weights, listed)
    providers = {segment.settings.provider for segment in segments}
    if len(providers) > 1:
        raise VerificationError(
            "parts that stream weights and others run on different devices",
            where=str(directory / integrity.MANIFEST),
        )
    device = providers.pop()
    if device != "cpu":
        # Read when a session first multiplies: 150 MB of workspace a session otherwise.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    give_back_at_once()
    stream = Stream(_source(directory, streamed, device))
    try:
        bound = _bound(directory, manifest, stream, listed)
    except BaseException:
        stream.close()
        raise
    return StreamedSession(directory, manifest, bound, stream, _host(device))


def _bound(directory: Path, manifest: Manifest, stream: Stream, listed: set[str]) -> list[Bound]:
    segments = manifest.ort_segments
    dead = dead_after(directory, manifest, segments)
    numbers = _numbers(segments)
    following = [*numbers[1:], numbers[0]]
    return [
        _bind(directory, segment, listed, gone, partial(_run, stream, own, coming))
        for segment, gone, own, coming in zip(segments, dead, numbers, following, strict=True)
    ]


def _numbers(segments: Sequence[OrtSegment]) -> list[int | None]:
    """Of each part that streams its weights, its place among these."""
    counter = count()
    return [next(counter) if segment.streamed is not None else None for segment in segments]


def _run(
    stream: Stream, own: int | None, coming: int | None, call: ort.BoundRun, feeds: dict[str, Any]
) -> list[Any]:
    """One part; the weights of the part behind it come meanwhile, behind the last those of the
    first: the next run finds them there."""
    if own is None:
        if coming is not None:
            stream.start(coming)
        return call(feeds)
    with stream.taken(own) as weights:
        if coming is not None and coming != own:
            stream.start(coming)
        return call({**feeds, **weights})


def _refuse_unlisted(directory: Path, weights: StreamedWeights, listed: set[str]) -> None:
    if weights.file not in listed:
        raise VerificationError(
            f"weights file {weights.file!r} is not in the list of files",
            where=str(directory / integrity.MANIFEST),
        )


def _source(directory: Path, streamed: Sequence[StreamedWeights], device: str) -> Source:
    files = [(directory / each.file, each.tensors) for each in streamed]
    if device == "cpu":
        return Files([Mapped(path, tensors) for path, tensors in files])
    from planner.runtime.streaming.on_device import Slots

    return Slots(files)


def _host(device: str) -> Callable[[Any], Any]:
    """What makes an array of a part's result."""
    if device == "cpu":
        return lambda value: value
    from planner.runtime.streaming.on_device import on_host

    return on_host


def _call(session: Any, segment: OrtSegment) -> ort.BoundRun:
    if segment.settings.provider == "cpu":
        return ort.bind(session, segment.outputs)
    from planner.runtime.streaming.on_device import DevicePart

    return DevicePart(session, segment.outputs)


def _bind(
    directory: Path,
    segment: OrtSegment,
    listed: set[str],
    dead: tuple[str, ...],
    around: Callable[[ort.BoundRun, dict[str, Any]], list[Any]],
) -> Bound:
    """One part, ready to run.

    Raises:
        VerificationError: it is not in the list of files, or not what the manifest says.
    """
    if segment.file not in listed:
        raise VerificationError(
            f"segment file {segment.file!r} is not in the list of files",
            where=str(directory / integrity.MANIFEST),
        )
    session = ort.make_session(directory / segment.file, segment.settings, has_arena=False)
    inputs, outputs = ort.tensor_specs(session)
    own = segment.streamed.tensors if segment.streamed is not None else ()
    declared = {spec.name for spec in inputs}, {spec.name for spec in outputs}
    taken = {*segment.inputs, *(tensor.name for tensor in own)}
    shapes = {spec.name: (spec.dtype, spec.shape) for spec in inputs}
    fits = all(shapes.get(t.name) == (t.dtype, t.shape) for t in own)
    if taken != declared[0] or not set(segment.outputs) <= declared[1] or not fits:
        raise VerificationError(
            "its inputs, weights and outputs are not those the manifest declares",
            where=str(directory / segment.file),
        )
    run = partial(around, _call(session, segment))
    return Bound(run, segment.inputs, segment.outputs, dead, segment.file)
