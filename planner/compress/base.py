"""What every compression method answers: its format, whether an operator can take it, and how.

A format says how an operator's weights and activations are stored and multiplied. A method is one
file that knows three things about its format: `check` (may this operator take it, and if not why),
`build` (put operators of a model into it, with ONNX Runtime's own tools) and `simulate` (the same
rounding in NumPy, for sensitivities without building anything).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from planner.ir.graph import Graph, Op, Tensor
from planner.spec.formats import Format as Format

Array = npt.NDArray[Any]
Range = tuple[float, float]
"""Lowest and highest value an activation is quantised over."""


NATIVE = Format.FP32
"""The model's own format, untouched, whatever it is: always allowed."""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What a build depends on besides the assignment; recorded with the plan."""

    reduce_range: bool = False
    """Use 7 of the 8 weight bits: CPUs without VNNI saturate when they add two u8*s8 products."""
    external_threshold_size_bytes: int = 256 << 20
    """Above this size weights go to one file beside the model: a protobuf ends at 2 GiB, and is
    always read and written whole."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What samples told about activations: what builds and simulations of some formats need."""

    ranges: Mapping[str, Range] = field(default_factory=dict)
    """Tensor -> what it is quantised over."""
    smoothing: Mapping[str, str] = field(default_factory=dict)
    """Operator -> what the channels that it reads are divided by (`shifts`)."""


@dataclass(slots=True)
class BuildContext:
    """Handed to each method's `build`: what it needs besides the model itself."""

    ranges: Mapping[str, Range]
    settings: BuildSettings
    folder: Path
    """Of weights that the model only refers to: large matrices (`stand_ins`)."""
    smoothing: Mapping[str, str] = field(default_factory=dict)
    """Operator -> what its channels are divided by (`shifts`)."""
    realised: set[str] = field(default_factory=set)
    """Operators that the method really changed; the rest was skipped by the tool."""


class Method(Protocol):
    """One compression method."""

    @property
    def format(self) -> Format:
        """The format it produces; unique among the methods."""
        ...

    def check(self, op: Op, graph: Graph) -> str | None:
        """Why this operator cannot take the format, or None where it can."""
        ...

    def ranged_tensors(self, op: Op, graph: Graph) -> tuple[str, ...]:
        """Activations whose calibrated range a build of this operator needs."""
        ...

    def build(self, onnx_model: Any, ops: Collection[str], context: BuildContext) -> Any:
        """The model with exactly these operators in the format; fills `context.realised`."""
        ...

    def simulate(self, call: OpCall, ranges: Mapping[str, Range]) -> OpCall:
        """The same call with inputs rounded as the format rounds them."""
        ...

    def simulate_output(
        self, op: Op, name: str, value: Array, ranges: Mapping[str, Range]
    ) -> Array:
        """The operator's output `name` as the format leaves it behind."""
        ...


@dataclass(frozen=True, slots=True)
class OpCall:
    """One operator with the values of its inputs."""

    op: Op
    attributes: Mapping[str, Any]
    inputs: tuple[Array | None, ...]
    """By position; None for an omitted optional input."""
    constant: tuple[bool, ...]
    """By position: whether the input is a weight."""
    shifts: str = ""
    """What the channels that it reads are divided by (`shifts`), where somebody chose."""

    def replaced(self, changes: Mapping[int, Array]) -> OpCall:
        """The same call with some inputs exchanged."""
        inputs = tuple(changes.get(i, value) for i, value in enumerate(self.inputs))
        return replace(self, inputs=inputs)


@dataclass(frozen=True, slots=True)
class Offer:
    """An operator may take a format."""

    op: str
    format: Format
    ranged_tensors: tuple[str, ...] = ()
    """Activations whose range must be calibrated for it."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """An operator may not take a format, and why."""

    op: str
    format: Format
    reason: str


def input_tensor(op: Op, position: int, graph: Graph) -> Tensor | None:
    """The tensor at an input position; None where it is omitted or unknown."""
    if position >= len(op.inputs) or not op.inputs[position]:
        return None
    return graph.tensors.get(op.inputs[position])


def why_not_float(op: Op, graph: Graph, positions: Collection[int]) -> str | None:
    """Reason if one of these inputs is not a float32 tensor."""
    for position in positions:
        tensor = input_tensor(op, position, graph)
        if tensor is not None and tensor.dtype != "float32":
            return f"input {tensor.name!r} is {tensor.dtype}, not float32"
    return None


def why_not_weighted(op: Op, graph: Graph, position: int = 1) -> str | None:
    """Reason if the input at `position` is no constant float32 weight with elements."""
    weight = input_tensor(op, position, graph)
    if weight is None or not weight.is_constant:
        return f"its weight (input {position}) is computed at run time"
    if weight.dtype != "float32":
        return f"its weight is {weight.dtype} already"
    if weight.shape is None or 0 in weight.shape:
        return "its weight has no elements"
    return why_not_float(op, graph, [0])
