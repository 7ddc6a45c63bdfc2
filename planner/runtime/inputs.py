"""What an engine's inputs must look like; checked before every inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from planner.errors import DataError
from planner.runtime import dtypes
from planner.spec.manifest import TensorSpec


class Inputs:
    """The inputs of one engine."""

    def __init__(self, engine: str, specs: Sequence[TensorSpec]) -> None:
        """
        Args:
            engine: its name, for messages.
        """
        self._engine = engine
        self._expected = tuple(_expected(spec) for spec in specs)
        self._usual = tuple(_usual(each) for each in self._expected)

    def check(self, feeds: Mapping[str, Any]) -> None:
        """Refuses arrays that ONNX Runtime would refuse, or read otherwise than they are meant.

        Raises:
            DataError: names, dtypes or shapes that do not fit.
        """
        if len(feeds) != len(self._expected):
            raise self._wrong_names(feeds)
        for name, dtype, rank, pick, sizes, expected in self._usual:
            value = feeds.get(name)
            # Nearly every input passes here; a call of `fits` would double what a check costs.
            if type(value) is np.ndarray and value.dtype is dtype:
                shape = value.shape
                if len(shape) == rank and (pick is None or pick(shape) == sizes):
                    continue
            if not expected.fits(value):
                raise self._misfit(feeds, expected)

    def check_names(self, feeds: Mapping[str, Any]) -> None:
        """Refuses other names than the engine's.

        Raises:
            DataError: missing and unknown ones.
        """
        if {expected.name for expected in self._expected} != set(feeds):
            raise self._wrong_names(feeds)

    def _wrong_names(self, feeds: Mapping[str, Any]) -> DataError:
        expected = [item.name for item in self._expected]
        missing = [name for name in expected if name not in feeds]
        unknown = [name for name in feeds if name not in expected]
        parts = [f"missing {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"unknown {', '.join(map(repr, unknown))}"] if unknown else []
        return DataError(
            f"inputs do not match: {'; '.join(parts)}",
            where=self._engine,
            fix=f"the engine takes {', '.join(map(repr, expected)) or 'no inputs'}",
        )

    def _misfit(self, feeds: Mapping[str, Any], expected: _Expected) -> DataError:
        if expected.name not in feeds:
            return self._wrong_names(feeds)
        return expected.misfit(feeds[expected.name])


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
        return all(shape[axis] == size for axis, size in self.fixed)

    def _has_dtype(self, value: np.ndarray[Any, Any]) -> bool:
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


_Pick = Callable[[tuple[int, ...]], Any]


def _usual(
    expected: _Expected,
) -> tuple[str, np.dtype[Any], int, _Pick | None, Any, _Expected]:
    """(name, dtype, rank, what picks the known sizes out of a shape, those sizes, the whole)."""
    rank = len(expected.shape)
    if not expected.fixed:
        return expected.name, expected.dtype, rank, None, None, expected
    pick = itemgetter(*(axis for axis, _ in expected.fixed))
    return expected.name, expected.dtype, rank, pick, pick(expected.shape), expected


def shape_text(shape: Sequence[int | None]) -> str:
    """`[1, ?, 3]`."""
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


def _expected(spec: TensorSpec) -> _Expected:
    fixed = tuple((axis, size) for axis, size in enumerate(spec.shape) if size is not None)
    return _Expected(spec, spec.name, dtypes.numpy_dtype(spec.dtype), spec.shape, fixed)
