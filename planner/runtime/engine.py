"""An engine directory, loaded: check it once, bind every segment, then only run.

Each segment's `run` is bound at load, so that a call costs a few microseconds over ONNX Runtime's.
Sessions may be run from several threads at once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from planner.errors import DataError, UsageError
from planner.runtime import dtypes, integrity, ort
from planner.runtime.segments import Bound, bind, bind_fused, chain, dead_after
from planner.runtime.selection import read_verified
from planner.spec.manifest import FusedSegment, Manifest, OrtSegment, TensorSpec

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class _Expected:
    """What an input must look like, ready to be compared."""

    spec: TensorSpec
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    fixed: tuple[tuple[int, int], ...]
    """(axis, size) of the dimensions that are known."""

    def fits(self, value: Any) -> bool:
        """Whether ONNX Runtime would read this array as it is meant.

        Byte order is part of the dtype: ONNX Runtime itself would read big-endian values as noise.
        """
        if not isinstance(value, np.ndarray) or not self._has_dtype(value):
            return False
        shape = value.shape
        if len(shape) != len(self.shape):
            return False
        for axis, size in self.fixed:  # noqa: SIM110 - before every inference: a generator costs 1 us
            if shape[axis] != size:
                return False
        return True

    def _has_dtype(self, value: Array) -> bool:
        dtype = value.dtype
        return dtype == self.dtype or (self.dtype.kind == "O" and dtype.kind == "U")

    def misfit(self, value: Any) -> DataError:
        """Why it does not fit."""
        where = f"input {self.name!r}"
        wanted = f"{self.spec.dtype} {shape_text(self.shape)}"
        if not isinstance(value, np.ndarray):
            return DataError(
                f"got {type(value).__name__}, expected an array of {wanted}",
                where=where,
                fix=f"numpy.asarray(value, dtype={self.spec.dtype!r})",
            )
        found = f"{value.dtype.str if value.dtype.byteorder == '>' else value.dtype.name}"
        if not self._has_dtype(value):
            return DataError(
                f"dtype is {found}, expected {wanted}",
                where=where,
                fix=f"value.astype({self.spec.dtype!r})",
            )
        return DataError(f"shape is {shape_text(value.shape)}, expected {wanted}", where=where)


class Session:
    """A loaded engine. `run` may be called from several threads; `close` frees the weights."""

    def __init__(self, directory: Path, manifest: Manifest, segments: Sequence[Bound]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.name = manifest.name
        self.inputs = manifest.inputs
        self.outputs = manifest.outputs
        self._expected = tuple(_expected(spec) for spec in manifest.inputs)
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
        if len(feeds) != len(self._expected):
            raise self._wrong_names(feeds)
        for expected in self._expected:
            value = feeds.get(expected.name)
            if not expected.fits(value):
                raise self._misfit(feeds, expected)
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
        if {expected.name for expected in self._expected} != set(feeds):
            raise self._wrong_names(feeds)
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
    def is_healthy(self) -> bool:
        """False once a GPU gave no answer in time: the process must start anew."""
        parts = self._segments or ()
        return all(part.kernels is None or part.kernels.is_healthy for part in parts)

    def _execute(self, segments: tuple[Bound, ...], feeds: Mapping[str, Array]) -> dict[str, Any]:
        """Runs on feeds that fit."""
        if len(segments) == 1:
            return segments[0].call(ort.feed_dict(feeds))
        return chain(segments, feeds, self._output_names)

    def _wrong_names(self, feeds: Mapping[str, Any]) -> DataError:
        expected = [item.name for item in self._expected]
        missing = [name for name in expected if name not in feeds]
        unknown = [name for name in feeds if name not in expected]
        parts = [f"missing {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"unknown {', '.join(map(repr, unknown))}"] if unknown else []
        return DataError(
            f"inputs do not match: {'; '.join(parts)}",
            where=self.name,
            fix=f"the engine takes {', '.join(map(repr, expected)) or 'no inputs'}",
        )

    def _misfit(self, feeds: Mapping[str, Any], expected: _Expected) -> DataError:
        if expected.name not in feeds:
            return self._wrong_names(feeds)
        return expected.misfit(feeds[expected.name])

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


def shape_text(shape: Sequence[int | None]) -> str:
    """`[1, ?, 3]`."""
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


def _expected(spec: TensorSpec) -> _Expected:
    fixed = tuple((axis, size) for axis, size in enumerate(spec.shape) if size is not None)
    return _Expected(spec, spec.name, dtypes.numpy_dtype(spec.dtype), spec.shape, fixed)


def load(
    directory: Path | str,
    *,
    verify_hashes: bool = True,
    path: Literal["verified", "fused", "library"] = "verified",
    copies: int = 1,
) -> Session:
    """Check an engine directory and make it ready to run; ranks are started where there are any.

    Whether this machine resembles the one it was built on is not asked here: see
    `planner.runtime.fingerprint.fingerprint_differences`.

    Args:
        path: how parts with generated kernels run: as `infopt verify` found to be faster on this
            device (kernels where it has not run yet), or all one way.
        copies: calls of generated kernels that may run at once; each has memory of its own.

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
    listed = {entry.path for entry in manifest.files}
    segments = selected(directory, manifest, path)
    dead = dead_after(directory, manifest, segments)
    if len(segments) == 1:
        returned = tuple(spec.name for spec in manifest.outputs)
        segments = (segments[0].model_copy(update={"outputs": returned}),)
    bound = [
        bind_fused(directory, segment, listed, gone, copies)
        if isinstance(segment, FusedSegment)
        else bind(directory, segment, segment.file, listed, gone)
        for segment, gone in zip(segments, dead, strict=True)
    ]
    return Session(directory, manifest, bound)


def selected(
    directory: Path, manifest: Manifest, path: Literal["verified", "fused", "library"]
) -> tuple[OrtSegment | FusedSegment, ...]:
    """Which way each part runs.

    Raises:
        EnvironmentMismatchError: there are kernels to run, and no GPU.
    """
    if not manifest.fused_segments or path == "library":
        return manifest.ort_segments
    known = read_verified(directory, manifest) if path == "verified" else None
    found = [segment for stage in manifest.stages for segment in stage.segments]
    return tuple(
        segment.library
        if isinstance(segment, FusedSegment)
        and known is not None
        and known.choice(segment.folder) == "library"
        else segment
        for segment in found
        if isinstance(segment, OrtSegment | FusedSegment)
    )
