"""What a plan's tensors cost: conversions and transfers, tensor by tensor, as choices change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

from planner.ir.devices import Place
from planner.ir.problem import Option, Problem
from planner.solve.scale.complete import Completer, Node
from planner.solve.scale.routes import Router

Placed = tuple[Option, int]
"""An option on a stage."""


class Tensors:
    """Who makes and who wants which form of each tensor where, and what the ways between cost."""

    def __init__(self, problem: Problem, row: int, end: str, places: tuple[Place, ...]) -> None:
        self._places = places
        self._completer = Completer(problem, row)
        self._router = Router(problem, places, row, end)
        self._made: dict[str, Counter[Node]] = {}
        self._wanted: dict[str, Counter[Node]] = {}
        self._ways: dict[Hashable, float] = {}
        self._given = {state.tensor for state in problem.given}
        self._outputs = {state.tensor: state.form for state in problem.wanted}
        self._now: dict[str, float] = {}

    def put(self, placed: Iterable[Placed]) -> None:
        """The plan as it is."""
        for option, p in placed:
            for tensor in self._count(option, p, 1, self._made, self._wanted):
                self._now.pop(tensor, None)

    def move(self, removed: Iterable[Placed], added: Iterable[Placed]) -> None:
        """Changes the plan."""
        for option, p in removed:
            for tensor in self._count(option, p, -1, self._made, self._wanted):
                self._now.pop(tensor, None)
        self.put(added)

    def change_us(self, removed: Iterable[Placed], added: Iterable[Placed]) -> float:
        """By how much the ways take longer after a change; infinite where one is missing."""
        made: dict[str, Counter[Node]] = {}
        wanted: dict[str, Counter[Node]] = {}
        tensors: dict[str, None] = {}
        for sign, placed in ((-1, removed), (1, added)):
            for option, p in placed:
                tensors.update(dict.fromkeys(self._count(option, p, sign, made, wanted)))
        total = 0.0
        for tensor in tensors:
            after = self._us(
                tensor,
                _sum(self._made.get(tensor), made.get(tensor)),
                _sum(self._wanted.get(tensor), wanted.get(tensor)),
            )
            total += after - self._now_us(tensor)
        return total

    def total_us(self) -> float:
        """All ways together."""
        return sum(self._now_us(tensor) for tensor in sorted({*self._made, *self._wanted}))

    @staticmethod
    def _count(
        option: Option,
        p: int,
        sign: int,
        made: dict[str, Counter[Node]],
        wanted: dict[str, Counter[Node]],
    ) -> list[str]:
        for state in option.makes:
            made.setdefault(state.tensor, Counter())[p, state.form] += sign
        for state in option.needs:
            wanted.setdefault(state.tensor, Counter())[p, state.form] += sign
        return [state.tensor for state in (*option.makes, *option.needs)]

    def _now_us(self, tensor: str) -> float:
        found = self._now.get(tensor)
        if found is None:
            made, wanted = self._made.get(tensor), self._wanted.get(tensor)
            found = self._us(tensor, _sum(made, None), _sum(wanted, None))
            self._now[tensor] = found
        return found

    def _us(self, tensor: str, made: frozenset[Node], wanted: frozenset[Node]) -> float:
        output = self._outputs.get(tensor)
        if output is not None and made:
            wanted |= {(max(p for p, _ in made), output)}
        if wanted <= made:
            return 0.0
        key = (self._router.alike(tensor), tensor in self._given, made, wanted)
        if key not in self._ways:
            self._ways[key] = self._completer.tensor_us(self._places, tensor, made, wanted)
        return self._ways[key]


def _sum(a: Counter[Node] | None, b: Counter[Node] | None) -> frozenset[Node]:
    """Nodes that are counted."""
    if not b:
        return frozenset(node for node, n in a.items() if n > 0) if a else frozenset()
    nodes = {*(a or ()), *b}
    return frozenset(n for n in nodes if (a[n] if a else 0) + b[n] > 0)
