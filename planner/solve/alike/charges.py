"""What results cost at least before anybody can read them: conversions charged to their makers.

A tensor that is made in forms that no reader takes must be converted at least once, at its maker's
place; the cheapest such way is charged. Each tensor has one maker, so charges add up to no more
than what conversions cost (C5).
"""

from __future__ import annotations

import numpy as np

from planner.ir.problem import Conversion, Option, Problem
from planner.solve.data import FloatArray

ENDS = ("low_us", "expected_us", "high_us")


class Charges:
    """Looked up by option."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._shapes = len(problem.shape_weights)
        self._changes: dict[tuple[str, str], list[Conversion]] = {}
        names = [place.name for place in problem.places]
        for change in problem.conversions:
            if any(cell is None for cell in change.latency[0]):
                continue
            for name in [change.place] if change.place is not None else names:
                self._changes.setdefault((change.source.tensor, name), []).append(change)
        self._taken: dict[tuple[str, str], set[str]] = {}
        for option in problem.options:
            for state in option.needs:
                for name in [option.place] if option.place is not None else names:
                    self._taken.setdefault((state.tensor, name), set()).add(state.form)
        self._anywhere: dict[str, set[str]] = {}
        for move in problem.transfers if problem.stages > 1 else ():
            self._anywhere.setdefault(move.source.tensor, set()).add(move.source.form)
        for state in problem.wanted:
            self._anywhere.setdefault(state.tensor, set()).add(state.form)
        self._known: dict[tuple[str, str], dict[str, FloatArray]] = {}

    def of(self, option: Option) -> FloatArray:
        """(shapes, 3): microseconds at the low, expected and high ends."""
        total = np.zeros((self._shapes, 3))
        forms: dict[str, list[str]] = {}
        for state in option.makes:
            forms.setdefault(state.tensor, []).append(state.form)
        for tensor, made in forms.items():
            known = self._ways(tensor, option.place or "")
            found = [known[form] for form in made if form in known]
            if len(found) == len(made):
                total += np.minimum.reduce(found)
        return total

    def _ways(self, tensor: str, place: str) -> dict[str, FloatArray]:
        """Form -> least time to a form that somebody reads. A form that leads nowhere, or a tensor
        that nobody reads, is not in it: nothing is charged."""
        key = (tensor, place)
        if key not in self._known:
            readable = self._taken.get(key, set()) | self._anywhere.get(tensor, set())
            best = {form: np.zeros((self._shapes, 3)) for form in readable}
            changes = self._changes.get(key, []) if readable else []
            for _ in range(len(changes)):
                if not self._relax(best, changes):
                    break
            self._known[key] = best
        return self._known[key]

    def _relax(self, best: dict[str, FloatArray], changes: list[Conversion]) -> bool:
        """One round over all conversions; whether anything became cheaper."""
        changed = False
        for change in changes:
            ahead = best.get(change.target.form)
            if ahead is None:
                continue
            cells = [cell for cell in change.latency[0] if cell is not None]
            way = ahead + np.array([[getattr(cell, end) for end in ENDS] for cell in cells])
            known = best.get(change.source.form)
            if known is None:
                best[change.source.form] = way
                changed = True
            elif (way < known).any():
                best[change.source.form] = np.minimum(way, known)
                changed = True
        return changed
