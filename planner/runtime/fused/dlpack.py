"""Device tensors in and out without a copy through the host: DLPack, by its C structures.

Layout: dmlc/dlpack, `dlpack.h`, version 0 (`DLManagedTensor`, capsule name `dltensor`), which every
producer hands out when no newer version is asked for.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from planner.errors import DataError

CUDA_DEVICE = 2
"""kDLCUDA"""
_NAME = b"dltensor"
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
"""NumPy kind -> DLDataTypeCode."""
_KINDS = {code: kind for kind, code in _CODES.items()}
_BITS_PER_BYTE = 8


class _Device(ctypes.Structure):
    _fields_ = (("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (
    ("dl_tensor", _Tensor),
    ("manager_ctx", ctypes.c_void_p),
    ("deleter", _Deleter),
)

_python = ctypes.pythonapi
_python.PyCapsule_GetPointer.restype = ctypes.c_void_p
_python.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_python.PyCapsule_IsValid.argtypes = (ctypes.py_object, ctypes.c_char_p)
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_python.PyCapsule_New.restype = ctypes.py_object
_python.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_char_p, _Destructor)


def is_device_tensor(value: Any) -> bool:
    """Whether a value lives on a CUDA device and can be read where it is."""
    device = getattr(type(value), "__dlpack_device__", None)
    return device is not None and int(value.__dlpack_device__()[0]) == CUDA_DEVICE


_ONE_STREAM = frozenset({"torch", "cupy"})
"""Libraries that make a reader wait for the calling thread's current stream, whatever the tensor:
once a call is enough. Events cost 15 us a tensor there."""
_NO_WAIT = -1


class Streams:
    """Whom a call has waited for already."""

    def __init__(self, stream: int) -> None:
        """`stream` is the reader's."""
        self._stream = stream
        self._known: set[str] = set()

    def wait_for(self, value: Any) -> int:
        """The stream that the tensor's library is told: the reader's, or that it need not wait."""
        library = type(value).__module__.partition(".")[0]
        if library in self._known:
            return _NO_WAIT
        if library in _ONE_STREAM:
            self._known.add(library)
        return self._stream


class Borrowed:
    """Somebody's device tensor, readable while this object lives."""

    def __init__(self, value: Any, stream: int, where: str) -> None:
        """Asks the producer to make `stream` wait for what it still computes.

        Raises:
            DataError: not contiguous, or of a type NumPy has no name for.
        """
        self._capsule = value.__dlpack__(stream=stream)
        pointer = _python.PyCapsule_GetPointer(self._capsule, _NAME)
        tensor = ctypes.cast(pointer, ctypes.POINTER(_Managed)).contents.dl_tensor
        rank = int(tensor.ndim)
        self.shape = tuple(int(tensor.shape[axis]) for axis in range(rank))
        self.address = int(tensor.data or 0) + int(tensor.byte_offset)
        self.device = int(tensor.device.device_id)
        self.dtype = _numpy_dtype(tensor.dtype, where)
        if tensor.strides and not _is_contiguous(self.shape, tensor.strides):
            raise DataError(
                "device tensors must be contiguous", where=where, fix="value.contiguous()"
            )


def _numpy_dtype(found: _DataType, where: str) -> np.dtype[Any]:
    kind = _KINDS.get(int(found.code))
    if kind is None or int(found.lanes) != 1:
        raise DataError(f"DLPack type code {found.code} has no NumPy type", where=where)
    size_bytes = int(found.bits) // _BITS_PER_BYTE
    return np.dtype("bool") if kind == "b" else np.dtype(f"{kind}{size_bytes}")


def _is_contiguous(shape: tuple[int, ...], strides: Any) -> bool:
    expected = 1
    for axis in reversed(range(len(shape))):
        if shape[axis] != 1 and int(strides[axis]) != expected:
            return False
        expected *= shape[axis]
    return True


class DeviceTensor:
    """A result on the device; `torch.from_dlpack(tensor)` and its like take it without a copy."""

    def __init__(
        self,
        address: int,
        shape: tuple[int, ...],
        dtype: str,
        device: int,
        free: Callable[[int], None],
    ) -> None:
        """Owns `address`: `free` is called once nobody holds the tensor."""
        self.address = address
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.device = device
        self._free = free

    @property
    def size_bytes(self) -> int:
        """Bytes at `address`."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __dlpack_device__(self) -> tuple[int, int]:
        """Where it lives, as DLPack says it."""
        return CUDA_DEVICE, self.device

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        """A capsule that keeps this tensor alive. The values are there: no stream must wait."""
        managed = _Managed()
        tensor = managed.dl_tensor
        extents = (ctypes.c_int64 * len(self.shape))(*self.shape)
        tensor.data, tensor.ndim = self.address, len(self.shape)
        tensor.device = _Device(CUDA_DEVICE, self.device)
        code = _CODES[self.dtype.kind]
        tensor.dtype = _DataType(code, self.dtype.itemsize * _BITS_PER_BYTE, 1)
        tensor.shape = ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64))
        managed.deleter = _RELEASE
        _EXPORTED[ctypes.addressof(managed)] = (managed, extents, self)
        return _python.PyCapsule_New(ctypes.addressof(managed), _NAME, _DROP)

    def __del__(self) -> None:
        """Gives the memory back."""
        self._free(self.address)


_EXPORTED: dict[int, tuple[_Managed, Any, DeviceTensor]] = {}
"""What consumers hold, by the address of its structure."""


def _release(managed: Any) -> None:
    _EXPORTED.pop(ctypes.addressof(managed.contents), None)


def _drop(capsule: int) -> None:
    """Destroys a capsule that nobody consumed; a consumed one has another name."""
    held = ctypes.cast(capsule, ctypes.py_object)
    if _python.PyCapsule_IsValid(held, _NAME):
        _EXPORTED.pop(_python.PyCapsule_GetPointer(held, _NAME), None)


_RELEASE = _Deleter(_release)
_DROP = _Destructor(_drop)
