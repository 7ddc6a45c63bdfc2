"""The few calls of NCCL that ranks need, by its C interface, errors as exceptions.

Source: NCCL user guide, "Collective Communication Functions" and `nccl.h` (the calls used here
have kept their signatures since 2.18; `ncclCommSplit` is the latest of them).
"""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from planner.errors import EnvironmentMismatchError

ID_BYTES = 128
"""NCCL_UNIQUE_ID_BYTES"""
_SUM = 0
_NO_COLOR = -1
"""NCCL_SPLIT_NOCOLOR: a rank that joins no part."""
_BYTES = 1
"""ncclUint8"""
_TYPES = {
    "int8": 0, "uint8": 1, "int32": 2, "uint32": 3, "int64": 4, "uint64": 5,
    "float16": 6, "float32": 7, "float64": 8,
}  # fmt: skip
_FILE = "libnccl.so.2"
_FIX = 'pip install "infopt[nccl]"'


class NcclError(RuntimeError):
    """A communicator that failed cannot be used again: the rank ends, the driver starts others."""


class _Id(ctypes.Structure):
    _fields_ = (("internal", ctypes.c_char * ID_BYTES),)


def library_path() -> str | None:
    """The wheel's library, else what the loader finds."""
    folders = [folder for package in ("nvidia.nccl", "nvidia") for folder in _locations(package)]
    for path in (folder / inside / _FILE for folder in folders for inside in ("lib", "nccl/lib")):
        if path.is_file():
            return str(path)
    try:
        ctypes.CDLL(_FILE)
    except OSError:
        return None
    return _FILE


def _locations(package: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    return [Path(each) for each in (spec.submodule_search_locations or ())] if spec else []


class Nccl:
    """The library."""

    def __init__(self, path: str | None = None) -> None:
        """Raises EnvironmentMismatchError: it is not here."""
        found = path or library_path()
        if found is None:
            raise EnvironmentMismatchError("NCCL is not installed", fix=_FIX)
        try:
            self._library: Any = ctypes.CDLL(found)
        except OSError as error:
            raise EnvironmentMismatchError(f"NCCL cannot be loaded: {error}", fix=_FIX) from None
        self._library.ncclGetErrorString.restype = ctypes.c_char_p
        address, count, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        signatures = {
            "ncclCommInitRank": (ctypes.POINTER(address), number, _Id, number),
            "ncclCommSplit": (address, number, number, ctypes.POINTER(address), address),
            "ncclCommDestroy": (address,),
            "ncclAllReduce": (address, address, count, number, number, address, address),
            "ncclAllGather": (address, address, count, number, address, address),
            "ncclReduceScatter": (address, address, count, number, number, address, address),
            "ncclSend": (address, count, number, number, address, address),
            "ncclRecv": (address, count, number, number, address, address),
        }
        for name, kinds in signatures.items():
            getattr(self._library, name).argtypes = kinds

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            words = self._library.ncclGetErrorString(code).decode(errors="replace")
            raise NcclError(f"{name}: {words}")

    @property
    def version(self) -> str:
        """As released: `2.28.9`."""
        found = ctypes.c_int()
        self._call("ncclGetVersion", ctypes.byref(found))
        return f"{found.value // 10000}.{found.value // 100 % 100}.{found.value % 100}"

    def unique_id(self) -> bytes:
        """What ranks of one communicator know each other by."""
        found = _Id()
        self._call("ncclGetUniqueId", ctypes.byref(found))
        return bytes(found)

    def join(self, identity: bytes, rank: int, world: int) -> int:
        """A communicator; returns when all ranks have called it."""
        made = ctypes.c_void_p()
        given = _Id.from_buffer_copy(identity)
        self._call("ncclCommInitRank", ctypes.byref(made), world, given, rank)
        return made.value or 0

    def split(self, communicator: int, is_member: bool, key: int) -> int:
        """A communicator of some ranks; every rank of the old one calls it. 0 for non-members."""
        made = ctypes.c_void_p()
        color = 0 if is_member else _NO_COLOR
        self._call("ncclCommSplit", communicator, color, key, ctypes.byref(made), None)
        return made.value or 0

    def leave(self, communicator: int) -> None:
        """Frees it."""
        self._call("ncclCommDestroy", communicator)

    def all_reduce(
        self, source: int, target: int, count: int, kind: np.dtype[Any], to: int, stream: int
    ) -> None:
        """The sum, in stream order; `source` may be `target`."""
        self._call("ncclAllReduce", source, target, count, _type(kind), _SUM, to, stream)

    def all_gather(self, source: int, target: int, size_bytes: int, to: int, stream: int) -> None:
        """Every rank's bytes, one after the other, in stream order."""
        self._call("ncclAllGather", source, target, size_bytes, _BYTES, to, stream)

    def reduce_scatter(
        self, source: int, target: int, count: int, kind: np.dtype[Any], to: int, stream: int
    ) -> None:
        """The own part of `count` elements of the sum, in stream order."""
        self._call("ncclReduceScatter", source, target, count, _type(kind), _SUM, to, stream)

    def send(self, source: int, size_bytes: int, peer: int, to: int, stream: int) -> None:
        """In stream order: what follows waits until the other rank takes it."""
        self._call("ncclSend", source, size_bytes, _BYTES, peer, to, stream)

    def receive(self, target: int, size_bytes: int, peer: int, to: int, stream: int) -> None:
        """In stream order."""
        self._call("ncclRecv", target, size_bytes, _BYTES, peer, to, stream)


def can_add(kind: np.dtype[Any]) -> bool:
    """Whether NCCL sums such elements."""
    return kind.name in _TYPES


def _type(kind: np.dtype[Any]) -> int:
    if not can_add(kind):
        raise EnvironmentMismatchError(f"NCCL does not add {kind.name}")
    return _TYPES[kind.name]
