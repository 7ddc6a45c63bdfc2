"""From ONNX nodes to a program: one function an operator, found in the tables of the families."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from planner.ops import (
    constants as constant_ops,
)
from planner.ops import (
    contraction,
    convolution,
    elementwise,
    lookups,
    movement,
    normalisation,
    recurrent,
    reduction,
    reference,
    resize,
)
from planner.ops.arrange import arranged
from planner.ops.builder import Builder, Node, NotCovered
from planner.ops.expr import Expr, Load
from planner.ops.index import Affine
from planner.ops.nest import Nest, Program, TensorType
from planner.ops.views import see_through

Array = np.ndarray[Any, Any]
FAMILIES = (
    constant_ops.FAMILY,
    elementwise.FAMILY,
    movement.FAMILY,
    lookups.FAMILY,
    reduction.FAMILY,
    normalisation.FAMILY,
    contraction.FAMILY,
    recurrent.FAMILY,
    convolution.FAMILY,
    resize.FAMILY,
)
LOWERINGS: Mapping[str, Callable[[Builder, Node], None]] = {
    kind: lower for family in FAMILIES for kind, lower in family.items()
}
"""Operator (`Add`, `com.microsoft::FusedMatMul`) -> what it means."""

DTYPES = frozenset(
    {
        *("float16", "bfloat16", "float32", "float64", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16"),
    }
)
"""Types of elements that kernels read and write (`planner.kernels.compile`)."""
_MAX_FOLDED_GROWTH = 4
"""A constant may grow by this factor when it is computed ahead (broadcast tables stay small)."""

_EMPTY_MEANS_ABSENT = frozenset({"Resize"})
"""Operators whose optional inputs exporters leave empty: no region of interest, no scales."""
_MAX_PROPAGATED = 1024
"""Points of an integer nest that is evaluated while lowering: shapes and their like."""


def kind_of(node: Node) -> str:
    """`op_type`, qualified where the domain is not ONNX's own."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def lower(
    nodes: Sequence[Node],
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Program:
    """The program of nodes in topological order.

    Raises:
        NotCovered: an operator, or a form of one, has no lowering, or a shape is not known.
    """
    return lower_owned(nodes, types, constants, inputs, outputs)[0]


def lower_owned(
    nodes: Sequence[Node],
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> tuple[Program, dict[str, str]]:
    """The same, and whose nest each is: nest -> node.

    Raises: as `lower`.
    """
    builder = Builder(dict(types), dict(constants))
    owners: dict[str, str] = {}
    for node in nodes:
        before = len(builder.nests)
        lower_node(builder, node)
        owners.update((nest.name, node.name) for nest in builder.nests[before:])
    _write_known(builder, outputs)
    made = {nest.name for nest in builder.nests}
    constants = {name: value for name, value in builder.constants.items() if name not in made}
    program = Program(tuple(inputs), tuple(outputs), tuple(builder.nests), builder.types, constants)
    return tidy(program), owners


def _write_known(builder: Builder, outputs: Sequence[str]) -> None:
    """Outputs that are known ahead (sizes, ranges) are copied from a constant: somebody reads them,
    so somebody writes them. First, for whoever reads them here."""
    made = {nest.name for nest in builder.nests}
    for name in dict.fromkeys(outputs):
        if name in made or name not in builder.constants:
            continue
        source = builder.add_constant(name, builder.constants[name])
        builder.map(name, partial(_element, source))
        builder.nests.insert(0, builder.nests.pop())


def _element(name: str, *at: Affine) -> Expr:
    return Load(name, at)


def lower_node(builder: Builder, node: Node) -> None:
    """Adds the nests of one node.

    Raises:
        NotCovered: there is no lowering, or a tensor has no static shape.
    """
    meaning = LOWERINGS.get(kind_of(node))
    if meaning is None:
        raise NotCovered(f"operator {kind_of(node)}", where=node.name)
    for name in (*node.inputs, *node.outputs):
        if name and name not in builder.types:
            raise NotCovered(f"{name!r} has no static shape", where=node.name)
        is_absent = kind_of(node) in _EMPTY_MEANS_ABSENT and name in node.inputs[1:]
        if name and not is_absent and _is_nothing(builder.types[name]):
            raise NotCovered(f"{name!r} is empty or holds strings", where=node.name)
        if name and not is_absent and builder.dtype(name) not in DTYPES:
            raise NotCovered(f"{name!r} is of type {builder.dtype(name)}", where=node.name)
    before = len(builder.nests)
    meaning(builder, node)
    _propagate(builder, before)


def _is_nothing(type_: TensorType) -> bool:
    return type_.size == 0 or type_.dtype == "object"


def _propagate(builder: Builder, start: int) -> None:
    """Sizes computed from shapes are known at once: later nodes ask for their values."""
    for nest in builder.nests[start:]:
        is_small = nest.points <= _MAX_PROPAGATED and not nest.type.is_float
        if is_small and all(name in builder.constants for name in nest.reads):
            values = {name: _wide(builder.constants[name]) for name in nest.reads}
            found = reference.evaluate(nest, values)
            builder.constants[nest.name] = found.astype(np.dtype(nest.type.dtype))


def tidy(program: Program) -> Program:
    """What only constants decide is computed now; what nobody reads is dropped."""
    return arranged(prune(see_through(fold(program))))


def fold(program: Program) -> Program:
    """Nests that read only constants become constants (float64 inside, stored in their type)."""
    constants = dict(program.constants)
    kept: list[Nest] = []
    with np.errstate(all="ignore"):
        for nest in program.nests:
            if nest.name in program.outputs or not _is_foldable(nest, constants):
                kept.append(nest)
                continue
            values = {name: _wide(constants[name]) for name in nest.reads}
            found = reference.evaluate(nest, values)
            constants[nest.name] = found.astype(np.dtype(nest.type.dtype))
    return Program(program.inputs, program.outputs, tuple(kept), program.types, constants)


def _is_foldable(nest: Nest, constants: Mapping[str, Array]) -> bool:
    if not all(name in constants for name in nest.reads):
        return False
    largest = max((constants[name].size for name in nest.reads), default=0)
    return nest.type.size <= max(_MAX_FOLDED_GROWTH * largest, 4096)


def _wide(array: Array) -> Array:
    if array.dtype.kind == "b":
        return array
    return array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)


def prune(program: Program) -> Program:
    """Only what the outputs need."""
    needed = set(program.outputs)
    kept: list[Nest] = []
    for nest in reversed(program.nests):
        if nest.name in needed:
            kept.append(nest)
            needed.update(nest.reads)
    constants = {name: value for name, value in program.constants.items() if name in needed}
    made = {nest.name for nest in kept}
    known = needed | made | set(program.inputs)
    types = {name: type_ for name, type_ in program.types.items() if name in known}
    return Program(program.inputs, program.outputs, tuple(reversed(kept)), types, constants)
