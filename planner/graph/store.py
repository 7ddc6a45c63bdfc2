"""Writes a model to disk: one file while it fits comfortably, else weights in one file beside it.

Weights pass through in pieces, never all at once; files appear complete or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from onnx import ModelProto, TensorProto, numpy_helper

from planner.graph import proto, weights

INLINE_LIMIT_BYTES = 256 * 2**20
"""Up to here weights travel inside the model file, which every tool reads without ado."""
_SMALL_BYTES = 1024
"""Tensors below this stay inside: they are often shapes, which inference wants to see."""
_ALIGNMENT = 4096
"""Offsets that can be mapped into memory."""


def data_path(path: Path) -> Path:
    """Where the weights of a large model lie: `<file>.data` beside it."""
    return path.with_name(path.name + ".data")


def write(model: ModelProto, path: Path, folder: Path) -> int:
    """Writes `model`, whose external data lies in `folder`; bytes written. Changes `model`.

    Raises:
        ModelError: external data is missing, short, or outside `folder`.
    """
    total = sum(proto.tensor_size_bytes(tensor) for tensor in proto.initialisers(model.graph))
    if total <= INLINE_LIMIT_BYTES:
        _embed(proto.tensors(model), folder)
        return save(model, path)
    with _complete(data_path(path)) as file:
        for tensor in proto.initialisers(model.graph):
            _spill(tensor, folder, file, data_path(path).name)
        size_bytes = file.tell()
    kept = (tensor for tensor in proto.tensors(model) if not _is_in(tensor, data_path(path).name))
    _embed(kept, folder)
    return size_bytes + save(model, path)


def save(model: ModelProto, path: Path) -> int:
    """Writes the protobuf as it is, always the same bytes for the same model; bytes written."""
    with _complete(path) as file:
        return file.write(model.SerializeToString(deterministic=True))


@contextmanager
def _complete(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name only once it is whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _is_in(tensor: TensorProto, location: str) -> bool:
    return weights.is_external(tensor) and any(
        entry.key == "location" and entry.value == location for entry in tensor.external_data
    )


def _embed(tensors: Iterator[TensorProto], folder: Path) -> None:
    for tensor in tensors:
        if weights.is_external(tensor):
            weights.embed(tensor, folder)


def _spill(tensor: TensorProto, folder: Path, file: IO[bytes], location: str) -> None:
    """Moves one initialiser's bytes into the data file."""
    is_string = tensor.data_type == TensorProto.STRING
    if is_string or proto.tensor_size_bytes(tensor) < _SMALL_BYTES:
        return
    extent = weights.check_bytes(tensor, folder)
    if extent is None and not tensor.HasField("raw_data"):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    offset = -(-file.tell() // _ALIGNMENT) * _ALIGNMENT
    file.write(bytes(offset - file.tell()))
    length = sum(file.write(chunk) for chunk in weights.chunks(tensor, extent))
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
