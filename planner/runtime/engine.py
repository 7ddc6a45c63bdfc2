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
from typing import Any, Self

import numpy as np

from planner.errors import DataError, UsageError, VerificationError
from planner.runtime import dtypes, integrity, ort
from planner.spec.manifest import Manifest, OrtSegment, TensorSpec

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


@dataclass(frozen=True, slots=True)
class _Bound:
    """One segment, ready to run; `dead` are the tensors nobody reads after it."""

    run: ort.BoundRun
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dead: tuple[str, ...]
    file: str


class Session:
    """A loaded engine. `run` may be called from several threads; `close` frees the weights."""

    def __init__(self, directory: Path, manifest: Manifest, segments: Sequence[_Bound]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.name = manifest.name
        self.inputs = manifest.inputs
        self.outputs = manifest.outputs
        self._expected = tuple(_expected(spec) for spec in manifest.inputs)
        self._output_names = tuple(spec.name for spec in manifest.outputs)
        self._segments: tuple[_Bound, ...] | None = tuple(segments)
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
        if len(segments) == 1:
            return _call(segments[0], ort.feed_dict(feeds))
        return self._chain(segments, feeds)

    def _chain(self, segments: tuple[_Bound, ...], feeds: Mapping[str, Array]) -> dict[str, Any]:
        alive: dict[str, Any] = dict(feeds)
        for segment in segments:
            alive.update(_call(segment, {name: alive[name] for name in segment.inputs}))
            for name in segment.dead:
                del alive[name]
        return {name: alive[name] for name in self._output_names}

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
            self._segments = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _call(segment: _Bound, feeds: dict[str, Any]) -> dict[str, Any]:
    try:
        values = segment.run(feeds)
    except ort.ORT_ERRORS as error:
        raise ort.run_error(error, segment.file) from None
    return dict(zip(segment.outputs, values, strict=True))


def shape_text(shape: Sequence[int | None]) -> str:
    """`[1, ?, 3]`."""
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


def _expected(spec: TensorSpec) -> _Expected:
    fixed = tuple((axis, size) for axis, size in enumerate(spec.shape) if size is not None)
    return _Expected(spec, spec.name, dtypes.numpy_dtype(spec.dtype), spec.shape, fixed)


def load(directory: Path | str, *, verify_hashes: bool = True) -> Session:
    """Check an engine directory and make it ready to run.

    Whether this machine resembles the one it was built on is not asked here: see
    `planner.runtime.fingerprint.fingerprint_differences`.

    Raises:
        VerificationError: manifest, file list, sizes or hashes are not what was built.
        EnvironmentMismatchError: a provider is absent, or the memory does not suffice.
    """
    directory = Path(directory)
    manifest = integrity.read_manifest(directory)
    integrity.check_files(directory, manifest.files, verify_hashes=verify_hashes)
    listed = {entry.path for entry in manifest.files}
    segments = [segment for stage in manifest.stages for segment in stage.segments]
    dead = _dead_after(directory, manifest, segments)
    if len(segments) == 1:
        returned = tuple(spec.name for spec in manifest.outputs)
        segments = [segments[0].model_copy(update={"outputs": returned})]
    bound = [
        _bind(directory, segment, listed, gone)
        for segment, gone in zip(segments, dead, strict=True)
    ]
    return Session(directory, manifest, bound)


def _bind(directory: Path, segment: OrtSegment, listed: set[str], dead: tuple[str, ...]) -> _Bound:
    if segment.file not in listed:
        raise VerificationError(
            f"segment file {segment.file!r} is not in the list of files",
            where=str(directory / integrity.MANIFEST),
        )
    session = ort.make_session(directory / segment.file, segment.settings)
    inputs, outputs = ort.tensor_specs(session)
    declared = {spec.name for spec in inputs}, {spec.name for spec in outputs}
    if set(segment.inputs) != declared[0] or not set(segment.outputs) <= declared[1]:
        raise VerificationError(
            "its inputs and outputs are not those the manifest declares",
            where=str(directory / segment.file),
        )
    run = ort.bind(session, segment.outputs)
    return _Bound(run, segment.inputs, segment.outputs, dead, segment.file)


def _dead_after(
    directory: Path, manifest: Manifest, segments: Sequence[OrtSegment]
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
