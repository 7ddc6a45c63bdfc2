"""Named arrays on disk: a plain .npz, but the same arrays always make the same bytes.

`numpy.savez` stamps the time into every member and loses bfloat16, float8 and Python strings. Here
members carry a fixed date, extended types are stored as bits with their name beside them, and
strings as fixed-width Unicode. `numpy.load` reads the files too.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from planner.errors import DataError
from planner.runtime import dtypes

Array = np.ndarray[Any, Any]

_EPOCH = (1980, 1, 1, 0, 0, 0)
_NOTES = "dtypes.json"
"""Member that names the types NumPy's format cannot; tensor members all end in `.npy`."""
_SUFFIX = ".npy"
_DAMAGED = (
    *(OSError, ValueError, EOFError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),
    RuntimeError,  # encrypted members
)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write_tensors(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an uncompressed .npz, members in the given order.

    Raises:
        DataError: an array of Python objects that are not strings.
    """
    notes = {name: _note(array) for name, array in arrays.items() if _note(array)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(name + _SUFFIX, _EPOCH)
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _storable(name, array), allow_pickle=False)
        if notes:
            archive.writestr(zipfile.ZipInfo(_NOTES, _EPOCH), json.dumps(notes, sort_keys=True))


def _note(array: Array) -> str | None:
    name: str = array.dtype.name
    if dtypes.is_extended(name):
        return name
    return dtypes.STRING if array.dtype.kind in "OU" else None


def _storable(name: str, array: Array) -> Array:
    if dtypes.is_extended(array.dtype.name):
        return dtypes.as_bits(array)
    if array.dtype.kind != "O":
        return array
    if not all(isinstance(item, str) for item in array.flat):
        raise DataError("an array of Python objects can hold strings only", where=name)
    return array.astype(str)


def read_tensors(path: Path) -> dict[str, Array]:
    """Read what `write_tensors` (or `numpy.savez`) wrote; never unpickles.

    Raises:
        DataError: no file, not an .npz, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            notes = json.loads(archive.read(_NOTES)) if _NOTES in names else {}
            return {
                name.removesuffix(_SUFFIX): _read(archive, name, notes)
                for name in names
                if name.endswith(_SUFFIX)
            }
    except FileNotFoundError:
        raise DataError("no such file", where=str(path)) from None
    except _DAMAGED as error:
        raise DataError(f"not a readable .npz file: {error}", where=str(path)) from None


def _refuse_empty_promise(file: IO[bytes], member: zipfile.ZipInfo) -> None:
    """An array's memory is taken on the word of its header: first see that the values are there."""
    version = np.lib.format.read_magic(file)
    read_header = _HEADERS.get(version)
    if read_header is None:
        return  # NumPy itself says which versions it reads
    shape, _, dtype = read_header(file)
    size_bytes = math.prod(shape) * dtype.itemsize
    if size_bytes > member.file_size:
        raise ValueError(
            f"{member.filename} declares {size_bytes} bytes of values, {member.file_size} are there"
        )


def _read(archive: zipfile.ZipFile, member: str, notes: Mapping[str, str]) -> Array:
    with archive.open(member) as file:
        _refuse_empty_promise(file, archive.getinfo(member))
    with archive.open(member) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    note = notes.get(member.removesuffix(_SUFFIX))
    if note == dtypes.STRING:
        return array.astype(object)
    return array if note is None else array.view(dtypes.numpy_dtype(note))
