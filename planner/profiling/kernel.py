"""A kernel: one node of an optimised graph with everything its running time depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

METHOD_VERSION = 11
"""Raise it when the way of measuring changes, so that old measurements are not mixed with new."""

_LOOK_UPS = frozenset({"Gather", "GatherND", "GatherElements", "EmbedLayerNormalization"})
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_VALUE_DIGEST_ELEMENTS = 4096
"""Integer and boolean inputs up to this many elements are part of the key: trip counts, axes,
indices and conditions decide how much work is done."""

_VALUE_BLIND = frozenset({"Cast", "DequantizeLinear"})
"""Operators that do the same work whatever their integers are: accumulators of quantised layers."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Operand:
    """One input of a kernel."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_constant: bool
    value_digest: str = ""

    @property
    def signature(self) -> list[Any]:
        return [self.dtype, list(self.shape), self.is_constant, self.value_digest]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A node, its operands and how many bytes of constants it reads."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    captured: tuple[str, ...]
    outputs: tuple[str, ...]
    signature: str
    """Digest of type, attributes, opset and operands: equal kernels take equal time."""
    constant_size_bytes: int
    output_size_bytes: int

    @property
    def read_size_bytes(self) -> int:
        """Bytes of constants that a run reads: a look-up reads the rows that it returns."""
        if self.op_type in _LOOK_UPS:
            return min(self.constant_size_bytes, self.output_size_bytes)
        return self.constant_size_bytes


def captured_names(node: onnx.NodeProto) -> tuple[str, ...]:
    """Tensors that the node's subgraphs read from outside, in order of first use."""
    found: dict[str, None] = {}
    for attribute in node.attribute:
        graphs = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs
        for graph in graphs:
            found.update(dict.fromkeys(_free_names(graph)))
    return tuple(name for name in found if name not in node.input)


def _free_names(graph: onnx.GraphProto) -> list[str]:
    known = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    free: list[str] = []
    for node in graph.node:
        wanted = [*node.input, *captured_names(node)]
        free.extend(name for name in wanted if name and name not in known)
        known.update(node.output)
    free.extend(value.name for value in graph.output if value.name not in known)
    return free


def value_digest(value: Array, op_type: str) -> str:
    """Digest of values that steer the work; empty for those that do not.

    8-bit integers are data (quantised activations, pixels), which steers nothing.
    """
    is_index = value.dtype.kind in "iub" and (value.itemsize > 1 or value.dtype.kind == "b")
    steers = is_index and value.size <= _VALUE_DIGEST_ELEMENTS and op_type not in _VALUE_BLIND
    if not steers and op_type not in _CONTROL_FLOW:
        return ""
    if value.dtype == object:
        return hashlib.sha256("\0".join(map(str, value.ravel())).encode()).hexdigest()[:32]
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:32]


def describe(
    node: onnx.NodeProto,
    operands: Mapping[str, Operand],
    opsets: Mapping[str, int],
    outputs: Mapping[str, Array],
    constant_size_bytes: int,
) -> Kernel:
    """The kernel of one node.

    Args:
        operands: every input and captured tensor by name.
        outputs: what it made, by name; absent where that is no tensor. Their shapes are part of
            the signature, because they may hang on values that are not (the scales of a Resize).
    """
    captured = captured_names(node)
    order = {name: position for position, name in enumerate(dict.fromkeys(node.input))}
    content = {
        "op": node.op_type,
        "domain": node.domain,
        "opset": opsets.get(node.domain, 0),
        "attributes": sorted(_attribute_digest(a) for a in node.attribute),
        "pattern": [order[name] for name in node.input],
        "inputs": [operands[name].signature if name else None for name in node.input],
        "captured": [operands[name].signature for name in captured],
        "outputs": [_result(name, outputs) for name in node.output],
    }
    text = json.dumps(content, sort_keys=True)
    return Kernel(
        name=node.name,
        op_type=node.op_type,
        domain=node.domain,
        inputs=tuple(node.input),
        captured=captured,
        outputs=tuple(node.output),
        signature=hashlib.sha256(text.encode()).hexdigest(),
        constant_size_bytes=constant_size_bytes,
        output_size_bytes=sum(value.nbytes for value in outputs.values()),
    )


def _result(name: str, outputs: Mapping[str, Array]) -> list[Any] | None:
    if not name:
        return None
    value = outputs.get(name)
    return [] if value is None else [str(value.dtype), list(value.shape)]


def _attribute_digest(attribute: onnx.AttributeProto) -> str:
    return hashlib.sha256(attribute.SerializeToString(deterministic=True)).hexdigest()


def measurement_key(signature: str, *, device_digest: str, threads: int, footprint: int) -> str:
    """The store's key for one kernel with `threads` on one target.

    `footprint` is the class of `micro.footprint_class`.
    """
    parts = ("kernel", METHOD_VERSION, signature, device_digest, threads, footprint)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
