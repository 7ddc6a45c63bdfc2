"""Local search on a plan's entries: descent by single moves and pairs, then tabu search.

All moves of a stage are priced in one walk (`batch`). The descent takes the best move that keeps
the limits; where there is none, the best pair of one that gains but needs room and one that makes
room for little. The tabu search (Glover, ORSA Journal on Computing 1, 1989) then takes the best
move whatever it costs, what it takes back lately excepted, with overused limits priced: their
prices rise while they are broken and fall while they hold (strategic oscillation).
"""

from __future__ import annotations

import numpy as np

from planner.ir.problem import Objective
from planner.solve.data import BoolArray, FloatArray
from planner.solve.scale.batch import NOTHING, Changes
from planner.solve.scale.layout import Layout, Moves
from planner.solve.stages.exact import Exact
from planner.solve.stages.model import ENDS, HIGH

MOST_OPS = 4_000
"""Operators up to which moves are priced often enough to help."""
MOST_MOVES = 1_500
"""Moves of a stage priced in a step; more are sampled."""
PAIRED = 100
"""Moves of each side that are paired."""
MOST_PAIRS = 2_000
GAIN = 1e-7
"""Relative gain below which a move does not count."""
SLACK = 1e-12
"""Relative excess of a limit that rounding explains."""
TENURE = 6
"""Steps for which a position that moved stays, at least; at most twice that."""
PATIENCE = 250
"""Steps without a better plan after which the search ends."""
PRICE = 0.5
"""First price of a limit's whole, relative to the plan's value."""
RISE, FALL = 1.08, 0.97


class Tabu:
    """Improves the incumbent of one setting, which must be faster and nothing else."""

    def __init__(self, state: Exact, row: int, number: int, bound: float) -> None:
        self._state, self._row, self._number, self._bound = state, row, number, bound
        self._random = np.random.default_rng(state.seed)

    def _layout(self) -> Layout | None:
        """The incumbent laid out; None where moves cannot price it."""
        state, problem = self._state, self._state.problem
        if problem.objectives[self._number] is not Objective.LATENCY or state.best is None:
            return None
        if problem.tied or problem.pairs or problem.repeatable or state.end != HIGH:
            return None
        if len(problem.ops) > MOST_OPS:
            return None
        return Layout(problem, self._row, ENDS[state.end], state.best)

    @property
    def _value(self) -> float:
        return self._state.values[self._number]

    def descend(self, target: float) -> None:
        """Down to a plan that no single move and no pair improves."""
        layout = self._layout()
        if layout is None:
            return
        while self._state.remaining_s > 0 and layout.value_us > target:
            found = self._best(layout, GAIN * self._value)
            if found is None:
                break
            layout.apply(*found)
        self._offer(layout)

    def _offer(self, layout: Layout) -> bool:
        plan = layout.plan()
        return plan is not None and self._state.offer(plan, "moves", self._bound, self._number)

    def _sampled(self, layout: Layout, p: int, most: int) -> Changes:
        """The moves of a stage, or some of them."""
        moved = layout.moves(p)
        if moved.count <= most:
            return moved
        return moved.part(np.sort(self._random.choice(moved.count, most, replace=False)))

    def _best(self, layout: Layout, least: float) -> tuple[int, Changes] | None:
        """The best move that gains and keeps the limits, or pair of moves."""
        found: tuple[float, int, Changes] | None = None
        every: list[Moves] = []
        for p in range(len(layout.boards)):
            moved = self._sampled(layout, p, MOST_MOVES)
            if not moved.count:
                continue
            every.append(layout.price(p, moved))
            found = _better(found, every[-1], _kept(every[-1].use), least)
        for moves in every if found is None else ():
            paired = _pairs(layout, moves, least)
            if paired is not None:
                found = _better(found, paired, _kept(paired.use), least)
        return None if found is None else found[1:]

    def search(self, target: float) -> None:
        """From the incumbent on, until the target, patience or time is reached."""
        layout = self._layout()
        if layout is None:
            return
        walk = _Walk(PRICE * self._value * np.ones(len(layout.use(0))))
        value = layout.value_us
        while self._state.remaining_s > 0 and self._value > target and walk.idle < PATIENCE:
            step = self._step(layout, walk, value)
            walk.step += 1
            walk.idle += 1
            if step is None:
                continue
            layout.apply(step.stage, step.moved)
            value -= float(step.gain_us[0])
            over = step.use[:, 0] > 1.0 + SLACK
            walk.prices *= np.where(over, RISE, FALL)
            for at, _ in step.moved.pairs(0):
                until = walk.step + int(self._random.integers(TENURE, 2 * TENURE))
                walk.until[step.stage, at] = until
            if not over.any() and value < self._value * (1 - GAIN):
                walk.idle = 0 if self._offer(layout) else walk.idle
                value = layout.value_us

    def _step(self, layout: Layout, walk: _Walk, value: float) -> Moves | None:
        """The best move of all stages under the prices."""
        found: tuple[float, Moves] | None = None
        share = MOST_MOVES // (3 * len(layout.boards)) + 1
        for p in range(len(layout.boards)):
            moved = self._sampled(layout, p, share)
            if not moved.count:
                continue
            moves = layout.price(p, moved)
            score = moves.gain_us - walk.prices @ np.maximum(moves.use - 1.0, 0.0)
            better = _kept(moves.use) & (value - moves.gain_us < self._value * (1 - GAIN))
            score = np.where(walk.is_free(p, moved) | better, score, -np.inf)
            m = int(score.argmax())
            if np.isfinite(score[m]) and (found is None or score[m] > found[0]):
                found = float(score[m]), _only(moves, m)
        return None if found is None else found[1]


