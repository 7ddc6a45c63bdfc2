"""A part whose weights lie outside its ONNX file: they become inputs that the runtime feeds.

Only large ones of types that NumPy has: ONNX Runtime recognises patterns by small constants (a
normalisation by its scale), and what is small is not worth fetching.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper

from planner.emit.blueprint import STREAMED, Outside, Part
from planner.errors import ModelError
from planner.graph import proto, weights
from planner.runtime import dtypes
from planner.spec.manifest import StreamedTensor

LEAST_BYTES = 64 * 1024
"""Smaller constants stay in the file: a fetch rounds to pages of 4 KiB."""
_TYPES = frozenset(
    ("float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32")
)


def outsourced(part: Part) -> Part:
    """The same part, its weights in a file beside it; as it was where it has none of any size."""
    model = proto.read(part.onnx_path)
    chosen = [tensor for tensor in model.graph.initializer if can_stream(tensor)]
    if not chosen:
        return part
    target = part.onnx_path.with_name(STREAMED)
    tables = looked_up(model.graph)
    tensors = tuple(_write(chosen, tables, part.onnx_path.parent, target))
    _turn_into_inputs(model.graph, {tensor.name for tensor in chosen})
    for tensor in model.graph.initializer:
        if weights.is_external(tensor):
            weights.embed(tensor, part.onnx_path.parent)
    _forget(part.onnx_path)
    onnx.save_model(model, part.onnx_path)
    return replace(part, outside=Outside(target, tensors))


def streamable(model: ModelProto) -> tuple[dict[str, int], frozenset[str]]:
    """(bytes of constants that come with every run where their part streams, tables of which rows
    are read where they lie)."""
    large = {t.name: stored_bytes(t) for t in model.graph.initializer if can_stream(t)}
    tables = looked_up(model.graph) & large.keys()
    return {name: size for name, size in large.items() if name not in tables}, tables


def can_stream(tensor: TensorProto) -> bool:
    """Whether a constant may lie outside: large enough, of a type that can be fed."""
    dtype = proto.dtype_name(tensor.data_type)
    return dtype in _TYPES and stored_bytes(tensor) >= LEAST_BYTES


def looked_up(graph: GraphProto) -> frozenset[str]:
    """Constants of which operators only look rows up, along the first axis."""
    first, others = set[str](), set[str]()
    for node in graph.node:
        is_lookup = node.op_type == "Gather" and all(a.i == 0 for a in node.attribute)
        first.update(node.input[:1] if is_lookup else ())
        others.update(node.input[1:] if is_lookup else node.input)
        others.update(proto.captured(node))
    return frozenset(first - others - {value.name for value in graph.output})


def stored_bytes(tensor: TensorProto) -> int:
    """Bytes of a constant's elements."""
    count = 1
    for size in tensor.dims:
        count *= size
    return count * proto.dtype_bits(proto.dtype_name(tensor.data_type)) // 8


def _write(
    chosen: list[TensorProto], tables: frozenset[str], folder: Path, target: Path
) -> Iterator[StreamedTensor]:
    """One after the other, each on pages of its own."""
    with target.open("wb") as file:
        for tensor in chosen:
            offset = -(-file.tell() // mmap.PAGESIZE) * mmap.PAGESIZE
            dtype = proto.dtype_name(tensor.data_type)
            array = weights.to_array(tensor, folder)
            if array.dtype != dtypes.numpy_dtype(dtype):
                raise ModelError(f"constant {proto.short(tensor.name)!r} is not {dtype}")
            file.write(b"\0" * (offset - file.tell()))
            array.tofile(file)
            yield StreamedTensor(
                name=tensor.name,
                dtype=dtype,
                shape=tuple(tensor.dims),
                offset=offset,
                is_table=tensor.name in tables,
            )


def _turn_into_inputs(graph: GraphProto, names: set[str]) -> None:
    kept = [tensor for tensor in graph.initializer if tensor.name not in names]
    for tensor in graph.initializer:
        if tensor.name in names:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            graph.input.append(value)
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _forget(path: Path) -> None:
    """External data that the file refers to: hard links of it would keep their bytes."""
    for found in path.parent.iterdir():
        if found.name not in (path.name, STREAMED):
            found.unlink()
