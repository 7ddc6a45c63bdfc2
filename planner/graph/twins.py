"""Initialisers with the same bytes become one: exporters may write a tied weight several times."""

from __future__ import annotations

import hashlib
from pathlib import Path

from onnx import GraphProto, TensorProto

from planner.graph import proto, weights

_WORTHWHILE_BYTES = 1024


def merge(graph: GraphProto, folder: Path) -> int:
    """Merges byte-identical initialisers of the top graph, in place; bytes saved.

    Inputs and outputs of the graph keep their names; external data is read from `folder`.
    """
    fixed = {value.name for value in (*graph.input, *graph.output)}
    first: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    saved = 0
    for tensor in graph.initializer:
        if tensor.name in fixed or proto.tensor_size_bytes(tensor) < _WORTHWHILE_BYTES:
            continue
        kept = first.setdefault(_digest(tensor, folder), tensor.name)
        if kept != tensor.name:
            renamed[tensor.name] = kept
            saved += proto.tensor_size_bytes(tensor)
    if renamed:
        proto.rename_reads(graph, renamed)
        _drop(graph, renamed)
    return saved


def _drop(graph: GraphProto, names: dict[str, str]) -> None:
    for index in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[index].name in names:
            graph.initializer.pop(index)


def _digest(tensor: TensorProto, folder: Path) -> bytes:
    """Of type, shape and bytes, whichever way those are stored."""
    state = hashlib.sha256(f"{tensor.data_type} {list(tensor.dims)} ".encode())
    extent = weights.check_bytes(tensor, folder)
    if extent is None and not tensor.HasField("raw_data"):
        bare = TensorProto()
        bare.CopyFrom(tensor)
        for field in ("name", "doc_string"):
            bare.ClearField(field)
        state.update(bare.SerializeToString(deterministic=True))
        return state.digest()
    for chunk in weights.chunks(tensor, extent):
        state.update(chunk)
    return state.digest()
