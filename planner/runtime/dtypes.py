"""Element types: what ONNX Runtime calls them, and the NumPy dtype that holds them.

Most ONNX types are NumPy's own. Why `ml_dtypes` for the rest: NumPy has no bfloat16 or float8, and
raw bits in an integer array would make every comparison of values silently wrong.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from planner.errors import EnvironmentMismatchError, ModelError

STRING = "string"
_NATIVE = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{
        f"tensor({name})": name
        for name in (
            *("float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
            *("bool", "complex64", "complex128", STRING),
        )
    },
}
_EXTENDED = {
    "tensor(bfloat16)": "bfloat16",
    "tensor(float8e4m3fn)": "float8_e4m3fn",
    "tensor(float8e4m3fnuz)": "float8_e4m3fnuz",
    "tensor(float8e5m2)": "float8_e5m2",
    "tensor(float8e5m2fnuz)": "float8_e5m2fnuz",
}
_PACKED = {
    "tensor(int4)": "int4",
    "tensor(uint4)": "uint4",
    "tensor(int2)": "int2",
    "tensor(uint2)": "uint2",
    "tensor(float4e2m1)": "float4_e2m1fn",
    "tensor(float8e8m0)": "float8_e8m0fnu",
}
"""Types ONNX Runtime's Python interface can neither take nor hand out."""
_NAME_OF = {**_NATIVE, **_EXTENDED, **_PACKED}
_PASSABLE = frozenset({*_NATIVE.values(), *_EXTENDED.values()})

ONNX_NUMBER = {
    "bfloat16": 16,
    "float8_e4m3fn": 17,
    "float8_e4m3fnuz": 18,
    "float8_e5m2": 19,
    "float8_e5m2fnuz": 20,
}
"""`TensorProto.DataType` of the types that NumPy does not have."""


def dtype_name(ort_type: str) -> str:
    """`tensor(float)` -> `float32`; a sequence, map or optional keeps ONNX Runtime's own words."""
    return _NAME_OF.get(ort_type, ort_type)


def is_tensor(name: str) -> bool:
    """Whether values of this dtype name are arrays that can be passed in and out."""
    return name in _PASSABLE


def is_packed(name: str) -> bool:
    """Whether ONNX Runtime's Python interface can neither take nor hand out such tensors."""
    return name in _PACKED.values()


def is_extended(name: str) -> bool:
    """Whether NumPy needs `ml_dtypes` to hold it."""
    return name in ONNX_NUMBER


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype that holds it; strings are Python objects.

    Raises:
        ModelError: a packed or non-tensor type.
        EnvironmentMismatchError: `ml_dtypes` is needed and absent.
    """
    if name == STRING:
        return np.dtype(object)
    if name not in _PASSABLE:
        raise ModelError(
            f"element type {name} cannot be passed through ONNX Runtime's Python interface",
            fix="add a Cast to a NumPy type in front of (or behind) it",
        )
    if not is_extended(name):
        return np.dtype(name)
    try:
        extension = importlib.import_module("ml_dtypes")
    except ModuleNotFoundError:
        raise EnvironmentMismatchError(
            f"element type {name} needs the package ml_dtypes", fix="pip install ml_dtypes"
        ) from None
    dtype: np.dtype[Any] = np.dtype(getattr(extension, name))
    return dtype


def as_bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array itself; an extended type as unsigned integers, which every interface takes."""
    name = array.dtype.name
    if not is_extended(name):
        return array
    return np.ascontiguousarray(array).reshape(array.shape).view(bits_dtype(name))


def bits_dtype(name: str) -> np.dtype[Any]:
    """The unsigned integer as wide as an extended type."""
    return np.dtype(f"uint{8 * numpy_dtype(name).itemsize}")
