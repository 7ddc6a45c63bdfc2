"""Sequential planning as it is usually done, in every order, against the joint optimum.

24 orders of compress, place, swap and fuse, each in several ways, so that no order loses by a
clumsy rule:

- Compression before placement uses the error budget for the least compute time (`time`), for the
  fewest bytes (`size`), or for the least time that fits into the memory of all devices (`fit`: it
  knows what placement is about to do, so it is half a joint plan, and reported apart).
- Memory is kept from the first step that places or swaps (`strict`: what does not fit fails), or
  only from the last step that can change it (`late`: earlier steps trust the later ones).

Every step is solved by the same solver, for the least time (placement: for the user's objectives);
only what is decided limits it. What orders have in common is solved once. The plan of the last step
is judged by the checker on the joint problem, all limits included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import permutations
from time import monotonic

from benchmarks.joint_steps import FAMILIES, Decided, Step, fixed, posed, translated
from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import check, priced, value
from planner.solve.solve import solve

STEP_GAP = 2e-3
"""Relative gap at which a step may stop."""
MEMORY_FAMILIES = frozenset(("compress", "place", "swap"))
PLAIN = ("time", "any")
"""Compression as it is done where nothing else is thought of: the budget buys time."""


@dataclass(frozen=True, slots=True)
class Way:
    """One order with its rules."""

    order: tuple[str, ...]
    compression: str
    """`time`, `size`, `fit`; `any` where placement comes first and memory decides."""
    memory: str
    """`strict` or `late`."""
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """As printed."""
        return f"{' > '.join(self.order)} ({self.compression}, {self.memory})"


def ways() -> Iterator[Way]:
    """Every order in every way that differs."""
    for order in permutations(FAMILIES):
        first = min(order.index("place"), order.index("swap"))
        is_early = order.index("compress") < first
        for compression in ("time", "size", "fit") if is_early else ("any",):
            known = set()
            for memory in ("strict", "late"):
                steps = tuple(_steps(order, compression, memory))
                if steps not in known:
                    yield Way(order, compression, memory, steps)
                known.add(steps)


def _steps(order: tuple[str, ...], compression: str, memory: str) -> Iterator[Step]:
    last = max(n for n, family in enumerate(order) if family in MEMORY_FAMILIES)
    is_placed = False
    for number, family in enumerate(order):
        is_placed |= family in ("place", "swap")
        keeps = number >= last or (is_placed and memory == "strict")
        if family == "compress" and not is_placed:
            yield Step(family, compression == "fit", compression == "size")
        else:
            yield Step(family, keeps)


@dataclass(slots=True)
class Sequential:
    """All orders on one problem; what they share is kept."""

    problem: Problem
    step_limit_s: float
    known: dict[tuple[Step, ...], tuple[Solution | None, Decided]] = field(
        default_factory=lambda: {(): (None, Decided())}
    )
    solved: dict[tuple[object, ...], Solution | None] = field(default_factory=dict)
    """By step and what was decided before: different orders often come to the same."""
    worst_gap: float = 0.0
    """Of all steps that ended with a plan."""
    open_steps: int = 0
    """Steps that ended with neither a plan nor a proof that there is none."""
    solves: int = 0

    def plan(self, way: Way) -> Solution | None:
        """The plan after all steps, which keeps everything; None where some step or limit fails."""
        for count in range(1, len(way.steps) + 1):
            before, now = way.steps[: count - 1], way.steps[:count]
            if now not in self.known:
                self.known[now] = self._step(before, way.steps[count - 1])
        plan = self.known[way.steps][0]
        return None if plan is None or check(self.problem, plan) else plan

    def _step(self, before: tuple[Step, ...], step: Step) -> tuple[Solution | None, Decided]:
        plan, decided = self.known[before]
        if before and plan is None:
            return None, decided
        key = (step, *decided.key)
        if key not in self.solved:
            self.solved[key] = self._answer(step, decided)
        answer = self.solved[key]
        if answer is None:
            return None, decided
        found = translated(answer)
        return found, fixed(self.problem, decided, step, found)

    def _answer(self, step: Step, decided: Decided) -> Solution | None:
        answer = self._solve(posed(self._aimed(step), decided, step))
        if answer is None and step.family == "place" and self._has_slo():
            # too slow for now: the fastest, for fusion or compression to come
            answer = self._solve(posed(self._hurried(), decided, step))
        return answer

    def _has_slo(self) -> bool:
        return self.problem.limits.latency_us is not None

    def _aimed(self, step: Step) -> Problem:
        """Placement aims at the user's objectives within the SLO, the other steps at time."""
        return self.problem if step.family == "place" else self._hurried()

    def _hurried(self) -> Problem:
        limits = replace(self.problem.limits, latency_us=None)
        return replace(self.problem, objectives=(Objective.LATENCY,), limits=limits)

    def _solve(self, problem: Problem) -> Solution | None:
        self.solves += 1
        found = solve(problem, time_limit_s=self.step_limit_s, gap=STEP_GAP)
        self.open_steps += found.status is Status.UNKNOWN
        if found.totals is None:
            return None
        self.worst_gap = max(self.worst_gap, found.gap or 0.0)
        return found


