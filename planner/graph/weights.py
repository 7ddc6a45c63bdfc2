"""Stored tensors: where their bytes lie, whether they are what the header says, their digest.

External data is a request to read a file that the model's author chose, so the path is checked
before anything is opened: relative, inside the model's folder after following links, and a regular
file.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from planner.errors import AbsentDataError, ModelError
from planner.graph import proto

_CHUNK_BYTES = 16 * 2**20
_EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80}
_TYPED_FIELDS = {
    "float32": ("float_data", 1),
    "complex64": ("float_data", 2),
    "float64": ("double_data", 1),
    "complex128": ("double_data", 2),
    "int64": ("int64_data", 1),
    "uint64": ("uint64_data", 1),
    "uint32": ("uint64_data", 1),
}


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes of one external tensor."""

    path: Path
    offset: int
    length: int


def is_external(tensor: TensorProto) -> bool:
    """Whether the bytes lie in another file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def check_dims(tensor: TensorProto) -> None:
    """Refuses dimensions that no runtime can count with.

    Raises:
        ModelError: a negative dimension, or a product that overflows.
    """
    name = proto.short(tensor.name)
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"tensor {name!r} has a negative dimension: {list(tensor.dims)}")
    if math.prod(tensor.dims) * 16 > proto.MAX_SIZE_BYTES:
        raise ModelError(
            f"tensor {name!r} declares {'x'.join(map(str, tensor.dims))} elements, more than 64-bit"
            " arithmetic can count",
            fix="the file is damaged or hostile: export the model again",
        )


def check_bytes(tensor: TensorProto, folder: Path) -> Extent | None:
    """Compares the bytes present with those declared; the extent where they are external.

    Raises:
        ModelError: data missing, of another size, or in a file that must not be read.
    """
    check_dims(tensor)
    if is_external(tensor):
        return _external_extent(tensor, folder)
    want = proto.tensor_size_bytes(tensor)
    if tensor.HasField("raw_data"):
        have = len(tensor.raw_data)
        if have != want:
            raise _size_clash(tensor, want, have)
        return None
    _check_typed_field(tensor)
    return None


def _check_typed_field(tensor: TensorProto) -> None:
    dtype = proto.dtype_name(tensor.data_type)
    count = math.prod(tensor.dims)
    if dtype == "string":
        field, per_element = "string_data", 1
    else:
        field, per_element = _TYPED_FIELDS.get(dtype, ("int32_data", 1))
    have = len(getattr(tensor, field))
    # Sub-byte types are packed, by two conventions; anything between them is fine.
    least = (
        (count * proto.dtype_bits(dtype) + 31) // 32 if proto.dtype_bits(dtype) in (2, 4) else count
    )
    if not least * per_element <= have <= count * per_element:
        raise _size_clash(tensor, count * per_element, have, unit="elements")


def _size_clash(tensor: TensorProto, want: int, have: int, unit: str = "bytes") -> ModelError:
    shape = "x".join(map(str, tensor.dims)) or "scalar"
    dtype = proto.dtype_name(tensor.data_type)
    return ModelError(
        f"tensor {proto.short(tensor.name)!r} ({dtype}, {shape}) should hold {want} {unit}"
        f" but holds {have}",
        fix="the file is damaged: export the model again",
    )


def _external_extent(tensor: TensorProto, folder: Path) -> Extent:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _safe_path(tensor, entries.get("location", ""), folder)
    want = proto.tensor_size_bytes(tensor)
    offset, length = declared_span(tensor, entries, want)
    available = path.stat().st_size - offset
    if length != want:
        raise _size_clash(tensor, want, length)
    if available < length:
        raise ModelError(
            f"external data file {path.name!r} is too short: tensor {proto.short(tensor.name)!r}"
            f" needs {length} bytes from offset {offset}, {max(available, 0)} are there",
            fix="copy the file again; it was cut off",
        )
    return Extent(path, offset, length)


def declared_span(tensor: TensorProto, entries: dict[str, str], want: int) -> tuple[int, int]:
    """Offset and length that the header gives, `want` bytes where it gives no length.

    Raises:
        ModelError: they are no sizes.
    """
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or want)
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0:
        raise ModelError(
            f"tensor {proto.short(tensor.name)!r} has an external offset or length that is no size",
            fix="export the model again",
        )
    return offset, length


def _safe_path(tensor: TensorProto, location: str, folder: Path) -> Path:
    """The external file, once it is known to lie in the model's folder."""
    name, shown = proto.short(tensor.name), proto.short(location, 200)
    if not location or "\0" in location:
        raise ModelError(f"tensor {name!r} has external data without a file name")
    root = Path(os.path.realpath(folder))
    path = Path(os.path.realpath(root / location))  # `Path.resolve` fails on links in a circle
    if Path(location).is_absolute() or not path.is_relative_to(root):
        raise ModelError(
            f"tensor {name!r} points to external data outside the model's folder: {shown!r}",
            fix="put the data file beside the model (a copy, not a link) and refer to it by name",
        )
    if not path.exists():
        raise AbsentDataError(
            f"external data file {shown!r} of tensor {name!r} is missing",
            fix=f"put it into {str(folder)!r}, beside the model",
        )
    if not path.is_file():
        raise ModelError(f"external data {shown!r} of tensor {name!r} is not a regular file")
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file, streaming."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def joint_digest(model_path: Path, external: list[Path]) -> str:
    """SHA-256 of the model: of its one file, or of the digests and names of all its files."""
    own = digest(model_path)
    if not external:
        return own
    root = model_path.parent.resolve()
    lines = [f"{digest(path)}  {path.relative_to(root).as_posix()}\n" for path in external]
    return hashlib.sha256(
        "".join([own + "\n", *lines]).encode(errors="surrogateescape")
    ).hexdigest()


