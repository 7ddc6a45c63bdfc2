"""Sequential planning as it is usually done: one decision after another, in every order.

Each step opens one family of decisions, solves, and fixes it: compress (a format for every
operator), place (the sequence of places), swap (stores), fuse (groups). Families that are not yet
open keep their default: fp16, one stage on all devices of the first type, resident weights, no
groups. Only the last step must keep the memory limits: the steps before cannot know what later
ones will save. Costs and options are those of the joint problem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import permutations

from benchmarks.joint_models import Case, make
from planner.ir.problem import Option, Problem
from planner.ir.solution import Solution
from planner.solve.solve import solve

STEPS = ("compress", "place", "swap", "fuse")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Joint against sequential on one structure."""

    structure: str
    joint_us: float | None
    joint_bound_us: float | None
    best_order: str
    sequential_us: float | None
    feasible_orders: int
    orders: int

    def line(self) -> str:
        """As printed."""
        if self.joint_us is None or self.sequential_us is None:
            ours = "-" if self.joint_us is None else f"{self.joint_us:.1f}"
            return f"{self.structure:10} joint {ours}, no sequential order is feasible"
        better = 100 * (self.sequential_us - self.joint_us) / self.sequential_us
        return (
            f"{self.structure:10} joint {self.joint_us:.1f} us, best order {self.best_order}"
            f" {self.sequential_us:.1f} us: {better:.1f} % better;"
            f" {self.feasible_orders} of {self.orders} orders feasible"
        )


@dataclass(slots=True)
class _Fixed:
    """What has been decided so far."""

    formats: dict[str, str] | None = None
    places: tuple[str, ...] | None = None
    open: set[str] = field(default_factory=set)


def compare(case: Case, time_limit_s: float) -> Comparison:
    """The joint optimum and the best of all orders, each step with the same time."""
    problem = make(case)
    joint = solve(problem, time_limit_s=time_limit_s, gap=1e-4)
    found: dict[str, float] = {}
    known: dict[tuple[str, ...], tuple[Solution | None, _Fixed]] = {(): (None, _Fixed())}
    for order in permutations(STEPS):
        plan = _in_order(problem, order, time_limit_s, known)
        if plan is not None:
            found[" > ".join(order)] = plan.objective[0]
    best = min(found, key=found.__getitem__, default="")
    return Comparison(
        case.structure,
        joint.objective[0] if joint.objective else None,
        joint.bound[0] if joint.bound else None,
        best,
        found.get(best),
        len(found),
        24,
    )


def _in_order(
    problem: Problem,
    order: tuple[str, ...],
    time_limit_s: float,
    known: dict[tuple[str, ...], tuple[Solution | None, _Fixed]],
) -> Solution | None:
    """The plan after all steps; what orders have in common is solved once."""
    for count in range(1, len(order) + 1):
        before, now = order[: count - 1], order[:count]
        if now in known:
            continue
        plan, fixed = known[before]
        if before and plan is None:
            known[now] = (None, fixed)
            continue
        step = order[count - 1]
        fixed = _Fixed(fixed.formats, fixed.places, {*fixed.open, step})
        posed = _posed(problem, fixed, is_last=count == len(order))
        plan = solve(posed, time_limit_s=time_limit_s, gap=0.005)
        plan = plan if plan.totals is not None else None
        if plan is not None:
            _fix(problem, plan, fixed, step)
        known[now] = (plan, fixed)
    return known[order][0]


def _fix(problem: Problem, plan: Solution, fixed: _Fixed, step: str) -> None:
    options = {option.name: option for option in problem.options}
    if step == "compress":
        fixed.formats = {
            op: options[name].format for name in plan.chosen for op in options[name].ops
        }
    if step == "place":
        fixed.places = tuple(stage.place for stage in plan.stages)


def _posed(problem: Problem, fixed: _Fixed, *, is_last: bool) -> Problem:
    """The problem with what is decided fixed and what is not yet open at its default."""
    largest = max(problem.places, key=lambda place: place.degree).name
    places = fixed.places or ((largest,) if "place" not in fixed.open else None)
    allowed = _allowed(problem, fixed, set(places) if places is not None else None)
    devices = problem.devices
    if not is_last:
        devices = tuple(replace(device, memory_size_bytes=None) for device in devices)
    return replace(
        problem,
        options=tuple(option for option in problem.options if allowed(option)),
        devices=devices,
        stages=len(places) if places is not None else problem.stages,
        stores=problem.stores if "swap" in fixed.open else (),
    )


def _allowed(problem: Problem, fixed: _Fixed, places: set[str] | None) -> Callable[[Option], bool]:
    default = problem.options[0].format

    def allowed(option: Option) -> bool:
        if places is not None and option.place not in places:
            return False
        if len(option.ops) > 1 and "fuse" not in fixed.open:
            return False
        if fixed.formats is not None:
            return option.format == fixed.formats[option.ops[0]]
        return "compress" in fixed.open or option.format == default

    return allowed
