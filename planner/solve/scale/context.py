"""What the forest leaves out, priced by the labels of a known plan.

The forest charges a tensor's conversions to its first consumer. Given labels for all operators,
each other consumer's label is charged the cheapest way from the forms that exist then to the form
it wants, and each producer's label a share of the ways to what those consumers now want. Sweeping
the forest again with these charges moves operators towards forms that all consumers can share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from planner.ir.problem import State
from planner.solve.data import FloatArray, IntArray
from planner.solve.scale.forest import Forest
from planner.solve.scale.labels import Labelled
from planner.solve.scale.routes import Router

PRODUCER_SHARE = 0.5
"""Share of a way that its producer is charged as well: either end may move."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor with more than one consumer."""

    name: str
    maker: int
    first: int
    """The consumer that the forest charges."""
    others: tuple[int, ...]


class Context:
    """Charges of other consumers, for labels on given stages."""

    def __init__(self, labelled: Labelled, graph: Forest) -> None:
        self._labelled = labelled
        self._router = Router(labelled.problem, labelled.places, labelled.row, labelled.end)
        self._ways: dict[Hashable, float] = {}
        self._known: dict[tuple[int, str, bool], list[tuple[str, ...]]] = {}
        self._tensors = tuple(_shared(labelled, graph))

    def charges(self, labels: IntArray) -> dict[int, FloatArray]:
        """Microseconds to add to each label of some operators."""
        found: dict[int, FloatArray] = {}
        for tensor in self._tensors:
            self._charge(tensor, labels, found)
        return found

    def _charge(self, tensor: _Tensor, labels: IntArray, found: dict[int, FloatArray]) -> None:
        made = self._forms(tensor.maker, tensor.name, is_made=True)
        wanted = {op: self._forms(op, tensor.name) for op in (tensor.first, *tensor.others)}
        now = {op: wanted[op][self._rank(op, labels)] for op in wanted}
        there = made[self._rank(tensor.maker, labels)]
        stage = self._stage(tensor.maker, labels)
        counts = Counter(form for forms in now.values() for form in set(forms))
        for op in tensor.others:
            others = {form for form, n in counts.items() if n > (form in now[op])}
            have = (*there, *sorted(others.difference(there)))
            target = self._stage(op, labels)
            ways = [self._way(tensor.name, have, stage, forms, target) for forms in wanted[op]]
            self._add(op, np.array(ways), found)
        extra = {form for op in tensor.others for form in now[op]} - set(now[tensor.first])
        if extra:
            goal = tuple(sorted(extra))
            ways = [self._way(tensor.name, forms, stage, goal, stage) for forms in made]
            self._add(tensor.maker, PRODUCER_SHARE * np.array(ways), found)

    def _add(self, op: int, by_rank: FloatArray, found: dict[int, FloatArray]) -> None:
        rank = self._labelled.kind(op).rank
        found[op] = found.get(op, np.zeros(len(rank))) + by_rank[rank]

    def _rank(self, op: int, labels: IntArray) -> int:
        return int(self._labelled.kind(op).rank[labels[op]])

    def _stage(self, op: int, labels: IntArray) -> int:
        return int(self._labelled.kind(op).place[labels[op]])

    def _forms(self, op: int, tensor: str, *, is_made: bool = False) -> list[tuple[str, ...]]:
        """By option: the forms of a tensor that it leaves or wants."""
        key = (op, tensor, is_made)
        if key not in self._known:
            options = self._labelled.problem.options
            found = []
            for g in self._labelled.covering[op]:
                states: tuple[State, ...] = options[g].makes if is_made else options[g].needs
                found.append(tuple(state.form for state in states if state.tensor == tensor))
            self._known[key] = found
        return self._known[key]

    def _way(
        self, tensor: str, have: tuple[str, ...], k: int, want: tuple[str, ...], j: int
    ) -> float:
        """Expected time from what exists at one stage to what is wanted at another; 0 inside a
        group, which neither leaves nor wants anything."""
        if not have or not want:
            return 0.0
        key = (self._router.alike(tensor), have, k, want, j)
        if key not in self._ways:
            routes = self._router.routes(tensor, tuple(dict.fromkeys((*have, *want))))
            times = routes.times[0]
            total = 0.0
            for goal in want:
                each = [times[k, routes.forms[form], j, routes.forms[goal]] for form in have]
                least = float(min(each))
                total += least if np.isfinite(least) else 0.0
            self._ways[key] = total
        return self._ways[key]


def _shared(labelled: Labelled, graph: Forest) -> list[_Tensor]:
    options = labelled.problem.options
    makers: dict[str, int] = {}
    readers: dict[str, dict[int, None]] = {}
    for op, members in enumerate(labelled.covering):
        for g in members:
            alone = len(options[g].ops) == 1
            for state in options[g].makes if alone else ():
                makers.setdefault(state.tensor, op)
            for state in options[g].needs if alone else ():
                readers.setdefault(state.tensor, {})[op] = None
    found = []
    for tensor, maker in makers.items():
        consumers = readers.get(tensor, {})
        first = int(graph.next[maker])
        others = tuple(op for op in consumers if op != first)
        if others and first in consumers:
            found.append(_Tensor(tensor, maker, first, others))
    return found
