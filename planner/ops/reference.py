"""What a program means, evaluated in NumPy: float64 for floating point, int64 for integers.

A sum over a product goes through `numpy.matmul` where variables split into batch, left, right and
summed ones; everything else is evaluated over the whole iteration space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from planner.ops import index
from planner.ops.expr import Apply, Bound, Cast, Const, Expr, Index, Inside, Load
from planner.ops.functions import FUNCTIONS
from planner.ops.index import Affine, Datum, FloorDiv, Var
from planner.ops.nest import Nest, Program, Reducer

Array = np.ndarray[Any, Any]
_REDUCE: Mapping[Reducer, Callable[..., Any]] = {
    Reducer.SUM: np.sum,
    Reducer.MAX: np.max,
    Reducer.MIN: np.min,
    Reducer.PROD: np.prod,
}


def run(program: Program, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs for these inputs, in the program's own types.

    Arithmetic is float64 throughout: rounding to the tensor's type happens only where the model
    casts, and in what is returned.
    """
    with np.errstate(all="ignore"):
        values = {name: _wide(array) for name, array in program.constants.items()}
        values.update({name: _wide(feeds[name]) for name in program.inputs})
        for nest in program.nests:
            values[nest.name] = evaluate(nest, values)
        return {
            name: values[name].astype(_dtype(program.types[name].dtype)) for name in program.outputs
        }


def _wide(array: Array) -> Array:
    if array.dtype.kind == "b":
        return array
    return array.astype(np.int64 if array.dtype.kind in "iu" else np.float64)


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(name)


def evaluate(nest: Nest, values: Mapping[str, Array]) -> Array:
    """One nest, given every tensor it reads. Shape: that of the nest."""
    product = _as_product(nest)
    if product is not None:
        return _contract(nest, *product, values)
    order = (*nest.axes, *nest.reduce_axes)
    full = _over(nest.body, order, values)
    if nest.reducer is None:
        return full
    axes = tuple(range(len(nest.axes), len(order)))
    return np.asarray(_REDUCE[nest.reducer](full, axis=axes)).reshape(nest.type.shape)


def _over(value: Expr, order: Sequence[Var], values: Mapping[str, Array]) -> Array:
    """The expression over the whole space of these variables, as a dense array."""
    shape = tuple(var.extent for var in order)
    found = _Scope(order, values).value(value)
    return np.ascontiguousarray(np.broadcast_to(found, shape)).reshape(shape)


def _as_product(nest: Nest) -> tuple[Expr, Expr] | None:
    body = nest.body
    if nest.reducer is not Reducer.SUM or not isinstance(body, Apply) or body.fn != "mul":
        return None
    left, right = body.args
    everything = left.variables() | right.variables()
    if left.variables() == everything or right.variables() == everything:
        return None
    return left, right


def _contract(nest: Nest, left: Expr, right: Expr, values: Mapping[str, Array]) -> Array:
    in_left, in_right = left.variables(), right.variables()
    both = [var for var in nest.axes if var in in_left and var in in_right]
    rows = [var for var in nest.axes if var in in_left and var not in in_right]
    columns = [var for var in nest.axes if var in in_right and var not in in_left]
    idle = [var for var in nest.axes if var not in in_left and var not in in_right]
    summed = [var for var in nest.reduce_axes if var in in_left or var in in_right]
    repeated = math.prod(var.extent for var in nest.reduce_axes if var not in summed)
    a = _over(left, (*both, *rows, *summed), values).astype(np.float64)
    b = _over(right, (*both, *summed, *columns), values).astype(np.float64)
    batch, m, n, k = (_size(group) for group in (both, rows, columns, summed))
    product = np.matmul(a.reshape(batch, m, k), b.reshape(batch, k, n)) * repeated
    laid_out = (*both, *rows, *columns, *idle)
    shape = tuple(var.extent for var in (*both, *rows, *columns)) + (1,) * len(idle)
    order = [laid_out.index(var) for var in nest.axes]
    moved = product.reshape(shape).transpose(order)
    return np.ascontiguousarray(np.broadcast_to(moved, nest.type.shape))


def _size(group: Sequence[Var]) -> int:
    return math.prod(var.extent for var in group)


class _Scope:
    """Evaluates expressions over a space of variables, each along an axis of its own."""

    def __init__(self, order: Sequence[Var], values: Mapping[str, Array]) -> None:
        self._axis = {var: axis for axis, var in enumerate(order)}
        self._rank = len(order)
        self._values = values
        self._made: dict[str, Array] = {}

    def value(self, value: Expr) -> Array:
        """The expression, broadcastable over the space."""
        if value.text not in self._made:
            self._made[value.text] = self._compute(value)
        return self._made[value.text]

    def _compute(self, value: Expr) -> Array:
        if isinstance(value, Const):
            return np.asarray(value.value)
        if isinstance(value, Load):
            return self._load(value)
        if isinstance(value, Index):
            return self._position(value.value)
        if isinstance(value, Inside):
            return self._guard(value.guards)
        if isinstance(value, Cast):
            return _cast(self.value(value.value), value.dtype)
        assert isinstance(value, Apply)
        return np.asarray(FUNCTIONS[value.fn].numpy(*(self.value(arg) for arg in value.args)))

    def _load(self, load: Load) -> Array:
        source = self._values[load.tensor]
        inside = self._guard(load.guards) if load.guards else None
        if source.size == 0:
            return np.asarray(load.other)
        positions = tuple(
            np.clip(self._position(value), 0, size - 1) if load.guards else self._position(value)
            for value, size in zip(load.index, source.shape, strict=True)
        )
        found = np.asarray(source[positions])
        return found if inside is None else np.where(inside, found, _other(found.dtype, load.other))

    def _guard(self, guards: tuple[Bound, ...]) -> Array:
        held = np.asarray(True)
        for guard in guards:
            value = self._position(guard.value)
            held = held & (guard.low <= value) & (value < guard.high)
        return held

    def _position(self, value: Affine) -> Array:
        total = np.asarray(value.constant)
        for atom, factor in value.terms:
            total = total + self._atom(atom) * factor
        return total

    def _atom(self, atom: index.Atom) -> Array:
        if isinstance(atom, Var):
            shape = [1] * self._rank
            shape[self._axis[atom]] = atom.extent
            return np.arange(atom.extent).reshape(shape)
        if isinstance(atom, Datum):
            assert isinstance(atom.value, Expr)
            return np.clip(self.value(atom.value), 0, atom.extent - 1)
        inner = self._position(atom.value)
        return inner // atom.divisor if isinstance(atom, FloorDiv) else inner % atom.divisor


def _other(dtype: np.dtype[Any], value: float) -> Any:
    """What lies beyond a tensor, in its type: the least or the largest number for an infinity."""
    if dtype.kind in "iu" and math.isinf(value):
        limits = np.iinfo(dtype)
        return dtype.type(limits.min if value < 0 else limits.max)
    return dtype.type(value)


def _cast(value: Array, dtype: str) -> Array:
    target = np.dtype(dtype)
    if target.kind == "b":
        return np.asarray(value != 0)
    if target.kind in "iu":
        whole = np.trunc(value) if value.dtype.kind == "f" else value
        return np.asarray(whole).astype(np.int64).astype(target).astype(np.int64)
    return value.astype(target).astype(np.float64)
