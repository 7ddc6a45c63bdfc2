"""Index maps seen through: who reads a view reads what is behind it, at the index that is there.

    Y[t] = h0 if t = 0, h1 if t = 1, ...      Squeeze(Y)[3]  ->  h3

So that a step of a recurrent layer depends on the step it reads, not on the whole sequence.
"""

from __future__ import annotations

from collections.abc import Mapping

from planner.ops import index
from planner.ops.expr import Apply, Cast, Expr, Index, Inside, Load, apply
from planner.ops.index import Datum
from planner.ops.nest import Nest, Program

MAX_CHOICES = 4
"""Loads an element of a view may choose from where it is read; larger choices stay in one place."""


def see_through(program: Program) -> Program:
    """Loads of views replaced by loads of their sources, where that is one load or few."""
    nests: list[Nest] = []
    views: dict[str, Nest] = {}
    for nest in program.nests:
        body = _through(nest.body, views)
        moved = Nest(nest.name, nest.type, nest.axes, body, nest.reducer, nest.reduce_axes)
        nests.append(moved)
        if moved.is_map and is_choice(body):
            views[moved.name] = moved
    return Program(program.inputs, program.outputs, tuple(nests), program.types, program.constants)


def is_choice(body: Expr) -> bool:
    """Whether an element is only chosen among loads, never computed."""
    if isinstance(body, Load):
        return True
    if not isinstance(body, Apply) or body.fn != "where" or not isinstance(body.args[0], Inside):
        return False
    return all(is_choice(arg) for arg in body.args[1:])


def choices(body: Expr) -> int:
    """Loads an element is chosen from."""
    if isinstance(body, Apply):
        return sum(choices(arg) for arg in body.args[1:])
    return 1


def _through(value: Expr, views: Mapping[str, Nest]) -> Expr:
    if isinstance(value, Load):
        return _load(value, views)
    if isinstance(value, Apply):
        return apply(value.fn, *(_through(arg, views) for arg in value.args))
    if isinstance(value, Cast):
        return Cast(value.dtype, _through(value.value, views))
    assert isinstance(value, Expr | Index | Inside)
    return value


def _load(load: Load, views: Mapping[str, Nest]) -> Expr:
    """The load as far back as it stays one load, or few."""
    view = views.get(load.tensor)
    if view is None:
        return load
    binding = dict(zip(view.axes, load.index, strict=True))
    behind = view.body.substitute(binding)
    if isinstance(behind, Load):
        joined = _joined(load, behind)
        return joined if joined is load else _load(joined, views)
    return behind if not load.guards and choices(behind) <= MAX_CHOICES else load


def _joined(load: Load, behind: Load) -> Load:
    """Both guards at once, where they agree on what lies beyond."""
    if not load.guards:
        return behind
    if _has_data(behind) or (behind.guards and behind.other != load.other):
        return load
    return Load(behind.tensor, behind.index, (*load.guards, *behind.guards), load.other)


def _has_data(load: Load) -> bool:
    """Whether its index is read from a tensor, which a failing guard must protect as well."""
    return any(isinstance(atom, Datum) for value in load.index for atom, _ in value.terms) or any(
        index.variables(value) - load.variables() for value in load.index
    )
