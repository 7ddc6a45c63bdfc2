"""Stored tensors of a model whose external data may be absent: what can be checked without it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from onnx import GraphProto, ModelProto, TensorProto

from planner.errors import ModelError
from planner.graph import proto, weights


def check_tensors(model: ModelProto, folder: Path) -> int:
    """Refuses stored tensors that cannot be what they say; bytes that are declared and not inline.

    Raises:
        ModelError: dimensions that cannot be counted, inline data of another size, external data
            outside the model's folder or declared with another length than its type and shape.
    """
    total = 0
    for tensor in proto.tensors(model):
        if weights.is_external(tensor):
            total += _check_declared(tensor)
        else:
            weights.check_bytes(tensor, folder)
    if total > proto.MAX_SIZE_BYTES:
        raise ModelError(
            "the weights together are more bytes than 64-bit arithmetic can count",
            fix="the file is damaged or hostile: export the model again",
        )
    return total


def _check_declared(tensor: TensorProto) -> int:
    """Bytes of a tensor whose data lies elsewhere."""
    weights.check_dims(tensor)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    wrong = _location_fault(entries.get("location", ""))
    if wrong is not None:
        raise ModelError(
            f"tensor {proto.short(tensor.name)!r} {wrong}",
            fix="refer to a file beside the model by its name",
        )
    want = proto.tensor_size_bytes(tensor)
    if proto.dtype_bits(proto.dtype_name(tensor.data_type)) == 0:
        raise ModelError(
            f"tensor {proto.short(tensor.name)!r} has external data of a type without a size"
        )
    if weights.declared_span(tensor, entries, want)[1] != want:
        raise ModelError(
            f"tensor {proto.short(tensor.name)!r} should hold {want} bytes but declares"
            f" {proto.short(entries['length'])!r}",
            fix="the file is damaged: export the model again",
        )
    return want


@lru_cache(maxsize=1024)
def _location_fault(location: str) -> str | None:
    """Why data cannot lie there; most tensors name the same file."""
    if not location or "\0" in location:
        return "has external data without a file name"
    if Path(location).is_absolute() or ".." in Path(location).parts:
        return f"points to external data outside the model's folder: {proto.short(location, 200)!r}"
    return None


def shared(graph: GraphProto) -> dict[str, str]:
    """Weight -> the first one with the same bytes, type and shape: both lie at one place.

    Only where file and offset are written out; a missing offset may be an exporter's silence.
    """
    first: dict[tuple[object, ...], str] = {}
    found: dict[str, str] = {}
    for tensor in graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if not weights.is_external(tensor) or "offset" not in entries:
            continue
        place = (entries.get("location"), entries["offset"], tensor.data_type, tuple(tensor.dims))
        same = first.setdefault(place, tensor.name)
        if same != tensor.name and 0 not in tensor.dims:
            found[tensor.name] = same
    return found
