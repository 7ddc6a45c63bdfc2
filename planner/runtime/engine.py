"""An engine directory, loaded: check it once, bind every segment, then only run.

Each segment's `run` is bound at load, so that a call costs a few microseconds over ONNX Runtime's.
Sessions may be run from several threads at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from planner.errors import UsageError
from planner.runtime import integrity, ort
from planner.runtime.allocator import give_back_at_once
from planner.runtime.inputs import Inputs
from planner.runtime.segments import Bound, bind, bind_fused, chain, dead_after
from planner.runtime.selection import ExecutionPath, known_of, selected
from planner.spec.manifest import FusedSegment, Manifest, OrtSegment

Array = np.ndarray[Any, Any]


class Session:
    """A loaded engine. `run` may be called from several threads; `close` frees the weights."""

    def __init__(self, directory: Path, manifest: Manifest, segments: Sequence[Bound]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.name = manifest.name
        self.inputs = manifest.inputs
        self.outputs = manifest.outputs
        self._inputs = Inputs(manifest.name, manifest.inputs)
        self._output_names = tuple(spec.name for spec in manifest.outputs)
        self._segments: tuple[Bound, ...] | None = tuple(segments)
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """Outputs by name for inputs by name.

        Raises:
            DataError: names, dtypes or shapes that do not fit, or values the model refuses.
            EnvironmentMismatchError: not enough memory for these inputs.
            UsageError: the session is closed.
        """
        segments = self._segments
        if segments is None:
            raise UsageError("the session is closed", where=self.name)
        self._inputs.check(feeds)
        return self._execute(segments, feeds)

    def run_on_device(
        self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Device tensors (DLPack) in and out, without a copy through the host.

        Args:
            out: the caller's own tensors for outputs by name; the others get new memory.

        Raises:
            DataError: names, dtypes or shapes that do not fit.
            UsageError: the session is closed, or ONNX Runtime runs a part of it.
        """
        segments = self._segments
        if segments is None:
            raise UsageError("the session is closed", where=self.name)
        self._inputs.check_names(feeds)
        alive = dict(feeds)
        for segment in segments:
            if segment.kernels is None:
                raise UsageError(
                    "ONNX Runtime runs a part of this engine, on NumPy arrays",
                    where=segment.file,
                    fix="session.run",
                )
            given = {name: alive[name] for name in segment.inputs}
            own = {n: value for n, value in (out or {}).items() if n in segment.outputs}
            alive.update(segment.kernels.run_on_device(given, own))
        return {name: alive[name] for name in self._output_names}

    @property
    def parts(self) -> tuple[Bound, ...]:
        """What runs one after the other; none once it is closed."""
        return self._segments or ()

    @property
    def loops(self) -> tuple[str, ...]:
        """Of each loop of generated kernels: whether it is one here, or why its launches run."""
        return tuple(
            f"{part.file}: {text}"
            for part in self.parts
            if part.kernels is not None
            for text in part.kernels.loops_text
        )

    @property
    def is_healthy(self) -> bool:
        """False once a GPU gave no answer in time: the process must start anew."""
        parts = self._segments or ()
        return all(part.kernels is None or part.kernels.is_healthy for part in parts)

    def _execute(self, segments: tuple[Bound, ...], feeds: Mapping[str, Array]) -> dict[str, Any]:
        """Runs on feeds that fit."""
        if len(segments) == 1:
            return segments[0].call(ort.feed_dict(feeds))
        return chain(segments, feeds, self._output_names)

    def close(self) -> None:
        """Free the weights once no run uses them any more; later runs are refused."""
        with self._lock:
            segments, self._segments = self._segments or (), None
        for segment in segments:
            if segment.kernels is not None:
                segment.kernels.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def as_engine(session: Any) -> Callable[[Mapping[str, Array]], dict[str, Any]]:
    """An ONNX Runtime session called as an engine of one part calls it, its checks and all: what a
    call will cost, before there is an engine."""
    names, run = ort.bind_all(session)
    check = Inputs("session", ort.tensor_specs(session)[0]).check
    part = Bound(run, (), names, (), "session")

    def call(feeds: Mapping[str, Array]) -> dict[str, Any]:
        check(feeds)
        return part.call(ort.feed_dict(feeds))

    return call


