"""What moves change besides sums: conversions and transfers, and peaks; known until it is stale.

Most moves of a step were priced in the last one, and what they touch has not changed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from planner.ir.devices import Hold
from planner.ir.problem import Option, Problem
from planner.solve.data import FloatArray
from planner.solve.price import peak_size_bytes
from planner.solve.scale.batch import NOTHING, Changes
from planner.solve.scale.entries import Board
from planner.solve.scale.tensors import Tensors

Key = tuple[int, ...]
"""A move: its positions, its entries, and the entries that are there now."""


class Facts:
    """Of a plan's stages."""

    def __init__(self, problem: Problem, boards: list[Board], tensors: Tensors) -> None:
        self._problem, self._boards, self._tensors = problem, boards, tensors
        self._ways: list[dict[Key, float]] = [{} for _ in boards]
        """By stage and move: what conversions and transfers add."""
        self._touching: dict[str, list[tuple[int, Key]]] = {}
        """By tensor: moves of which that is known."""
        self._held: list[dict[Key, float | None]] = [{} for _ in boards]
        """By stage and move: the peak of activations; None: as it is."""
        self._alike: dict[tuple[object, ...], float] = {}
        """Peaks by stage, positions and what is held there."""
        self._peaks = [self._peak(one, []) for one in boards]

    def _changed(
        self, one: Board, pairs: list[tuple[int, int]]
    ) -> tuple[list[Option], list[Option]]:
        """Options that a move takes away, and that it brings."""
        options = self._problem.options
        before = [one.entries[int(one.current[at])] for at, _ in pairs]
        after = [one.entries[number] for _, number in pairs]
        return (
            [options[entry.option] for entry in before if entry is not None],
            [options[entry.option] for entry in after if entry is not None],
        )

    def added_us(self, p: int, moved: Changes) -> FloatArray:
        """What conversions and transfers add; known until a tensor that a move touches changes."""
        found, known = np.zeros(moved.count), self._ways[p]
        for m, key in enumerate(_keys(self._boards[p], moved)):
            if key not in known:
                known[key] = self._way(p, key, moved.pairs(m))
            found[m] = known[key]
        return found

    def _way(self, p: int, key: Key, pairs: list[tuple[int, int]]) -> float:
        old, new = self._changed(self._boards[p], pairs)
        if [(o.needs, o.makes) for o in old] == [(o.needs, o.makes) for o in new]:
            return 0.0
        for tensor in _tensors((*old, *new)):
            self._touching.setdefault(tensor, []).append((p, key))
        return self._tensors.change_us([(o, p) for o in old], [(o, p) for o in new])

    def peaks_bytes(self, p: int, moved: Changes) -> FloatArray:
        """Peaks of activations after moves; most leave what is held as it is."""
        found, known = np.full(moved.count, self._peaks[p]), self._held[p]
        for m, key in enumerate(_keys(self._boards[p], moved)):
            if key not in known:
                pairs = moved.pairs(m)
                old, new = self._changed(self._boards[p], pairs)
                known[key] = self._peak_after(p, pairs, old, new)
            peak = known[key]
            if peak is not None:
                found[m] = peak
        return found

    def _peak_after(
        self, p: int, pairs: list[tuple[int, int]], old: list[Option], new: list[Option]
    ) -> float | None:
        """None: what is held stays as it is. Moves that hold the same share their peak."""
        if [o.holds for o in old] == [o.holds for o in new]:
            return None
        name = (p, *(at for at, _ in pairs), *(o.holds for o in new))
        if name not in self._alike:
            self._alike[name] = self._peak(self._boards[p], pairs)
        return self._alike[name]

    def _peak(self, one: Board, pairs: list[tuple[int, int]]) -> float:
        now = one.current.copy()
        for at, number in pairs:
            now[at] = number
        holds: list[Hold] = []
        for number in now.tolist():
            entry = one.entries[number]
            holds += self._problem.options[entry.option].holds if entry is not None else ()
        return float(peak_size_bytes(holds))

    def apply(self, p: int, moved: Changes) -> None:
        """Makes the first of some moves; what it touches is known no more."""
        one, pairs = self._boards[p], moved.pairs(0)
        old, new = self._changed(one, pairs)
        self._tensors.move([(o, p) for o in old], [(o, p) for o in new])
        for tensor in _tensors((*old, *new)):
            for q, key in self._touching.pop(tensor, ()):
                self._ways[q].pop(key, None)
        if [o.holds for o in old] != [o.holds for o in new]:
            self._held[p].clear()
            self._alike.clear()
        for at, number in pairs:
            one.current[at] = number
        self._peaks[p] = self._peak(one, [])


def _keys(one: Board, moved: Changes) -> Iterator[Key]:
    now = np.where(moved.at != NOTHING, one.current[moved.at], NOTHING)
    return zip(*moved.at.tolist(), *moved.entry.tolist(), *now.tolist(), strict=True)


def _tensors(options: Iterable[Option]) -> dict[str, None]:
    """Tensors that options read or leave."""
    states = (state for option in options for state in (*option.needs, *option.makes))
    return dict.fromkeys(state.tensor for state in states)
