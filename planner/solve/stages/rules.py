"""All constraints of a pipeline, and what is minimised."""

from __future__ import annotations

from collections.abc import Callable

from planner.ir.problem import Objective
from planner.solve.stages.capacity import memory, workspace
from planner.solve.stages.limits import accuracy, counts, latency, query_cost, throughput
from planner.solve.stages.model import EXPECTED, QUERY, StageModel, Sum
from planner.solve.stages.states import (
    converted_states,
    needed_states,
    opposite_conversions,
    pair_marginals,
    transfers,
    wanted_states,
)
from planner.solve.stages.streaming import residency, slots, streams
from planner.solve.stages.structure import (
    at_place,
    cover,
    filled,
    forbidden_sets,
    one_place,
    order,
    tied_formats,
    waiting_groups,
)
from planner.solve.stages.sums import sum_of

Rule = Callable[[StageModel], None]


STAGE_RULES: tuple[tuple[str, Rule], ...] = (
    ("C1", cover),
    ("C2", one_place),
    ("C2", filled),
    ("C2", at_place),
    ("C3", order),
    ("C3", waiting_groups),
    ("C4", workspace),
    ("C4", memory),
    ("C5", needed_states),
    ("C5", converted_states),
    ("C5", opposite_conversions),
    ("C5", wanted_states),
    ("C5", pair_marginals),
    ("C6", transfers),
    ("C7", residency),
    ("C7", streams),
    ("C7", slots),
    ("C8", latency),
    ("C9", throughput),
    ("C10", accuracy),
    ("C11", counts),
    ("C11", query_cost),
    ("tied", tied_formats),
    ("cut", forbidden_sets),
)


def aim(m: StageModel, objective: Objective) -> Sum:
    """What is minimised."""
    sums: dict[Objective, Callable[[], Sum]] = {
        Objective.LATENCY: lambda: m.weighted(m.latency(w, EXPECTED) for w in m.shapes),
        Objective.MEMORY: lambda: sum_of([m.memory]),
        Objective.ERROR: m.error,
        Objective.COST: m.price,
        Objective.ENERGY: m.energy,
        Objective.DEVICES: m.devices,
        Objective.PERIOD: lambda: sum_of([m.period]),
        Objective.QUERY_COST: lambda: Sum({m.query: 1.0 / QUERY}),
    }
    return sums[objective]()
