"""Conversions that several consumers share: each is charged its part of what is paid once.

Each step of a tensor's way (a conversion, a transfer) is paid once a stage, so its cost may be
divided among the n operators that read the tensor, and every reader's cheapest way under its own
parts adds up to no more than what is paid. A step into a form that no option leaves is divided
evenly; one into a form that the maker can leave is the first reader's alone, whom the forest
charges on its edge. The others are charged on their labels. Where all readers choose alike, as the
three projections of an attention do, this is exact.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from planner.ir.problem import Problem
from planner.solve.data import FloatArray
from planner.solve.scale.routes import Division, Router


class Sharing:
    """Which forms are never made, and how many read each tensor."""

    def __init__(self, problem: Problem, covering: Sequence[Sequence[int]]) -> None:
        self._problem = problem
        self._made: dict[str, set[str]] = {}
        self._readers: dict[str, dict[int, None]] = {}
        self._ways: dict[Hashable, FloatArray] = {}
        for option in problem.options:
            for state in option.makes:
                self._made.setdefault(state.tensor, set()).add(state.form)
        for state in problem.given:
            self._made.setdefault(state.tensor, set()).add(state.form)
        for op, members in enumerate(covering):
            for g in members:
                option = problem.options[g]
                for state in option.needs if len(option.ops) == 1 else ():
                    self._readers.setdefault(state.tensor, {})[op] = None

    def division(self, tensor: str) -> Division:
        """How the steps of a tensor are divided among its readers."""
        readers = max(len(self._readers.get(tensor, {})), 1)
        return Division(1.0 / readers, frozenset(self._made.get(tensor, ())))

    def is_made(self, tensor: str, form: str) -> bool:
        """Whether some option leaves this form, or it is given."""
        return form in self._made.get(tensor, ())

    def charges(
        self, router: Router, after: Sequence[int], first: Sequence[int], places: int
    ) -> dict[int, FloatArray]:
        """By option: what it is charged at each place for tensors that do not reach it by an edge.

        Args:
            after: the operator that each hands its tensor to.
            first: first operator of each option.
        """
        problem = self._problem
        index = {name: number for number, name in enumerate(problem.ops)}
        makers: dict[str, int] = {}
        for g, option in enumerate(problem.options):
            for state in option.makes:
                makers.setdefault(state.tensor, first[g])
        found: dict[int, FloatArray] = {}
        for g, option in enumerate(problem.options):
            members = {index[name] for name in option.ops}
            for state in option.needs:
                maker = makers.get(state.tensor, -1)
                readers = self._readers.get(state.tensor, {})
                if maker < 0 or len(readers) < 2 or self.is_made(state.tensor, state.form):
                    continue
                if after[maker] in members or not members & readers.keys():
                    continue
                way = self._way(router, state.tensor, state.form)
                found[g] = found.get(g, np.zeros(places)) + way
        return found

    def _way(self, router: Router, tensor: str, form: str) -> FloatArray:
        """One reader's part of the cheapest way from any form that is made, anywhere, by place."""
        division = self.division(tensor)
        key = (router.alike(tensor), form, division)
        if key not in self._ways:
            forms = (*sorted(division.whole), form)
            routes = router.routes(tensor, forms, division)
            made = [routes.forms[name] for name in forms[:-1]]
            best = routes.times[0][:, made][:, :, :, routes.forms[form]].min(axis=(0, 1))
            self._ways[key] = np.where(np.isfinite(best), best, 0.0)
        return self._ways[key]
