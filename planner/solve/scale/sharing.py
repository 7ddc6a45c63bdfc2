"""Conversions that several consumers share: each is charged its part of what is paid once.

Let no option of a tensor's maker leave form f, and let n operators read the tensor. Whoever wants
f forces its conversion, paid once a stage; charging each of the n readers 1/n of the cheapest way
to f never charges more than is paid. The reader that the forest knows is charged on its edge, the
others on their labels. Where all readers choose alike, as the three projections of an attention
do, this is exact.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from planner.ir.problem import Problem
from planner.solve.data import FloatArray
from planner.solve.scale.routes import Router


class Sharing:
    """Which forms are never made, and how many read each tensor."""

    def __init__(self, problem: Problem, covering: Sequence[Sequence[int]]) -> None:
        self._problem = problem
        self._made: dict[str, set[str]] = {}
        self._readers: dict[str, dict[int, None]] = {}
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

    def share(self, tensor: str, form: object) -> float:
        """Part of a way to a form that one reader is charged."""
        if not isinstance(form, str) or not form or form in self._made.get(tensor, set()):
            return 1.0
        return 1.0 / max(len(self._readers.get(tensor, {})), 1)

    def key(self, tensor: str) -> Hashable:
        """Equal for tensors that are shared alike."""
        return len(self._readers.get(tensor, {})), frozenset(self._made.get(tensor, set()))

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
                if maker < 0 or len(readers) < 2 or self.share(state.tensor, state.form) == 1.0:
                    continue
                if after[maker] in members or not members & readers.keys():
                    continue
                way = self._way(router, state.tensor, state.form) / len(readers)
                found[g] = found.get(g, np.zeros(places)) + way
        return found

    def _way(self, router: Router, tensor: str, form: str) -> FloatArray:
        """Cheapest way from any form that is made, anywhere, to one form, by place."""
        forms = (*sorted(self._made.get(tensor, set())), form)
        routes = router.routes(tensor, router.key(tensor, forms), forms)
        made = [routes.forms[name] for name in forms[:-1]]
        best = routes.times[0][:, made][:, :, :, routes.forms[form]].min(axis=(0, 1))
        return np.asarray(np.where(np.isfinite(best), best, 0.0))
