"""What goes before a tensor whose type and shape the other rank does not know."""

from __future__ import annotations

from typing import Any

import numpy as np

from planner.errors import EnvironmentMismatchError
from planner.runtime import dtypes

Array = np.ndarray[Any, Any]

_MOST_DIMENSIONS = 8
_NOTHING = -1
_TYPES = (
    *("float32", "float64", "float16", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128"),
    *("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
)
"""Types by the number that stands for them in a message's head."""
WORDS = _MOST_DIMENSIONS + 2


def head_of(value: Array | None) -> Array:
    """Type, number of dimensions, dimensions.

    Raises:
        EnvironmentMismatchError: strings, which have no bytes to send.
    """
    numbers = np.zeros(WORDS, np.int64)
    if value is None:
        numbers[0] = _NOTHING
        return numbers
    if value.dtype.kind == "O":
        raise EnvironmentMismatchError(
            "strings cannot pass between ranks through this library",
            fix='pip install "infopt[mpi]"',
        )
    kind = _TYPES.index(value.dtype.name)
    numbers[: value.ndim + 2] = (kind, value.ndim, *value.shape)
    return numbers


def empty_for(head: Array) -> Array | None:
    """Memory for what a head announces; None: it could not be made."""
    kind, rank, *shape = (int(number) for number in head)
    if kind == _NOTHING:
        return None
    return np.empty(shape[:rank], dtypes.numpy_dtype(_TYPES[kind]))


def bytes_of(value: Array) -> Array:
    """The same memory (a copy where it is not contiguous), whatever the type."""
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8)
