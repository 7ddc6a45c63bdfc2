"""Small models whose running time is one ceiling of the device: bytes, multiply-adds or a node.

A probe repeats its work inside one session where that work is short, so that the cost of the call
hardly counts; what is left of it is subtracted by whoever times the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from planner.profiling.kernel import Array

_OPSETS = (helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1))
_IR_VERSION = 8
_ROW_BYTES = 8192
_FEWEST_BYTES = 16 * 2**20
"""A probe of a cache runs over its buffer until it has moved this much."""
_BLOCK = 32
"""Weights per scale of the weight-only formats."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A model, its inputs and how much work one run of it is."""

    name: str
    model: bytes
    feeds: Mapping[str, Array]
    work: float
    """Bytes, operations or nodes of one run."""


@dataclass(slots=True)
class _Parts:
    """A graph in the making."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    feeds: dict[str, Array] = field(default_factory=dict)

    def weight(self, name: str, value: Array) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def node(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op_type, inputs, [output], **attributes))

    def probe(self, name: str, outputs: list[str], work: float) -> Probe:
        graph = helper.make_graph(
            self.nodes,
            "probe",
            [_value_info(key, value) for key, value in self.feeds.items()],
            [onnx.ValueInfoProto(name=output) for output in outputs],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=_OPSETS, ir_version=_IR_VERSION)
        return Probe(name, bytes(model.SerializeToString()), self.feeds, work)


def _value_info(name: str, value: Array) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, kind, list(value.shape))


def read_probe(size_bytes: int) -> Probe:
    """Reads a buffer: 1 x K times K x N takes each weight once, so its time is that of loading it.

    The buffer is an input, not a constant: ONNX Runtime copies constants into a layout of its own.
    """
    rows, repeats = _rows_and_repeats(size_bytes)
    parts = _Parts()
    parts.feeds["x"] = np.ones((1, rows), np.float32)
    parts.feeds["buffer"] = np.ones((rows, _ROW_BYTES // 4), np.float32)
    for index in range(repeats):
        parts.node("MatMul", ["x", "buffer"], f"y{index}")
    moved = float(rows * _ROW_BYTES * repeats)
    return parts.probe(f"read {size_bytes}", [f"y{repeats - 1}"], moved)


def copy_probe(size_bytes: int) -> Probe:
    """Adds one to half of `size_bytes` and writes the other half; both directions are counted."""
    rows, repeats = _rows_and_repeats(size_bytes // 2)
    parts = _Parts()
    parts.feeds["source"] = np.ones((rows, _ROW_BYTES // 4), np.float32)
    one = parts.weight("one", np.ones((), np.float32))
    for index in range(repeats):
        parts.node("Add", ["source", one], f"y{index}")
        parts.node("Shape", [f"y{index}"], f"shape{index}")  # frees the result for the next copy
    moved = 2.0 * rows * _ROW_BYTES * repeats
    return parts.probe(f"copy {size_bytes}", [f"shape{repeats - 1}"], moved)


def _rows_and_repeats(size_bytes: int) -> tuple[int, int]:
    rows = max(size_bytes // _ROW_BYTES, 1)
    return rows, max(_FEWEST_BYTES // (rows * _ROW_BYTES), 1)


def node_probe(count: int) -> Probe:
    """A chain of `count` operators that do next to nothing."""
    parts = _Parts()
    parts.feeds["v0"] = np.ones(1, np.float32)
    for index in range(count):
        parts.node("Neg", [f"v{index}"], f"v{index + 1}")
    return parts.probe(f"{count} nodes", [f"v{count}"], float(count))


def region_probe(count: int) -> Probe:
    """A chain of `count` products just large enough that each is shared between threads."""
    rows, width = 64, 128
    parts = _Parts()
    parts.feeds["v0"] = np.full((rows, width), 1 / width, np.float32)
    weight = parts.weight("w", np.full((width, width), 1 / width, np.float32))
    for index in range(count):
        parts.node("MatMul", [f"v{index}", weight], f"v{index + 1}")
    return parts.probe(f"{count} regions", [f"v{count}"], float(count))


def gemm_probe(form: str, rows: int, depth: int, width: int) -> Probe:
    """rows x depth times depth x width with the kernel ONNX Runtime has for this format.

    Raises:
        KeyError: no kernel for the format.
    """
    parts = _Parts()
    _GEMMS[form](parts, rows, depth, width)
    name = f"{form} {rows}x{depth}x{width}"
    return parts.probe(name, ["y"], 2.0 * rows * depth * width)


def _gemm_fp32(parts: _Parts, rows: int, depth: int, width: int) -> None:
    rng = np.random.default_rng(0)
    parts.feeds["x"] = rng.random((rows, depth), np.float32)
    weight = parts.weight("w", rng.random((depth, width), np.float32))
    parts.node("MatMul", ["x", weight], "y")


def _integer_weight(depth: int, width: int) -> Array:
    return np.random.default_rng(0).integers(-127, 128, (depth, width), dtype=np.int8)


def _gemm_int8_dynamic(parts: _Parts, rows: int, depth: int, width: int) -> None:
    parts.feeds["x"] = np.random.default_rng(1).random((rows, depth), np.float32)
    weight = parts.weight("w", _integer_weight(depth, width))
    scale = parts.weight("scale", np.full(width, 0.01, np.float32))
    inputs = ["x", weight, scale]
    parts.node("DynamicQuantizeMatMul", inputs, "y", domain="com.microsoft")


def _gemm_int8_static(parts: _Parts, rows: int, depth: int, width: int) -> None:
    parts.feeds["x"] = np.random.default_rng(1).integers(0, 256, (rows, depth), dtype=np.uint8)
    weight = parts.weight("w", _integer_weight(depth, width))
    scale = parts.weight("scale", np.full((), 0.01, np.float32))
    scales = parts.weight("scales", np.full(width, 0.01, np.float32))
    zero = parts.weight("zero", np.full((), 128, np.uint8))
    zeros = parts.weight("zeros", np.zeros(width, np.int8))
    parts.node("QLinearMatMul", ["x", scale, zero, weight, scales, zeros, scale, zero], "y")


def _gemm_blocks(bits: int) -> Callable[[_Parts, int, int, int], None]:
    def build(parts: _Parts, rows: int, depth: int, width: int) -> None:
        rng = np.random.default_rng(1)
        blocks = -(-depth // _BLOCK)
        parts.feeds["x"] = rng.random((rows, depth), np.float32)
        packed = rng.integers(0, 256, (width, blocks, _BLOCK * bits // 8), dtype=np.uint8)
        weight = parts.weight("w", packed)
        scales = parts.weight("scales", np.full(width * blocks, 0.01, np.float32))
        parts.node(
            "MatMulNBits",
            ["x", weight, scales],
            "y",
            domain="com.microsoft",
            K=depth,
            N=width,
            bits=bits,
            block_size=_BLOCK,
            accuracy_level=4,
        )

    return build


_GEMMS: Mapping[str, Callable[[_Parts, int, int, int], None]] = {
    "fp32": _gemm_fp32,
    "int8_dynamic": _gemm_int8_dynamic,
    "int8_static": _gemm_int8_static,
    "int8_wo": _gemm_blocks(8),
    "int4_wo": _gemm_blocks(4),
}
GEMM_FORMATS = tuple(_GEMMS)
"""Formats with a matrix kernel on the CPU, native first."""


_KINDS: Mapping[str, Callable[..., Probe]] = {
    "read": read_probe,
    "copy": copy_probe,
    "nodes": node_probe,
    "regions": region_probe,
    "gemm": gemm_probe,
}


def make_probe(kind: str | int, *arguments: str | int) -> Probe:
    """The probe of this kind (`read`, `copy`, `nodes`, `regions`, `gemm`) with its arguments."""
    return _KINDS[str(kind)](*arguments)
