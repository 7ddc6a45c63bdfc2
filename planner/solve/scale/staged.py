"""One way to cut a large pipeline: options by a second dual, then swaps, then streams."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

import numpy as np

from planner.ir.problem import Objective, Option
from planner.ir.solution import Solution, Stage
from planner.solve.data import FloatArray, IntArray
from planner.solve.price import memory_size_bytes
from planner.solve.running import Chosen, look_up
from planner.solve.scale.complete import Choice, Completer
from planner.solve.scale.context import Context
from planner.solve.scale.dual import Dual, Point
from planner.solve.scale.edges import forest
from planner.solve.scale.forest import Forest
from planner.solve.scale.labels import Labelled, Stages, label
from planner.solve.scale.polish import Swaps, polish, swaps
from planner.solve.scale.residency import Running, hidden_bytes, stream
from planner.solve.scale.rows import Row, rows
from planner.solve.scale.sizes import capacity_bytes, unit_of
from planner.solve.stages.exact import Exact
from planner.solve.stages.model import ENDS, HIGH

RESERVE = 0.02
"""Share of a device's memory that the first try leaves for activations."""
SWEEPS = 6
"""Sweeps of the forest that charge other consumers by the labels of the last."""
TRIES = 4
"""How often limits are corrected by what a plan really needed."""
ROOMS = 6
"""How often the dual is made anew with the room that its own best labels leave;"""
SETTLED = 0.02
"""relative change of room below which it is not."""
SHARE = 0.2
"""Share of the time for these duals."""


