"""From options on stages to a whole plan: the cheapest conversions and transfers of each state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from planner.ir.devices import Link, Place
from planner.ir.problem import Conversion, Problem, State, Transfer
from planner.ir.solution import Solution, Stage, Status

Node = tuple[int, str]
"""Stage and form of one tensor."""
Step = tuple[Node, Node, Conversion | Transfer]


@dataclass(slots=True)
class Choice:
    """What was chosen before conversions and transfers are."""

    places: tuple[Place, ...]
    """Of the stages, in order."""
    options: list[int]
    """Numbers of the options, in the order of their first operators."""
    stage: list[int]
    """Of each option."""
    store: list[int]
    """Of each option's weights; -1 on the device."""


@dataclass(slots=True)
class _Board:
    """What exists where, and what is paid for."""

    there: dict[str, set[Node]] = field(default_factory=dict)
    conversions: list[dict[str, None]] = field(default_factory=list)
    transfers: list[dict[str, int]] = field(default_factory=list)


class Completer:
    """Completes choices of one problem under one setting."""

    def __init__(self, problem: Problem, row: int) -> None:
        self._problem, self._row = problem, row
        self._changes: dict[str, list[Conversion]] = {}
        for change in problem.conversions:
            if all(cell is not None for cell in change.latency[row]):
                self._changes.setdefault(change.source.tensor, []).append(change)
        self._moves: dict[str, list[Transfer]] = {}
        for move in problem.transfers:
            self._moves.setdefault(move.source.tensor, []).append(move)
        self._given: dict[str, list[State]] = {}
        for state in problem.given:
            self._given.setdefault(state.tensor, []).append(state)
        self._links: dict[tuple[str, str], Link] = {
            (link.source, link.target): link for link in problem.links
        }

    def complete(self, choice: Choice, is_uncertain: bool = False) -> Solution | None:
        """The plan; None where some state cannot be had."""
        problem, count = self._problem, len(choice.places)
        board = _Board(conversions=[{} for _ in range(count)], transfers=[{} for _ in range(count)])
        for state in problem.given:
            board.there.setdefault(state.tensor, set()).update(
                (p, state.form) for p in range(count)
            )
        order = sorted(range(len(choice.options)), key=lambda n: choice.stage[n])
        for n in order:
            option = problem.options[choice.options[n]]
            for state in option.makes:
                board.there.setdefault(state.tensor, set()).add((choice.stage[n], state.form))
        for n in order:
            for state in problem.options[choice.options[n]].needs:
                if not self._supply(board, choice, state, choice.stage[n]):
                    return None
        for state in problem.wanted:
            nodes = board.there.get(state.tensor, set())
            if any(form == state.form for _, form in nodes):
                continue
            last = max((p for p, _ in nodes), default=count - 1)
            if not self._supply(board, choice, state, last):
                return None
        return self._solution(board, choice, is_uncertain)

    def tensor_us(
        self,
        places: tuple[Place, ...],
        tensor: str,
        made: Iterable[tuple[int, str]],
        wanted: Iterable[tuple[int, str]],
    ) -> float:
        """Weighted time that one tensor's conversions and transfers take between stages that make
        forms of it and stages that want them; infinite where one cannot be had."""
        there = set(made)
        there.update((p, s.form) for s in self._given.get(tensor, ()) for p in range(len(places)))
        total = 0.0
        for goal in sorted(set(wanted)):
            if goal in there:
                continue
            found = self._path(places, tensor, there, goal)
            if found is None:
                return math.inf
            total += found[0]
            there.update(target for _, target, _ in found[1])
        return total

    def _supply(self, board: _Board, choice: Choice, state: State, stage: int) -> bool:
        there = board.there.get(state.tensor, set())
        goal = (stage, state.form)
        if goal in there:
            return True
        found = self._path(choice.places, state.tensor, there, goal)
        if found is None:
            return False
        for (q, _), (p, form), change in found[1]:
            if isinstance(change, Conversion):
                board.conversions[p][change.name] = None
            else:
                board.transfers[p][change.name] = q
            there.add((p, form))
        return True

    def _path(
        self, places: tuple[Place, ...], tensor: str, there: set[Node], goal: Node
    ) -> tuple[float, list[Step]] | None:
        """Cheapest steps from what exists to the goal (Dijkstra, few nodes), and their time."""
        best: dict[Node, float] = dict.fromkeys(there, 0.0)
        came: dict[Node, Step] = {}
        waiting = [(0.0, node) for node in sorted(there)]
        while waiting:
            spent, node = heappop(waiting)
            if node == goal:
                return spent, _walk(came, goal)
            if spent > best[node]:
                continue
            for target, us, change in self._steps(places, tensor, node, goal[0]):
                if spent + us < best.get(target, float("inf")):
                    best[target] = spent + us
                    came[target] = (node, target, change)
                    heappush(waiting, (spent + us, target))
        return None

    def _steps(
        self, places: tuple[Place, ...], tensor: str, node: Node, goal: int
    ) -> list[tuple[Node, float, Conversion | Transfer]]:
        stage, form = node
        place = places[stage]
        weights = self._problem.shape_weights
        found: list[tuple[Node, float, Conversion | Transfer]] = []
        for change in self._changes.get(tensor, ()):
            if change.source.form == form and change.place in (None, place.name):
                cells = change.latency[self._row]
                us = sum(q * c.expected_us for q, c in zip(weights, cells, strict=True) if c)
                found.append(((stage, change.target.form), us, change))
        link = self._links.get((place.device, places[goal].device))
        if stage < goal and link is not None:
            for move in self._moves.get(tensor, ()):
                if move.source.form == form:
                    pairs = zip(weights, move.size_bytes, strict=True)
                    us = sum(q * link.time_us(size) for q, size in pairs)
                    found.append(((goal, move.target.form), us, move))
        return found

    def _solution(self, board: _Board, choice: Choice, is_uncertain: bool) -> Solution:
        problem = self._problem
        members: list[list[int]] = [[] for _ in choice.places]
        for n, stage in enumerate(choice.stage):
            members[stage].append(n)
        stages = tuple(
            Stage(
                place.name,
                tuple(problem.options[choice.options[n]].name for n in members[p]),
                tuple(board.conversions[p]),
                tuple(board.transfers[p].items()),
                tuple(
                    (problem.options[choice.options[n]].name, problem.stores[choice.store[n]].name)
                    for n in members[p]
                    if choice.store[n] >= 0
                ),
            )
            for p, place in enumerate(choice.places)
        )
        return Solution(
            Status.FEASIBLE,
            tuple(name for stage in stages for name in stage.chosen),
            tuple(dict.fromkeys(name for stage in stages for name in stage.conversions)),
            problem.settings[self._row].name,
            stages=stages,
            is_uncertain=is_uncertain,
        )


def _walk(came: dict[Node, Step], goal: Node) -> list[Step]:
    steps: list[Step] = []
    node = goal
    while node in came:
        steps.append(came[node])
        node = came[node][0]
    return steps[::-1]
