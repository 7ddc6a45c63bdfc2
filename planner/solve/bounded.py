"""Objectives as limits: the problem with one objective bounded, for frontiers (ε-constraints)."""

from __future__ import annotations

from planner.ir.problem import Objective, Problem
from planner.solve.limits import with_limit

RESOLUTION = 1e-6
"""Relative: values closer than this count as the same (whole numbers are told apart exactly)."""
LIMITS: dict[Objective, str] = {
    Objective.MEMORY: "memory_size_bytes",
    Objective.ERROR: "error",
    Objective.COST: "price_per_hour",
    Objective.ENERGY: "energy_j",
    Objective.DEVICES: "devices",
    Objective.QUERY_COST: "query_cost",
}
"""The limit that bounds each objective; PERIOD, and LATENCY on one device, by the rate."""
WHOLE = (Objective.MEMORY, Objective.DEVICES)


def can_bound(problem: Problem, objective: Objective) -> bool:
    """Whether some limit bounds it. A pipeline's latency has none: the SLO bounds upper ends."""
    if problem.assignment is not None:
        return False
    if objective is Objective.LATENCY:
        return not problem.places
    return objective is not Objective.DEVICES or bool(problem.places)


def bounded(problem: Problem, objective: Objective, value: float) -> Problem:
    """The problem with one objective at most a value, its own limit kept."""
    limits = problem.limits
    if objective in LIMITS:
        name = LIMITS[objective]
        known = getattr(limits, name)
        return with_limit(problem, name, value if known is None else min(value, known))
    rate = max(1e6 / max(value, 1e-9), limits.throughput_per_s or 0.0)
    return with_limit(problem, "throughput_per_s", rate)


def below(objective: Objective, value: float) -> float:
    """The largest value that counts as smaller."""
    return value - 1 if objective in WHOLE else value * (1 - RESOLUTION)