def is_finite(tensor: TensorProto, extent: Extent | None) -> bool:
    """Whether no element is NaN or infinite; other types than floats always are."""
    dtype = proto.dtype_name(tensor.data_type)
    if dtype not in ("float16", "bfloat16", "float32", "float64"):
        return True
    if extent is None and not tensor.HasField("raw_data"):
        values = tensor.float_data or tensor.double_data or tensor.int32_data
        array = np.fromiter(values, np.float64, len(values))
        return bool(np.isfinite(array).all()) if dtype in ("float32", "float64") else True
    return all(_is_chunk_finite(dtype, chunk) for chunk in chunks(tensor, extent))


def _is_chunk_finite(dtype: str, chunk: bytes) -> bool:
    if dtype in _EXPONENTS:
        mask = _EXPONENTS[dtype]
        return not bool(np.any((np.frombuffer(chunk, np.uint16) & mask) == mask))
    return bool(np.isfinite(np.frombuffer(chunk, dtype)).all())


def chunks(tensor: TensorProto, extent: Extent | None) -> Iterator[bytes]:
    """The raw bytes of a tensor in pieces of bounded size, each of whole elements."""
    if extent is None:
        yield tensor.raw_data
        return
    with extent.path.open("rb") as file:
        file.seek(extent.offset)
        left = extent.length
        while left > 0:
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise ModelError(f"external data file {extent.path.name!r} shrank while being read")
            left -= len(chunk)
            yield chunk


def bring(tensors: Iterable[TensorProto], source: Path, folder: Path) -> None:
    """Gives the files that these tensors refer to a place in `folder`, too, for a model there.

    A second name for the same bytes: ONNX Runtime refuses symbolic links out of a model's folder.
    """
    outside = [tensor for tensor in tensors if is_external(tensor)]
    for location in {_location(tensor) for tensor in outside}:
        target = folder / location
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(source / location, target)


def _location(tensor: TensorProto) -> str:
    return str(next(entry.value for entry in tensor.external_data if entry.key == "location"))


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def to_array(tensor: TensorProto, folder: Path) -> NDArray[Any]:
    """The values; external ones are mapped into memory, and read when they are looked at.

    Raises:
        ModelError: as `check_bytes`.
    """
    if not is_external(tensor):
        return np.asarray(numpy_helper.to_array(tensor))
    extent = check_bytes(tensor, folder)
    is_packed = proto.dtype_bits(proto.dtype_name(tensor.data_type)) < 8
    if extent is None or extent.length == 0 or is_packed:
        return np.asarray(numpy_helper.to_array(tensor, str(folder)))
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(extent.path, dtype, "r", extent.offset, tuple(tensor.dims))


def embed(tensor: TensorProto, folder: Path) -> None:
    """Reads the external bytes of a tensor into it.

    Raises:
        ModelError: as `check_bytes`.
    """
    extent = check_bytes(tensor, folder)
    tensor.raw_data = b"".join(chunks(tensor, extent))
    del tensor.external_data[:]
    tensor.ClearField("data_location")


def files_size_bytes(paths: list[Path]) -> int:
    """Bytes of all these files."""
    return sum(path.stat().st_size for path in paths)
