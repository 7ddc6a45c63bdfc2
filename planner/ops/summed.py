"""Sums go through what they read in the order in which it lies in memory.

    y[n] = sum_r T[r mod 23, r // 23] W[r, n]    ->    y[n] = sum_(a, b) T[a, b] W'[32 a + b, n]

A product behind a flattened feature map sums over one variable that runs through channels, rows and
columns in the model's order; where the map lies with its channels last (`planner.ops.arrange`),
neighbours of the sum then lie far apart, and every lane reads two bytes of another sector. The sum
is the same in any order: its variable is split where the reader cuts it, and the pieces go from the
widest stride to the narrowest. The rows of weights that nothing else reads are put in that order.

Measured on an H200 (`benchmarks/results/h200_launches.json`): 135 x 736 x 1024 behind convolutions
takes 12.1 us as written, 2160 x 736 x 1024 takes 89; their bytes and products are worth 2 and 10.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.ops import index
from planner.ops.expr import Apply, Cast, Expr, Load, apply, loads
from planner.ops.index import Affine, FloorDiv, Mod, Var
from planner.ops.nest import Nest, Program, Reducer, TensorType

MIN_RUN = 8
"""Elements side by side that are worth it: 16 bytes of fp16, one load."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A summed variable as digits of a mixed radix, slowest in memory first."""

    whole: Var
    digits: tuple[Var, ...]
    weights: tuple[int, ...]
    """What a step of each digit adds to the variable."""

    @property
    def value(self) -> Affine:
        """The variable by its digits."""
        found = index.constant(0)
        for digit, weight in zip(self.digits, self.weights, strict=True):
            found = found + index.variable(digit) * weight
        return found

    @property
    def position(self) -> Affine:
        """Where the digits stand in the new order."""
        shape = [digit.extent for digit in self.digits]
        return index.flatten((index.variable(digit) for digit in self.digits), shape)

    def order(self) -> Array:
        """Values of the variable, in the new order."""
        shape = [digit.extent for digit in self.digits]
        steps = np.array(self.weights).reshape(-1, *[1] * len(shape))
        return np.asarray((np.indices(shape) * steps).sum(axis=0).reshape(-1))


def in_memory_order(program: Program) -> Program:
    """The program with such sums in the order of what they read; O(nests x loads)."""
    readers = Counter(name for nest in program.nests for name in nest.reads)
    kept = {*program.outputs, *(name for name, count in readers.items() if count > 1)}
    alone = program.constants.keys() - kept
    nests: list[Nest] = []
    moved: dict[str, Array] = {}
    for nest in program.nests:
        pieces = _pieces(program, nest)
        if pieces is None:
            nests.append(nest)
            continue
        rows = {load.tensor: axis for load, axis in _rows(nest, pieces.whole, alone)}
        for name, axis in rows.items():
            moved[name] = np.take(program.constants[name], pieces.order(), axis)
        nests.append(_split(nest, pieces, rows))
    constants = {**program.constants, **moved}
    return Program(program.inputs, program.outputs, tuple(nests), program.types, constants)


# ---------------------------------------------------------------------- which
def _pieces(program: Program, nest: Nest) -> _Pieces | None:
    """How a nest's sum is split; None where it runs through memory as it is."""
    if nest.reducer is not Reducer.SUM:
        return None
    for load in loads(nest.body):
        if load.tensor in program.constants:
            continue
        for var in nest.reduce_axes:
            pieces = _pieces_of(load, program.types[load.tensor], var)
            if pieces is not None:
                return pieces
    return None


def _pieces_of(load: Load, type_: TensorType, var: Var) -> _Pieces | None:
    cuts = {cut for value in load.index for cut in _cuts(value, var)} - {var.extent}
    steps = (*sorted({1, *cuts}), var.extent)
    if len(steps) < 3 or any(b % a for a, b in itertools.pairwise(steps)):
        return None
    extents = [b // a for a, b in itertools.pairwise(steps)]
    digits = [Var(f"{var.name}_{place}", extent) for place, extent in enumerate(extents)]
    natural = _Pieces(var, tuple(reversed(digits)), tuple(reversed(steps[:-1])))
    where = (index.substitute(value, {var: natural.value}) for value in load.index)
    strides = dict(index.flatten(where, type_.shape).terms)
    if not all(digit in strides for digit in digits):
        return None
    ordered = sorted(natural.digits, key=lambda digit: -abs(strides[digit]))
    last = ordered[-1]
    if strides[digits[0]] == 1 or strides[last] != 1 or last.extent < MIN_RUN:
        return None
    weight = dict(zip(natural.digits, natural.weights, strict=True))
    return _Pieces(var, tuple(ordered), tuple(weight[digit] for digit in ordered))


def _cuts(value: Affine, var: Var) -> Iterator[int]:
    """Where `(var // c) mod m` and its like cut a variable."""
    for atom, _ in value.terms:
        if isinstance(atom, Mod | FloorDiv):
            yield from _cuts_of(atom, var)


def _cuts_of(atom: Mod | FloorDiv, var: Var) -> Iterator[int]:
    inner = atom.value
    if inner == index.variable(var):
        yield atom.divisor
        return
    if inner.constant or len(inner.terms) != 1 or inner.terms[0][1] != 1:
        return
    within = inner.terms[0][0]
    if not isinstance(within, Mod | FloorDiv):
        return
    for cut in _cuts_of(within, var):
        yield cut
        yield cut * atom.divisor if isinstance(within, FloorDiv) else atom.divisor


def _rows(nest: Nest, var: Var, alone: Set[str]) -> Iterator[tuple[Load, int]]:
    """Weights whose rows follow the sum, and the dimension that does; none that an index reads."""
    found = {load.text: load for load in _values(nest.body) if load.tensor in alone}
    names = Counter(load.tensor for load in found.values())
    within = Counter(load.tensor for load in loads(nest.body))
    within -= Counter(load.tensor for load in _values(nest.body))
    for load in found.values():
        along = [d for d, value in enumerate(load.index) if var in index.variables(value)]
        is_plain = len(along) == 1 and load.index[along[0]] == index.variable(var)
        if names[load.tensor] == 1 and not within[load.tensor] and is_plain:
            yield load, along[0]


def _values(body: Expr) -> Iterator[Load]:
    """Loads that `_through` comes by: all but those within indices and guards."""
    if isinstance(body, Load):
        yield body
    for part in body.parts():
        yield from _values(part)


# ---------------------------------------------------------------------- rewriting
def _split(nest: Nest, pieces: _Pieces, rows: Mapping[str, int]) -> Nest:
    body = _through(nest.body, pieces, rows).substitute({pieces.whole: pieces.value})
    axes: list[Var] = []
    for var in nest.reduce_axes:
        axes += pieces.digits if var == pieces.whole else (var,)
    return Nest(nest.name, nest.type, nest.axes, body, nest.reducer, tuple(axes))


def _through(value: Expr, pieces: _Pieces, rows: Mapping[str, int]) -> Expr:
    """The expression with rows of weights read in their new order."""
    if isinstance(value, Load) and value.tensor in rows:
        at = list(value.index)
        at[rows[value.tensor]] = pieces.position
        return Load(value.tensor, tuple(at), value.guards, value.other)
    if isinstance(value, Apply):
        return apply(value.fn, *(_through(arg, pieces, rows) for arg in value.args))
    if isinstance(value, Cast):
        return Cast(value.dtype, _through(value.value, pieces, rows))
    return value
