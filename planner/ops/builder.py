"""What lowerings are written with: a node, and a builder that collects nests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from planner.errors import ModelError
from planner.ops import index
from planner.ops.expr import Const, Expr, Load, number
from planner.ops.index import Affine, Var
from planner.ops.nest import Nest, Reducer, TensorType

Array = np.ndarray[Any, Any]
Indices = tuple[Affine, ...]
MapBody = Callable[..., Expr]
"""Takes one index per dimension (and per reduction axis)."""


class NotCovered(ModelError):  # noqa: N818 - an answer, not a failure: ONNX Runtime runs this part
    """This operator, in this form, has no meaning in nests; ONNX Runtime runs its part."""


@dataclass(frozen=True, slots=True)
class Node:
    """One ONNX node, free of protobuf: attributes are numbers, strings, lists and arrays."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    """Empty string: an optional input that is left out."""
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    """Version of the operator set of its domain."""


@dataclass(slots=True)
class Builder:
    """Collects nests; knows the type of every tensor and the value of every constant."""

    types: dict[str, TensorType]
    constants: dict[str, Array]
    nests: list[Nest] = field(default_factory=list)
    waves: set[str] = field(default_factory=set)
    """Sequences whose first elements are known before the last ones: of recurrences of one
    direction."""
    _fresh: int = 0

    def shape(self, name: str) -> tuple[int, ...]:
        """Static shape of a tensor."""
        return self.types[name].shape

    def dtype(self, name: str) -> str:
        """NumPy name of a tensor's element type."""
        return self.types[name].dtype

    def constant(self, name: str) -> Array | None:
        """The value of a tensor that is known at build time."""
        return self.constants.get(name)

    def known(self, node: Node, position: int) -> Array | None:
        """The value of an optional input that must be known; None where it is left out.

        Raises:
            NotCovered: it depends on data.
        """
        name = optional(node, position)
        if name is None:
            return None
        value = self.constants.get(name)
        if value is None:
            raise NotCovered(f"{node.op_type} with a computed {name!r}", where=node.name)
        return value

    def fresh(self, base: str) -> str:
        """A tensor name that no model uses."""
        self._fresh += 1
        return f"{base}~{self._fresh}"

    def add_constant(self, base: str, value: Array) -> str:
        """A new constant tensor."""
        name = self.fresh(base)
        self.constants[name] = value
        self.types[name] = TensorType(value.dtype.name, value.shape)
        return name

    def map(self, name: str, body: MapBody, type_: TensorType | None = None) -> str:
        """out[i] = body(i): the tensor `name`, of its known or the given type."""
        made = self._type(name, type_)
        axes = _axes("i", made.shape)
        value = body(*(index.variable(var) for var in axes))
        self.nests.append(Nest(name, made, axes, value))
        return name

    def reduce(
        self,
        name: str,
        reducer: Reducer,
        extents: Sequence[int],
        body: MapBody,
        type_: TensorType | None = None,
    ) -> str:
        """out[i] = reduce over r of body(i, r), r running over `extents`."""
        made = self._type(name, type_)
        axes, summed = _axes("i", made.shape), _axes("r", extents)
        value = body(*(index.variable(var) for var in (*axes, *summed)))
        self.nests.append(Nest(name, made, axes, value, reducer, summed))
        return name

    def _type(self, name: str, type_: TensorType | None) -> TensorType:
        if type_ is not None:
            self.types[name] = type_
        return self.types[name]


def _axes(prefix: str, extents: Sequence[int]) -> tuple[Var, ...]:
    return tuple(Var(f"{prefix}{axis}", extent) for axis, extent in enumerate(extents))


def optional(node: Node, position: int) -> str | None:
    """The name of an input that may be left out."""
    name = node.inputs[position] if position < len(node.inputs) else ""
    return name or None


def broadcast(builder: Builder, name: str, at: Sequence[Affine]) -> Load:
    """An element of a tensor whose shape is broadcast to the rank of `at`, aligned at the end."""
    shape = builder.shape(name)
    aligned = at[len(at) - len(shape) :] if shape else ()
    position = tuple(
        value if size > 1 else index.constant(0) for value, size in zip(aligned, shape, strict=True)
    )
    return Load(name, position)


def scalar(builder: Builder, name: str) -> Expr:
    """A tensor of one element: its value where it is known."""
    value = builder.constant(name)
    if value is not None:
        return literal(value)
    zeros = (index.constant(0),) * len(builder.shape(name))
    return Load(name, zeros)


def literal(value: Array) -> Const:
    """An array of one element as a number."""
    item = value.reshape(-1)[0]
    return number(item.item() if value.dtype.kind != "V" else float(item), value.dtype.name)


def axis_of(node: Node, rank: int, default: int, key: str = "axis") -> int:
    """An axis attribute, counted from the front."""
    axis = int(node.attributes.get(key, default))
    return axis + rank if axis < 0 else axis


def axes_of(builder: Builder, node: Node, position: int, rank: int) -> tuple[int, ...] | None:
    """Axes given as an attribute (old operator sets) or as a known input."""
    listed = node.attributes.get("axes")
    if listed is None:
        value = builder.known(node, position)
        listed = None if value is None else value.reshape(-1).tolist()
    if listed is None:
        return None
    return tuple(int(axis) + rank if axis < 0 else int(axis) for axis in listed)


Lower = Callable[[Builder, Node], None]
"""Writes what an operator of a family means into a program."""
