"""Which chosen parts can really run, which conversions are of use, and the cuts for the rest (C5).

Atoms are what a part waits for or leaves behind: operators that are done and states that exist. A
set U of atoms is unfounded when every chosen part that provides one of them also waits for one of
them: groups that wait for each other, conversions that feed each other. If U holds an operator
(which must be done) or a wanted state, whichever part provides the first atom of U in a real run
waits for none of them, so
    Σ x[e] over the external supports of U >= 1
holds for every plan that can run, and is violated by the present one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.ir.problem import State
from planner.solve.data import BoolArray, Data
from planner.solve.formulation import Row

Atom = State | int
"""A tensor state, or the number of an operator."""


@dataclass(frozen=True, slots=True)
class Supported:
    """A choice without its useless conversions, and cuts where it cannot run."""

    chosen: BoolArray
    cuts: tuple[Row, ...]


def _waits(data: Data, column: int) -> list[Atom]:
    """What a part needs before it can run, itself and the given states apart."""
    if column >= data.options:
        source = data.problem.conversions[column - data.options].source
        return [] if source in data.given else [source]
    option = data.problem.options[column]
    inside = {data.op_index[name] for name in option.ops}
    atoms: list[Atom] = [state for state in option.needs if state not in data.given]
    atoms.extend(source for op in inside for source in data.before[op] if source not in inside)
    return atoms


def _provides(data: Data, column: int) -> list[Atom]:
    if column >= data.options:
        return [data.problem.conversions[column - data.options].target]
    option = data.problem.options[column]
    return [*option.makes, *(data.op_index[name] for name in option.ops)]


def _providers(data: Data, atom: Atom) -> tuple[int, ...]:
    if isinstance(atom, int):
        return data.covering[atom]
    conversions = tuple(data.options + v for v in data.into.get(atom, ()))
    return (*data.makers.get(atom, ()), *conversions)


def _first_supports(data: Data, columns: list[int]) -> dict[Atom, int]:
    """Runs the chosen parts; who first provides each atom that is ever reached."""
    waits = {column: set(_waits(data, column)) for column in columns}
    waiters: dict[Atom, list[int]] = {}
    for column, atoms in waits.items():
        for atom in atoms:
            waiters.setdefault(atom, []).append(column)
    support: dict[Atom, int] = {}
    ready = [column for column in reversed(columns) if not waits[column]]
    while ready:
        column = ready.pop()
        for atom in _provides(data, column):
            if atom in support or atom in data.given:
                continue
            support[atom] = column
            for waiting in waiters.get(atom, ()):
                waits[waiting].discard(atom)
                if not waits[waiting]:
                    ready.append(waiting)
    return support


def _closure(data: Data, start: Atom, chosen: BoolArray, support: dict[Atom, int]) -> set[Atom]:
    """An unfounded set around an atom that is never reached."""
    members = {start}
    stack = [start]
    while stack:
        for column in _providers(data, stack.pop()):
            if not chosen[column]:
                continue
            missing = [atom for atom in _waits(data, column) if atom not in support]
            if missing and members.isdisjoint(missing):
                members.add(missing[0])
                stack.append(missing[0])
    return members


def _cut(data: Data, members: set[Atom], name: str) -> Row:
    external = {
        column
        for atom in members
        for column in _providers(data, atom)
        if members.isdisjoint(_waits(data, column))
    }
    columns = tuple(sorted(external))
    return Row(name, columns, (-1.0,) * len(columns), -1.0)


def supported(data: Data, chosen: BoolArray) -> Supported:
    """Drops conversions nobody uses; cuts off what can never run. O(size of the choice)."""
    parts = data.options + len(data.problem.conversions)
    columns = [int(column) for column in np.flatnonzero(chosen[:parts])]
    support = _first_supports(data, columns)
    starts: list[Atom] = [op for op in range(len(data.problem.ops)) if op not in support]
    wanted = [state for state in data.problem.wanted if state not in data.given]
    starts.extend(state for state in wanted if state not in support)
    cuts: dict[frozenset[Atom], Row] = {}
    for start in starts:
        members = _closure(data, start, chosen, support)
        cuts.setdefault(frozenset(members), _cut(data, members, f"C5/founded/{len(cuts)}"))
    kept = chosen.copy()
    kept[data.options : parts] = False
    needed = [s for g in columns if g < data.options for s in data.problem.options[g].needs]
    stack = [*needed, *wanted]
    while stack:
        column = support.get(stack.pop(), -1)
        if column >= data.options and not kept[column]:
            kept[column] = True
            stack.append(data.problem.conversions[column - data.options].source)
    return Supported(kept, tuple(cuts.values()))


def with_levels(data: Data, chosen: BoolArray) -> BoolArray:
    """Sets the workspace levels that the chosen options reach, and no others."""
    levels = len(data.workspace_levels)
    if not levels:
        return chosen
    largest = data.workspace_bytes[chosen[: data.options]].max(initial=0.0)
    chosen = chosen.copy()
    chosen[-levels:] = data.workspace_levels <= largest
    return chosen