def load(
    directory: Path | str,
    *,
    verify_hashes: bool = True,
    path: ExecutionPath = "verified",
    copies: int = 1,
    apart: Mapping[str, Mapping[str, str]] | None = None,
    shared_percent: Mapping[str, int] | None = None,
) -> Session:
    """Check an engine directory and make it ready to run; ranks are started where there are any.

    Whether this machine resembles the one it was built on is not asked here: see
    `planner.runtime.fingerprint.fingerprint_differences`.

    Args:
        path: how parts with generated kernels run: as `infopt verify` found to be faster on this
            device (kernels where it has not run yet), or all one way.
        copies: calls of generated kernels that may run at once; each has memory of its own.
        apart: part -> kernels of loops that run as launches here, and why; where not given, as
            `infopt verify` found with `path="verified"`, else none.
        shared_percent: part -> share of a multiprocessor's memory that its kernels ask for as
            shared memory; where not given, likewise, else what the part was built with.

    Raises:
        VerificationError: manifest, file list, sizes or hashes are not what was built.
        EnvironmentMismatchError: a provider, devices or a library for the ranks to talk through
            are absent, or the memory does not suffice.
    """
    directory = Path(directory)
    manifest = integrity.read_manifest(directory)
    integrity.check_files(directory, manifest.files, verify_hashes=verify_hashes)
    if manifest.ranks > 1:
        from planner.runtime.ranks.session import load_group

        return load_group(directory, manifest)
    if manifest.is_streamed:
        from planner.runtime.streaming.session import load_streamed

        return load_streamed(directory, manifest)
    known = known_of(directory, manifest, path)
    segments = selected(manifest, path, known)
    if apart is None:
        apart = known.apart if known is not None else {}
    if shared_percent is None:
        shared_percent = known.shared_percent if known is not None else {}
    parts = _openers(directory, manifest, segments, copies, apart, shared_percent)
    return Session(directory, manifest, _all_or_none(parts))


def _openers(
    directory: Path,
    manifest: Manifest,
    segments: tuple[OrtSegment | FusedSegment, ...],
    copies: int,
    apart: Mapping[str, Mapping[str, str]],
    shared_percent: Mapping[str, int],
) -> list[Callable[[], Bound]]:
    """What opens each part. One that is alone hands out the engine's outputs, in their order."""
    dead = dead_after(directory, manifest, segments)
    if len(segments) == 1:
        returned = tuple(spec.name for spec in manifest.outputs)
        segments = (segments[0].model_copy(update={"outputs": returned}),)
    # Several parts of ONNX Runtime alone are a plan for little memory: none keeps any for itself.
    keeps = len(segments) == 1 or any(isinstance(each, FusedSegment) for each in segments)
    if not keeps:
        give_back_at_once()
    listed = {entry.path for entry in manifest.files}

    def bound(segment: OrtSegment | FusedSegment, gone: tuple[str, ...]) -> Bound:
        if isinstance(segment, FusedSegment):
            loops = apart.get(segment.folder, {})
            share = shared_percent.get(segment.folder)
            return bind_fused(directory, segment, listed, gone, copies, loops, share)
        return bind(directory, segment, segment.file, listed, gone, has_arena=keeps)

    return [partial(bound, each, gone) for each, gone in zip(segments, dead, strict=True)]


def _all_or_none(parts: Iterable[Callable[[], Bound]]) -> list[Bound]:
    """All parts; where one cannot be opened, those before it give the GPU's memory back."""
    with ExitStack() as undone:
        found = []
        for opened in parts:
            found.append(opened())
            if (kernels := found[-1].kernels) is not None:
                undone.callback(kernels.close)
        undone.pop_all()
    return found
