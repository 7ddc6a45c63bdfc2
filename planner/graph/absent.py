"""Stored tensors of a model whose external data may be absent: what can be checked without it."""

from __future__ import annotations

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
    root = folder.resolve()
    for tensor in proto.tensors(model):
        if not weights.is_external(tensor):
            weights.check_bytes(tensor, folder)
            continue
        weights.check_dims(tensor)
        _check_declared(tensor, root)
        total += proto.tensor_size_bytes(tensor)
    if total > proto.MAX_SIZE_BYTES:
        raise ModelError(
            "the weights together are more bytes than 64-bit arithmetic can count",
            fix="the file is damaged or hostile: export the model again",
        )
    return total


def _check_declared(tensor: TensorProto, root: Path) -> None:
    name = proto.short(tensor.name)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not location or "\0" in location:
        raise ModelError(f"tensor {name!r} has external data without a file name")
    if Path(location).is_absolute() or ".." in Path(location).parts:
        raise ModelError(
            f"tensor {name!r} points to external data outside the model's folder:"
            f" {proto.short(location, 200)!r}",
            fix="refer to a file beside the model by its name",
        )
    if proto.dtype_bits(proto.dtype_name(tensor.data_type)) == 0:
        raise ModelError(f"tensor {name!r} has external data of a type without a size")
    want = proto.tensor_size_bytes(tensor)
    if weights.declared_span(tensor, entries, want)[1] != want:
        raise ModelError(
            f"tensor {name!r} should hold {want} bytes but declares {entries['length']!r}",
            fix="the file is damaged: export the model again",
        )


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