class _Walk:
    """What a tabu search remembers."""

    def __init__(self, prices: FloatArray) -> None:
        self.prices = prices
        self.step = 0
        self.idle = 0
        """Steps since the last better plan."""
        self.until: dict[tuple[int, int], int] = {}
        """Step until which a position stays."""

    def is_free(self, p: int, moved: Changes) -> BoolArray:
        """Which moves take nothing back."""
        until = [self.until.get((p, at), 0) for at in moved.at[0].tolist()]
        return np.array(until) <= self.step


def _kept(use: FloatArray) -> BoolArray:
    return np.asarray((use <= 1.0 + SLACK).all(axis=0))


def _only(moves: Moves, m: int) -> Moves:
    one = slice(m, m + 1)
    return Moves(
        moves.stage, moves.moved.only(m), moves.gain_us[one], moves.forms_us[one], moves.use[:, one]
    )


def _better(
    found: tuple[float, int, Changes] | None, moves: Moves, kept: BoolArray, least: float
) -> tuple[float, int, Changes] | None:
    """The best of what is known and what is kept here."""
    gain = np.where(kept, moves.gain_us, -np.inf)
    m = int(gain.argmax())
    if gain[m] <= least or (found is not None and gain[m] <= found[0]):
        return found
    return float(gain[m]), moves.stage, moves.moved.only(m)


def _pairs(layout: Layout, moves: Moves, least: float) -> Moves | None:
    """Pairs of a move that gains and one that makes room, priced together; their conversions as if
    they were far apart, but for the best, which is priced as it is."""
    single = np.flatnonzero((moves.moved.at[1] == NOTHING) & np.isfinite(moves.gain_us))
    now = layout.use(moves.stage)
    change, gain = moves.use[:, single] - now[:, None], moves.gain_us[single]
    needs, frees = np.maximum(change, 0.0).sum(axis=0), np.maximum(-change, 0.0).sum(axis=0)
    takers = np.flatnonzero(gain > least)
    takers = takers[np.argsort(-gain[takers] / (needs[takers] + 1e-9), kind="stable")][:PAIRED]
    givers = np.flatnonzero(frees > 1e-9)
    givers = givers[np.argsort(-gain[givers] / frees[givers], kind="stable")][:PAIRED]
    a, b = (each.ravel() for each in np.meshgrid(takers, givers, indexing="ij"))
    at = moves.moved.at[0, single]
    use = now[:, None] + change[:, a] + change[:, b]
    kept = (at[a] != at[b]) & (gain[a] + gain[b] > least) & (use <= 1.0 + 1e-3).all(axis=0)
    a, b = a[kept], b[kept]
    order = np.argsort(-(gain[a] + gain[b]), kind="stable")[:MOST_PAIRS]
    a, b = single[a[order]], single[b[order]]
    if not len(a):
        return None
    both = Changes(
        np.vstack((moves.moved.at[0, a], moves.moved.at[0, b])),
        np.vstack((moves.moved.entry[0, a], moves.moved.entry[0, b])),
    )
    priced = layout.price(moves.stage, both, moves.forms_us[a] + moves.forms_us[b])
    best = int(np.where(_kept(priced.use), priced.gain_us, -np.inf).argmax())
    return layout.price(moves.stage, both.only(best))
