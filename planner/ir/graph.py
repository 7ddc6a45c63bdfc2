"""A model as the planner sees it: operators in topological order and the tensors between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named value; `shape` is None where it depends on the data."""

    name: str
    dtype: str
    """NumPy name of the element type, e.g. `float32`; ONNX's for `int4`, `bfloat16`, `string`."""
    shape: tuple[int, ...] | None
    size_bytes: int
    """Bytes of the whole tensor; 0 where the shape is unknown."""
    is_constant: bool = False
    """True for initialisers (weights)."""


@dataclass(frozen=True, slots=True)
class Op:
    """One ONNX node after simplification; names are unique (loading sees to that)."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    """Tensor names; an empty string is an omitted optional input. Tensors that subgraphs of control
    flow capture from outside are listed in `captured`."""
    outputs: tuple[str, ...]
    captured: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """`op_type`, qualified where the domain is not ONNX's own."""
        return self.op_type if self.domain in ("", "ai.onnx") else f"{self.domain}::{self.op_type}"


@dataclass(frozen=True, slots=True)
class Graph:
    """Operators in topological order; every tensor an operator touches is in `tensors`."""

    ops: tuple[Op, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    selectors: Mapping[str, int] = field(default_factory=dict)
    """Inputs of one integer that the model compares with a constant -> the first such constant."""

    @property
    def weights_size_bytes(self) -> int:
        """Bytes of all constants, each counted once."""
        return sum(tensor.size_bytes for tensor in self.tensors.values() if tensor.is_constant)

    def producer(self) -> dict[str, Op]:
        """The operator that makes each tensor. O(operators)."""
        return {name: op for op in self.ops for name in op.outputs if name}

    def consumers(self) -> dict[str, tuple[Op, ...]]:
        """The operators that read each tensor, in topological order. O(edges)."""
        found: dict[str, list[Op]] = {}
        for op in self.ops:
            for name in dict.fromkeys((*op.inputs, *op.captured)):
                if name:
                    found.setdefault(name, []).append(op)
        return {name: tuple(readers) for name, readers in found.items()}
