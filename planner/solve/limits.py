"""The user's limits by name: what a plan uses of each, and problems with one changed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from planner.ir.problem import Limits, Problem
from planner.ir.solution import Solution, Totals

NAMES: tuple[str, ...] = tuple(item.name for item in fields(Limits))
"""`latency_us`, `memory_size_bytes`, `error`, `throughput_per_s`, `devices`, ..."""


@dataclass(frozen=True, slots=True)
class Step:
    """A small relaxation of a limit, as a person would ask for it."""

    amount: float
    words: str


STEPS: dict[str, Step] = {
    "latency_us": Step(1e3, "1 ms more"),
    "memory_size_bytes": Step(1e6, "1 MB more"),
    "error": Step(0.1, "10 % more"),
    "throughput_per_s": Step(-0.1, "10 % less"),
    "devices": Step(1, "one device more"),
    "price_per_hour": Step(0.1, "10 % more"),
    "query_cost": Step(0.1, "10 % more"),
    "energy_j": Step(0.1, "10 % more"),
}
TIGHT = 0.98
"""Share of a limit from which on a plan counts as bounded by it: choices come in steps."""
_RELATIVE = ("error", "throughput_per_s", "price_per_hour", "query_cost", "energy_j")
_WHOLE = ("memory_size_bytes", "devices")


def asked(problem: Problem) -> tuple[str, ...]:
    """Names of the limits that are set."""
    return tuple(name for name in NAMES if getattr(problem.limits, name) is not None)


def with_limit(problem: Problem, name: str, value: float | None) -> Problem:
    """The problem with one limit changed or taken away."""
    values: dict[str, Any] = {name: value}
    if name in _WHOLE and value is not None:
        values[name] = int(value)
    return replace(problem, limits=replace(problem.limits, **values))


def relaxed(problem: Problem, name: str) -> Problem:
    """The problem with one limit relaxed by its step."""
    value, step = getattr(problem.limits, name), STEPS[name]
    if name in _RELATIVE:
        return with_limit(problem, name, value * (1 + step.amount))
    return with_limit(problem, name, value + step.amount)


def used(problem: Problem, solution: Solution, name: str) -> float:
    """What a plan uses of a limit, in the limit's unit. The plan must have totals."""
    totals = solution.totals
    if totals is None:
        raise ValueError("a solution without a choice uses nothing")
    if name == "latency_us":
        return tail_us(problem, solution, totals)
    if name == "throughput_per_s":
        return 1e6 / max(totals.period_us, 1e-9)
    return float(getattr(totals, name))


def tight(problem: Problem, solution: Solution, share: float = TIGHT) -> tuple[str, ...]:
    """Limits of which a plan uses at least a share: what it is bounded by, told without re-solving.

    A device's capacity counts as `memory_size_bytes`. The plan must have totals.
    """
    found = []
    for name in asked(problem):
        value, own = float(getattr(problem.limits, name)), used(problem, solution, name)
        ratio = value / max(own, 1e-300) if name == "throughput_per_s" else own / max(value, 1e-300)
        if ratio >= share:
            found.append(name)
    sizes = [d.memory_size_bytes for d in problem.devices if d.memory_size_bytes is not None]
    if sizes and "memory_size_bytes" not in found:
        found += ["memory_size_bytes"] * (
            used(problem, solution, "memory_size_bytes") >= share * min(sizes)
        )
    return tuple(found)


def tail_us(problem: Problem, solution: Solution, totals: Totals) -> float:
    """The slowest shape at the SLO's percentile, upper end."""
    setting = next((s for s in problem.settings if s.name == solution.setting), None)
    ends = enumerate(totals.latency_high_us)
    tails = (high_us * (setting.tail(shape) if setting else 1.0) for shape, high_us in ends)
    return max(tails, default=0.0)
