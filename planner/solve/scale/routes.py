"""Cheapest ways of one tensor from form to form and place to place: conversions and transfers."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from planner.ir.devices import Place
from planner.ir.problem import Conversion, Latency, Problem, Transfer
from planner.solve.data import FloatArray

Forms = tuple[str, ...]
Cells = tuple[tuple[Latency | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Division:
    """How steps that several readers share are divided: each reader is charged `share` of a step
    into a form that is not in `whole`, and all of a step into one that is."""

    share: float = 1.0
    whole: frozenset[str] = frozenset()


UNDIVIDED = Division()


@dataclass(frozen=True, slots=True)
class Routes:
    """How one tensor changes its form and place: (metrics, place, form) -> (place, form)."""

    forms: dict[str, int]
    times: FloatArray
    """(metrics, places, forms, places, forms)."""


class Router:
    """Cheapest changes of each tensor, computed once for tensors that change alike."""

    def __init__(
        self,
        problem: Problem,
        places: tuple[Place, ...],
        row: int,
        end: str,
        *,
        free_moves: bool = False,
    ) -> None:
        """`free_moves`: transfers cost nothing here, because they are counted elsewhere."""
        self._problem, self._places, self._row, self._end = problem, places, row, end
        self._free_moves = free_moves
        self._changes: dict[str, list[Conversion]] = {}
        for change in problem.conversions:
            self._changes.setdefault(change.source.tensor, []).append(change)
        self._moves: dict[str, list[Transfer]] = {}
        for move in problem.transfers:
            self._moves.setdefault(move.source.tensor, []).append(move)
        self._known: dict[Hashable, Routes] = {}
        self._links = {(link.source, link.target): link for link in problem.links}
        self._alike: dict[str, int] = {}
        self._ids: dict[Hashable, int] = {}
        self._seen: dict[int, int] = {}
        self._tables: dict[Cells, int] = {}

    def alike(self, tensor: str) -> int:
        """Equal for tensors that change alike."""
        found = self._alike.get(tensor)
        if found is None:
            changes = tuple(
                (c.source.form, c.target.form, self._table(c.latency), c.place)
                for c in self._changes.get(tensor, ())
            )
            moves = tuple(
                (m.source.form, m.target.form, m.size_bytes) for m in self._moves.get(tensor, ())
            )
            found = self._ids.setdefault((changes, moves), len(self._ids))
            self._alike[tensor] = found
        return found

    def _table(self, cells: Cells) -> int:
        """A number for each different table; one object is hashed once."""
        if id(cells) not in self._seen:
            self._seen[id(cells)] = self._tables.setdefault(cells, len(self._tables))
        return self._seen[id(cells)]

    def routes(self, tensor: str, forms: Forms, division: Division = UNDIVIDED) -> Routes:
        """Least times between all forms and places."""
        key = (self.alike(tensor), forms, division)
        if key not in self._known:
            self._known[key] = self._make(tensor, forms, division)
        return self._known[key]

    def _make(self, tensor: str, forms: Forms, division: Division) -> Routes:
        changes, moves = self._changes.get(tensor, []), self._moves.get(tensor, [])
        names = [*forms, *(form for c in changes for form in (c.source.form, c.target.form))]
        names += [form for m in moves for form in (m.source.form, m.target.form)]
        index = {form: number for number, form in enumerate(dict.fromkeys(names))}
        places, count = len(self._places), len(index)
        metrics = 1 + len(self._problem.shape_weights)
        times = np.full((metrics, places, count, places, count), np.inf)
        for change in changes:
            self._add_change(times, change, index)
        for move in moves:
            self._add_move(times, move, index)
        for form, number in index.items():
            if form not in division.whole:
                times[..., number] *= division.share
        for k in range(places):
            here = np.where(np.eye(count) > 0, 0.0, np.inf)
            times[:, k, :, k, :] = np.minimum(times[:, k, :, k, :], here)
        flat = times.reshape(metrics, places * count, places * count)
        for middle in range(places * count):
            through = flat[:, :, middle, None] + flat[:, None, middle, :]
            np.minimum(flat, through, out=flat)
        return Routes(index, flat.reshape(times.shape))

    def _add_change(self, times: FloatArray, change: Conversion, index: dict[str, int]) -> None:
        problem, row = self._problem, self._row
        cells = [cell for cell in change.latency[row] if cell is not None]
        if len(cells) < len(change.latency[row]):
            return
        pairs = zip(problem.shape_weights, cells, strict=True)
        found = [sum(q * cell.expected_us for q, cell in pairs)]
        found += [float(getattr(cell, self._end)) for cell in cells]
        a, b = index[change.source.form], index[change.target.form]
        for k, place in enumerate(self._places):
            if change.place in (None, place.name):
                times[:, k, a, k, b] = np.minimum(times[:, k, a, k, b], found)

    def _add_move(self, times: FloatArray, move: Transfer, index: dict[str, int]) -> None:
        problem = self._problem
        a, b = index[move.source.form], index[move.target.form]
        for k, source in enumerate(self._places):
            for j, target in enumerate(self._places):
                link = self._links.get((source.device, target.device))
                if link is None:
                    continue
                each = [link.time_us(size) for size in move.size_bytes]
                weighted = sum(q * us for q, us in zip(problem.shape_weights, each, strict=True))
                found = np.array([weighted, *each]) * (not self._free_moves)
                times[:, k, a, j, b] = np.minimum(times[:, k, a, j, b], found)