class Staged:
    """A problem whose operators have stages."""

    def __init__(
        self,
        state: Exact,
        row: int,
        stages: Stages,
        number: int,
        bound: float,
        completer: Completer | None = None,
    ) -> None:
        self._state, self._row, self._stages = state, row, stages
        self._number, self._bound = number, bound
        self._problem = state.problem
        self._objective = self._problem.objectives[number]
        names = [place.name for place in self._problem.places]
        self._full = np.array(
            [capacity_bytes(self._problem, row, names.index(p.name)) for p in stages.places]
        )
        self._reserve = np.where(np.isfinite(self._full), RESERVE * self._full, 0.0)
        self._freed = np.zeros(len(self._full))
        self._completer = completer or Completer(self._problem, row)

    def run(self, rounds: int, points: int, close: float) -> None:
        """Second duals with a price for each stage's memory; plans from their points, until one
        exists where one is asked for, or the value is at most `close`."""
        end, deadline = ENDS[self._state.end], self._state.deadline
        labelled = label(self._problem, self._row, end, self._stages, deadline)
        if any(not len(kind.rank) for kind in labelled.kinds):
            return
        graph = forest(labelled, end, deadline=deadline)
        self._offer_fastest(labelled, graph)
        until = monotonic() + SHARE * self._state.remaining_s
        dual, best = self._settled(labelled, graph, rounds, until)
        self._state.is_clocked |= monotonic() >= until
        if best.bound == math.inf:
            return
        table = swaps(labelled, dual.rows, list(range(len(dual.rows.rows))), dual.rows.aim)
        limit = np.ones(len(dual.rows.rows))
        for start in self._starts(labelled, dual, best, points):
            if self._state.remaining_s <= 0 or self._is_close(close):
                return
            is_plan = self._try(labelled, dual.rows.rows, best, table, start, limit)
            if is_plan and points == 1:
                return

    def _is_close(self, close: float) -> bool:
        """Whether the incumbent's value is at most so much."""
        return self._state.best is not None and self._state.values[self._number] <= close

    def _offer_fastest(self, labelled: Labelled, graph: Forest) -> None:
        """The fastest options of all: what they could stream for nothing is room for the dual."""
        dual = self._dual(labelled, graph)
        point = dual.evaluate(np.zeros(len(dual.rows.rows)))
        if point.bound < math.inf:
            self._offer(labelled, self._consistent(labelled, dual, point, point.labels))

    def _dual(self, labelled: Labelled, graph: Forest) -> Dual:
        """With room for what the last plan could stream for nothing."""
        found = rows(labelled, self._objective, self._room())
        unit = unit_of(labelled, self._objective)
        return Dual(labelled, graph, found, None, unit, deadline=self._state.deadline)

    def _room(self) -> FloatArray:
        """Bytes for weights on each device of each stage, after what was learned."""
        return np.asarray(self._full - self._reserve + self._freed)

    def _settled(
        self, labelled: Labelled, graph: Forest, rounds: int, until: float
    ) -> tuple[Dual, Point]:
        """The dual whose own best labels leave the room that it counts on: slower options stream
        more for nothing, and larger weights fill a link better."""
        dual = self._dual(labelled, graph)
        best = dual.solve(until, rounds)
        for _ in range(ROOMS):
            if best.bound == math.inf or monotonic() > until:
                break
            before = self._room()
            self._offer(labelled, self._consistent(labelled, dual, best, best.labels))
            limited = np.isfinite(before)  # elsewhere memory is no question
            room, before = self._room()[limited], before[limited]
            if (np.abs(room - before) <= SETTLED * np.abs(before)).all():
                break
            dual = self._dual(labelled, graph)
            best = dual.solve(until, rounds)
        return dual, best

    def _try(
        self,
        labelled: Labelled,
        found: list[Row],
        best: Point,
        table: Swaps,
        start: IntArray,
        limit: FloatArray,
    ) -> bool:
        """Polishes labels to a plan, again with limits after what that plan really needed; whether
        there was one: what the forest leaves out may be in forms that nobody can have."""
        is_plan = False
        for _ in range(TRIES):
            if self._state.remaining_s <= 0:
                return is_plan
            plan = self._offer(labelled, polish(table, start, limit, best.multipliers))
            is_plan |= plan is not None
            if plan is None or not self._corrected(found, limit):
                return is_plan
        return is_plan

    def _starts(
        self, labelled: Labelled, dual: Dual, best: Point, points: int
    ) -> Iterator[IntArray]:
        """Labels to polish: the best point's, moved by what the forest leaves out; others'."""
        labels = self._consistent(labelled, dual, best, best.labels)
        yield labels
        context = Context(labelled, dual.forest)
        for _ in range(SWEEPS if self._objective is Objective.LATENCY else 0):
            labels = dual.relabel(best.multipliers, context.charges(labels))
            labels = self._consistent(labelled, dual, best, labels)
            yield labels
        for point in sorted(dual.points, key=lambda point: -point.bound)[1:points]:
            yield self._consistent(labelled, dual, best, point.labels)

    def _consistent(
        self, labelled: Labelled, dual: Dual, best: Point, labels: IntArray
    ) -> IntArray:
        """Groups that not all members agree on are taken apart: each takes its best label alone."""
        problem = self._problem
        index = {name: number for number, name in enumerate(problem.ops)}
        costs = dual.costs(best.multipliers)
        found = labels.copy()
        chosen = [labelled.option(op, int(found[op])) for op in range(labelled.ops)]
        for op in range(labelled.ops):
            option = problem.options[chosen[op]]
            members = [index[name] for name in option.ops]
            if len(members) == 1 or all(chosen[other] == chosen[op] for other in members):
                continue
            ranks = labelled.kind(op).rank.tolist()
            alone = [len(problem.options[g].ops) == 1 for g in labelled.covering[op]]
            singles = [number for number, rank in enumerate(ranks) if alone[rank]]
            cost = costs[int(labelled.kind_of[op])]
            found[op] = min(singles, key=cost.__getitem__) if singles else found[op]
        return found

    def _offer(self, labelled: Labelled, labels: IntArray) -> Solution | None:
        """Completes a choice, lets weights stream as memory asks, and offers the plan."""
        options: dict[int, int] = {}
        covered: set[str] = set()
        for op, name in enumerate(self._problem.ops):
            if name not in covered:
                g = labelled.option(op, int(labels[op]))
                options[g] = int(self._stages.of[op])
                covered.update(self._problem.options[g].ops)
        return self.offer(options, "cuts and polish")

    def offer(self, options: dict[int, int], strategy: str) -> Solution | None:
        """Completes options (with their stages) to a plan that streams what memory asks for, and
        offers it; None where some state cannot be had or the plan cannot run."""
        used = sorted(set(options.values()))
        where = {p: n for n, p in enumerate(used)}
        places = tuple(self._stages.places[p] for p in used)
        stages = [where[p] for p in options.values()]
        choice = Choice(places, list(options), stages, [-1] * len(options))
        plan = self._completer.complete(choice, is_uncertain=self._state.end != HIGH)
        chosen = look_up(self._problem, plan, self._state.names) if plan is not None else None
        if plan is None or not isinstance(chosen, Chosen):
            return None
        plan = self._streaming(plan, chosen, used)
        self._state.offer(plan, strategy, self._bound, self._number)
        return plan

    def _streaming(self, plan: Solution, chosen: Chosen, used: list[int]) -> Solution:
        """The plan with weights in stores where a stage's devices are too small."""
        problem = self._problem
        room = {
            r: float(store.memory_size_bytes)
            for r, store in enumerate(problem.stores)
            if store.memory_size_bytes is not None
        }
        stages: list[Stage] = []
        fixed = problem.activation_size_bytes + chosen.setting.size_bytes
        for p, stage, running in zip(used, plan.stages, chosen.stages, strict=True):
            needs = memory_size_bytes(problem, chosen, running) - fixed
            weights = sum(o.weight_size_bytes + o.cache_size_bytes for o in running.options)
            self._reserve[p] = needs - weights
            assert running.device is not None
            reach = [
                (r, store)
                for r, store in enumerate(problem.stores)
                if not store.devices or running.device.name in store.devices
            ]
            line = Running(
                running.options,
                running.positions,
                self._times(list(running.options)),
                reach,
                running.degree,
                problem.shape_weights,
            )
            self._freed[p] = hidden_bytes(line, room)
            streams = stream(line, needs - self._full[p], room)
            for r, size in streams.used_bytes.items():
                room[r] = room.get(r, math.inf) - size
            names = [option.name for option in running.options]
            stored = tuple(
                (name, problem.stores[r].name)
                for name, r in zip(names, streams.store, strict=True)
                if r >= 0
            )
            stages.append(replace(stage, stored=stored))
        return replace(plan, stages=tuple(stages))

    def _times(self, options: list[Option]) -> list[list[float]]:
        """Expected times by shape."""
        shapes = range(len(self._problem.shape_weights))
        cells = [option.latency[self._row] for option in options]
        return [[cell.expected_us if (cell := row[w]) else 0.0 for row in cells] for w in shapes]

    def _corrected(self, found: list[Row], limit: FloatArray) -> bool:
        """Limits of the memory rows after what was learned; whether another try makes sense."""
        before = limit.copy()
        room = self._room()
        for n, row in enumerate(found):
            family, _, which = row.name.partition("/")
            if family == "held":
                limit[n] = room[int(which)] / max(row.rhs, 1.0)
        return bool(np.abs(limit - before).max(initial=0.0) > 1e-3)
