"""Large neighbourhoods: a window of a plan is solved exactly with everything else as it is.

The operators of a window, all on one stage, become a small problem of one device: what others leave
is given, what others read is wanted, and of every limit the window gets what the rest leaves. Its
optimum (CP-SAT) takes the window's place, conversions and transfers are completed anew, and the
checker prices the whole; only what is better stays. Windows slide over all stages, half a window at
a time. (Shaw, "Using Constraint Programming and Local Search Methods to Solve Vehicle Routing
Problems", CP 1998, with the windows of sequence problems.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from planner.ir.problem import (
    Conversion,
    Latency,
    Limits,
    Objective,
    Option,
    Problem,
    Setting,
    State,
)
from planner.ir.solution import Solution
from planner.solve.check import priced
from planner.solve.scale.board import Board
from planner.solve.scale.complete import Choice, Completer
from planner.solve.stages.exact import Exact
from planner.solve.stages.model import HIGH

WINDOW = 40
"""Operators solved at once."""
WINDOW_S = 2.0
"""Seconds for one window."""
PASSES = 3
"""Times that the windows slide over the plan at most; a pass without gain is the last."""
AIMS = (Objective.LATENCY, Objective.ERROR, Objective.ENERGY)
"""Objectives that are sums over operators."""


class Windows:
    """Improves the incumbent of one setting window by window."""

    def __init__(self, state: Exact, row: int, number: int) -> None:
        self._state, self._row, self._number = state, row, number
        self._problem = state.problem
        self._completer = Completer(self._problem, row)
        self._options = {option.name: option for option in self._problem.options}
        self._by_op: dict[str, list[Option]] = {name: [] for name in self._problem.ops}
        for option in self._problem.options:
            self._by_op[option.ops[0]].append(option)
        self._conversions = {c.name: c for c in self._problem.conversions}
        self._by_tensor: dict[str, list[str]] = {}
        for change in self._problem.conversions:
            self._by_tensor.setdefault(change.source.tensor, []).append(change.name)
        self._moves = {move.name: move for move in self._problem.transfers}
        bound_together = chain(
            (op for group in self._problem.tied for op in group),
            (op for pair in self._problem.pairs for op in (pair.first, pair.second)),
        )
        self._numbers = {option.name: g for g, option in enumerate(self._problem.options)}
        self._stores = {store.name: r for r, store in enumerate(self._problem.stores)}
        self._places = {place.name: place for place in self._problem.places}
        self._where = {name: number for number, name in enumerate(self._problem.ops)}
        self._known: Board | None = None
        self._left_alone = set(bound_together) | self._problem.repeatable

    def run(self, bound: float, target: float) -> None:
        """Slides windows until the plan's value is at most `target`, nothing gains, or the time
        ends."""
        if self._problem.objectives[self._number] not in AIMS:
            return
        for _ in range(PASSES):
            before = self._value
            for part in self._parts():
                if self._state.remaining_s <= 0 or self._value <= target:
                    return
                self._improve(part, bound)
            if self._value >= before:
                return

    @property
    def _value(self) -> float:
        return self._state.values[self._number]

    def _parts(self) -> Iterator[tuple[str, ...]]:
        """Operators of each window, stage after stage of the plan as it is when the pass begins."""
        assert self._state.best is not None
        for stage in self._state.best.stages:
            ops = [op for name in stage.chosen for op in self._options[name].ops]
            ops.sort(key=self._where.__getitem__)
            for start in range(0, max(len(ops) - WINDOW // 2, 1), WINDOW // 2):
                yield tuple(ops[start : start + WINDOW])

    def _improve(self, part: tuple[str, ...], bound: float) -> None:
        from planner.solve.solve import solve  # this floor's way for one device; it knows us

        board = self._board()
        posed = self._posed(board, set(part))
        if posed is None:
            return
        small, replaced = posed
        left_s = min(WINDOW_S, self._state.remaining_s)
        found = solve(small, time_limit_s=left_s, gap=1e-4, seed=self._state.seed, workers=1)
        if found.is_interrupted:
            raise KeyboardInterrupt
        self._state.is_clocked |= found.hit_time_limit
        if not found.chosen or set(found.chosen) == replaced:
            return
        plan = self._rebuilt(board, replaced, found.chosen)
        if plan is not None:
            self._state.offer(plan, "windows", bound, self._number)

    def _board(self) -> Board:
        """The incumbent, indexed once."""
        assert self._state.best is not None
        if self._known is None or self._known.plan is not self._state.best:
            totals = priced(self._problem, self._state.best)
            self._known = Board(self._state.best, totals, self._options)
        return self._known

    def _posed(self, board: Board, inside: set[str]) -> tuple[Problem, set[str]] | None:
        """The window as a problem, and the options that it replaces; None where nothing is free."""
        free = {
            name
            for name in board.stage_of
            if inside.issuperset(self._options[name].ops)
            and name not in board.stored
            and not self._left_alone.intersection(self._options[name].ops)
        }
        stages = {board.stage_of[name] for name in free}
        if len(stages) != 1:
            return None
        p = stages.pop()
        place = board.plan.stages[p].place
        ops = {op for name in free for op in self._options[name].ops}
        offered = [
            self._bare(option)
            for op in self._problem.ops
            if op in ops
            for option in self._by_op[op]
            if ops.issuperset(option.ops)
            and option.place in (None, place)
            and all(cell is not None for cell in option.latency[self._row])
        ]
        nothing = Latency(0.0, 0.0, 0.0)
        tensors = {state.tensor for o in offered for state in (*o.needs, *o.makes)}
        conversions = [
            replace(change, place=None, latency=(change.latency[self._row],))
            for name in dict.fromkeys(
                n for t in sorted(tensors) for n in self._by_tensor.get(t, ())
            )
            if (change := self._conversions[name]).place in (None, place)
            and all(cell is not None for cell in change.latency[self._row])
        ]
        given = tuple(self._given(board, free, p, tensors))
        wanted = tuple(self._wanted(board, free, p))
        offered, conversions, there = within_reach(offered, conversions, given)
        covered = {op for option in offered for op in option.ops}
        if not ops <= covered or not there.issuperset(wanted):
            return None
        problem = Problem(
            ops=tuple(op for op in self._problem.ops if op in ops),
            edges=tuple(edge for edge in self._problem.edges if ops.issuperset(edge)),
            options=tuple(offered),
            settings=(Setting("here", tuple(nothing for _ in self._problem.shape_weights)),),
            shape_weights=self._problem.shape_weights,
            conversions=tuple(conversions),
            given=given,
            wanted=wanted,
            limits=self._left(board, free, p),
            objectives=(self._problem.objectives[self._number],),
        )
        return problem, free

    def _bare(self, option: Option) -> Option:
        """Peaks stay what they are; the checker sees the rest."""
        return replace(
            option,
            latency=(option.latency[self._row],),
            weight_size_bytes=option.weight_size_bytes + option.cache_size_bytes,
            cache_size_bytes=0,
            workspace_size_bytes=0,
            holds=(),
            place=None,
            stores=None,
        )

    def _given(self, board: Board, free: set[str], p: int, tensors: set[str]) -> Iterator[State]:
        """States at the stage that others make, receive or convert for themselves."""
        stage = board.plan.stages[p]
        needed = {s for t in tensors for name, s in board.readers.get(t, ()) if name not in free}
        found = {s for s in self._problem.given if s.tensor in tensors}
        for tensor in tensors:
            for name, state in board.makers.get(tensor, ()):
                if name not in free and board.stage_of[name] == p:
                    found.add(state)
        found.update(
            self._moves[name].target
            for name, _ in stage.transfers
            if self._moves[name].target.tensor in tensors
        )
        made_inside = {s.tensor for name in free for s in self._options[name].makes}
        for name in stage.conversions:
            target = self._conversions[name].target
            if target.tensor in tensors - made_inside and target in needed:
                found.add(target)
        yield from sorted(found, key=lambda s: (s.tensor, s.form))

    def _wanted(self, board: Board, free: set[str], p: int) -> Iterator[State]:
        """States of the window's tensors that others read here or take away."""
        made = {s.tensor for name in free for s in self._options[name].makes}
        found = {s for s in self._problem.wanted if s.tensor in made}
        for tensor in made:
            for name, state in board.readers.get(tensor, ()):
                if name not in free and board.stage_of[name] == p:
                    found.add(state)
        for later in board.plan.stages[p + 1 :]:
            for name, source in later.transfers:
                if source == p and self._moves[name].source.tensor in made:
                    found.add(self._moves[name].source)
        yield from sorted(found, key=lambda s: (s.tensor, s.form))

    def _left(self, board: Board, free: set[str], p: int) -> Limits:
        """What the rest of the plan leaves of each limit; the latency's is left to the checker."""
        totals = board.totals
        limits, mine = self._problem.limits, [self._options[name] for name in sorted(free)]
        weights = sum(o.weight_size_bytes + o.cache_size_bytes for o in mine)
        devices = {device.name: device for device in self._problem.devices}
        sizes = (
            devices[self._places[board.plan.stages[p].place].device].memory_size_bytes,
            limits.memory_size_bytes,
        )
        known = [size for size in sizes if size is not None]
        memory = min(known) - totals.stage_memory_size_bytes[p] + weights if known else None
        error = None if limits.error is None else limits.error - totals.error
        energy = None if limits.energy_j is None else limits.energy_j - totals.energy_j
        return Limits(
            memory_size_bytes=memory,
            error=None if error is None else max(error + sum(o.error for o in mine), 0.0),
            energy_j=None if energy is None else max(energy + sum(o.energy_j for o in mine), 0.0),
        )

    def _rebuilt(
        self, board: Board, replaced: set[str], chosen: tuple[str, ...]
    ) -> Solution | None:
        """The plan with other options in the window and all conversions completed anew."""
        parts: list[tuple[int, int, int, int]] = []
        for p, stage in enumerate(board.plan.stages):
            stored = dict(stage.stored)
            names = [name for name in stage.chosen if name not in replaced]
            names += chosen if any(name in replaced for name in stage.chosen) else ()
            for name in names:
                first = min(self._where[op] for op in self._options[name].ops)
                store = self._stores[stored[name]] if name in stored else -1
                parts.append((first, self._numbers[name], p, store))
        parts.sort()
        choice = Choice(
            tuple(self._places[stage.place] for stage in board.plan.stages),
            [g for _, g, _, _ in parts],
            [p for _, _, p, _ in parts],
            [r for _, _, _, r in parts],
        )
        return self._completer.complete(choice, is_uncertain=self._state.end != HIGH)


def within_reach(
    options: Sequence[Option], conversions: Sequence[Conversion], given: Sequence[State]
) -> tuple[list[Option], list[Conversion], set[State]]:
    """Options and conversions that can get what they read, and the states that may exist: some
    options of the whole problem are not offered here, and what only they make is missing."""
    kept, changes = list(options), list(conversions)
    while True:
        there = {*given, *(state for option in kept for state in option.makes)}
        growing = True
        while growing:
            found = {each.target for each in changes if each.source in there} - there
            there |= found
            growing = bool(found)
        still = [option for option in kept if there.issuperset(option.needs)]
        changes = [each for each in changes if each.source in there]
        if len(still) == len(kept):
            return kept, changes, there
        kept = still