@dataclass(frozen=True, slots=True)
class Best:
    """The best plan of some ways; None where none of them has one."""

    value: float | None
    way: str
    better: float | None
    """(value - joint) / value; None where one of them has no plan."""
    feasible: int
    ways: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Joint against sequential on one problem."""

    instance: str
    objective: str
    joint: float | None
    joint_bound: float | None
    joint_status: str
    joint_seconds: float
    chained: Best
    """Compress for time, place, swap, fuse: one tool after another."""
    orders: Best
    """All 24 orders, compressing for time, keeping memory from the first placement on."""
    all_ways: Best
    """All orders in all ways: what one gets who tries everything."""
    sequential_seconds: float
    worst_step_gap: float
    open_steps: int
    values: dict[str, float | None]
    """Of every way."""

    def line(self) -> str:
        """As printed."""

        def text(best: Best) -> str:
            shown = "none" if best.value is None else f"{best.value:.1f}"
            share = "" if best.better is None else f" ({100 * best.better:+.1f} %)"
            return f"{shown + share:>18}"

        ours = "none" if self.joint is None else f"{self.joint:.1f}"
        return (
            f"{self.instance:18} joint {ours:>9} | chained {text(self.chained)}"
            f" | 24 orders {text(self.orders)} | all ways {text(self.all_ways)}"
            f" | {self.all_ways.feasible:2} of {self.all_ways.ways} feasible | {self.all_ways.way}"
        )


def compare(
    instance: str, problem: Problem, joint_limit_s: float, step_limit_s: float
) -> Comparison:
    """The joint plan and the best of all orders."""
    joint = solve(problem, time_limit_s=joint_limit_s, gap=1e-4)
    started = monotonic()
    planner = Sequential(problem, step_limit_s)
    found: dict[Way, float | None] = {}
    for way in ways():
        plan = planner.plan(way)
        found[way] = None if plan is None else value(priced(problem, plan), problem.objectives[0])
    ours = joint.objective[0] if joint.objective else None
    plain = {w: v for w, v in found.items() if w.memory == "strict" and w.compression in PLAIN}
    return Comparison(
        instance,
        problem.objectives[0].value,
        ours,
        joint.bound[0] if joint.bound else None,
        joint.status.value,
        round(joint.seconds, 2),
        _best({w: v for w, v in plain.items() if w.order == FAMILIES}, ours),
        _best(plain, ours),
        _best(found, ours),
        round(monotonic() - started, 2),
        planner.worst_gap,
        planner.open_steps,
        {way.name: known for way, known in found.items()},
    )


def _best(values: dict[Way, float | None], ours: float | None) -> Best:
    feasible = {way.name: value for way, value in values.items() if value is not None}
    name = min(feasible, key=feasible.__getitem__, default="")
    least = feasible.get(name)
    better = None if ours is None or least is None else (least - ours) / least
    return Best(least, name, better, len(feasible), len(values))
