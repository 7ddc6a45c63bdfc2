"""Tensors as the protocol spells them: its datatypes, and the two ways of writing values."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from planner.runtime.dtypes import STRING, numpy_dtype
from planner.serve.faults import ClientFault

Array = np.ndarray[Any, Any]

DATATYPES = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16)},
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (32, 64)},
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
    STRING: "BYTES",
}
"""NumPy dtype name -> protocol datatype; types not listed here cannot be served."""
_LENGTH = struct.Struct("<I")


def from_binary(data: memoryview, dtype: str, shape: tuple[int, ...], where: str) -> Array:
    """An array over (or copied from) raw little-endian bytes; sizes have been checked.

    Raises:
        ClientFault: strings whose lengths do not add up, or that are not UTF-8.
    """
    if dtype == STRING:
        return _strings(list(_elements(data, where)), shape, where)
    array = np.frombuffer(data, numpy_dtype(dtype)).reshape(shape)
    return array if array.flags.aligned else array.copy()


def _elements(data: memoryview, where: str) -> Iterator[str]:
    """Strings, each behind its length in 4 bytes."""
    at = 0
    while at < len(data):
        end = at + _LENGTH.size
        size = _LENGTH.unpack_from(data, at)[0] if end <= len(data) else len(data)
        if end + size > len(data):
            raise ClientFault(f"{where}: the length of the string at byte {at} exceeds the data")
        try:
            yield str(data[end : end + size], "utf-8")
        except UnicodeDecodeError:
            raise ClientFault(f"{where}: the string at byte {at} is not UTF-8") from None
        at = end + size


def _strings(values: list[str], shape: tuple[int, ...], where: str) -> Array:
    count = _count(shape)
    if len(values) != count:
        raise ClientFault(f"{where}: {len(values)} values for shape {list(shape)} ({count})")
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count


def from_json(data: Any, dtype: str, shape: tuple[int, ...], where: str) -> Array:
    """An array from a flat or nested JSON list.

    Raises:
        ClientFault: ragged, of another type or count, or values outside the datatype's range.
    """
    values = _flat(data, where)
    if len(values) != _count(shape):
        raise ClientFault(
            f"{where}: {len(values)} values for shape {list(shape)} ({_count(shape)})"
        )
    _check_types(values, dtype, where)
    if dtype == STRING:
        return _strings(values, shape, where)
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, np.float64 if dtype == "bfloat16" else numpy_dtype(dtype))
            array = array.astype(numpy_dtype(dtype), copy=False)
    except OverflowError:
        raise ClientFault(f"{where}: a value is out of range for {DATATYPES[dtype]}") from None
    if array.dtype.kind not in "iub" and not np.isfinite(array.astype(np.float64)).all():
        is_literal = not all(map(math.isfinite, values))
        reason = "holds NaN or Infinity, which is not JSON" if is_literal else "is out of range"
        raise ClientFault(f"{where} {reason} (datatype {DATATYPES[dtype]})")
    return array.reshape(shape)


def _flat(data: Any, where: str) -> list[Any]:
    """Nested lists as one, row-major."""
    if not isinstance(data, list):
        raise ClientFault(f"{where} must be a list")
    values: list[Any] = data
    while values and isinstance(values[0], list):
        if set(map(type, values)) != {list} or len(set(map(len, values))) > 1:
            raise ClientFault(f"{where} is ragged: nested lists must all have one length")
        values = list(chain.from_iterable(values))
    return values


def _check_types(values: list[Any], dtype: str, where: str) -> None:
    """Why so strict: NumPy would read `true` as 1, `"2"` as 2 and cut 1.5 to 1 without a word."""
    if dtype == STRING:
        allowed: set[type] = {str}
    elif dtype == "bool":
        allowed = {bool}
    else:
        allowed = {int} if "int" in dtype else {int, float}
    wrong = sorted(
        _JSON_NAMES.get(kind, kind.__name__) for kind in set(map(type, values)) - allowed
    )
    if wrong:
        raise ClientFault(
            f"{where} holds {' and '.join(wrong)}; its datatype is {DATATYPES[dtype]}"
        )


_JSON_NAMES: dict[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "integers",
    float: "fractions",
    str: "strings",
    list: "lists",
    dict: "objects",
}


def to_binary(array: Array, dtype: str) -> bytes:
    """Raw little-endian bytes, row-major; strings each behind their length."""
    if dtype != STRING:
        return array.tobytes()
    encoded = [str(item).encode() for item in array.flat]
    return b"".join(part for item in encoded for part in (_LENGTH.pack(len(item)), item))


def to_json(array: Array, dtype: str, where: str) -> list[Any]:
    """A flat list of JSON values.

    Raises:
        ClientFault: NaN or infinity, which JSON cannot express (406: ask for binary data).
    """
    if dtype == STRING:
        return [str(item) for item in array.flat]
    values = array.astype(np.float32) if dtype == "bfloat16" else array
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ClientFault(
            f"{where} holds NaN or infinity, which JSON cannot express; request it with "
            'parameters {"binary_data": true}',
            status=406,
        )
    listed: list[Any] = values.ravel().tolist()
    return listed
