"""What may be chosen: groups, formats, strategies; put together to one Problem."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from planner.errors import ModelError, UsageError
from planner.graph.skeleton import Skeleton
from planner.ir.graph import Graph
from planner.ir.problem import Limits, Objective, Problem
from planner.place.again import find as find_again
from planner.place.axes import find_axes
from planner.place.energy import Power
from planner.place.formats import Offer, offer
from planner.place.groups import Group, find_weighted, group
from planner.place.late import LEAST_SHARE
from planner.place.machine import places, swaps
from planner.place.memory import Caches, inputs_bytes
from planner.place.options import Offers
from planner.place.price import Pricer
from planner.place.problem import Demand, pose
from planner.place.tied import Tied
from planner.place.variant import Variant
from planner.spec.constraints import Constraints
from planner.steps.away.target import Away

RESIDUAL_GAIN = 2.0
"""NMSE at the outputs of a residual network, when every product errs by 1: two products in a row
in each branch, and branches average out (a prior, to be replaced by calibration)."""
_HALVES = ("fp16", "bf16")
_RESIDUAL_SHARE = 0.125
"""Additions of two activations per weighted operator from which on a network counts as residual."""
_OBJECTIVES: Mapping[str, Objective] = {
    "cost": Objective.LATENCY,
    "latency": Objective.LATENCY,
    "memory": Objective.MEMORY,
    "energy": Objective.ENERGY,
    "error": Objective.ERROR,
}
"""What is minimised at a number of devices; `cost` also minimises that number."""


@dataclass(frozen=True)
class Posed:
    """The Problem and what its names stand for."""

    offers: Offers
    problem: Problem
    variants: Mapping[str, Variant]
    """By the name of their option."""
    fixed_bytes: int
    """What every device holds whatever is chosen."""
    error_basis: str

    @property
    def skeleton(self) -> Skeleton:
        """The model; late ones of what may be made again are operators of it."""
        return self.offers.skeleton

    @property
    def groups(self) -> Sequence[Group]:
        """In order; `Variant.group` counts in them."""
        return self.offers.groups

    @property
    def offer(self) -> Offer:
        """Formats."""
        return self.offers.offer


def pose_away(constraints: Constraints, skeleton: Skeleton, away: Away) -> Posed:
    """Everything that may be chosen on a target, as one Problem.

    Raises:
        UsageError: a pin that no offered format meets.
        ModelError: there is nothing to place.
    """
    demand = _demand(constraints, away)
    offers, basis = _offers(constraints, skeleton, away, demand)
    variants = offers.variants()
    predictor, graphs = away.predictor, tuple(offers.skeleton.graphs.values())
    context_bytes = int(predictor.runtime_context_bytes + predictor.workspace_bytes)
    fixed_bytes = context_bytes + inputs_bytes(graphs, offers.caches)
    problem = pose(offers, variants, predictor, away.machine, demand, fixed_bytes)
    by_name = {variant.option.name: variant for variant in variants}
    return Posed(offers, problem, by_name, fixed_bytes, basis)


def _offers(
    constraints: Constraints, skeleton: Skeleton, away: Away, demand: Demand
) -> tuple[Offers, str]:
    """What makes the options, and what errors are reckoned from."""
    machine = away.machine
    axes, groups = find_axes(skeleton), group(skeleton)
    if not groups:
        raise ModelError(
            "no operator is left to place on a device: it hands on inputs and constants",
            where=str(constraints.model),
            fix="plan for this machine: --target cpu",
        )
    share, basis = error_share(skeleton.graph, groups)
    most_error = (demand.limits.error or math.inf) / max(sum(share.values()), 1.0)
    offered = offer(away.predictor, constraints.compression.formats, most_error)
    caches = Caches.find(skeleton.graph, offered.base)
    least_bytes, is_half = LEAST_SHARE * machine.memory_size_bytes, offered.base in _HALVES
    again = find_again(skeleton, axes, groups, least_bytes, is_half)
    if again is not None:
        skeleton, axes, groups = again.skeleton, again.axes, again.groups
    lends = "peer" in machine.offload
    return Offers(
        skeleton,
        axes,
        groups,
        Pricer(away.predictor, offered.base),
        offered,
        places(machine),
        share,
        caches,
        pins(constraints, groups, offered),
        swaps(away.predictor, machine),
        _power(away, demand),
        None if lends else Tied.find(groups, skeleton.graph.tensors),
        again,
    ), basis


def _power(away: Away, demand: Demand) -> Power | None:
    """What a device draws; None where no source says."""
    power = away.device.power
    return None if power is None else Power(power.value, demand.weights)


def _demand(constraints: Constraints, away: Away) -> Demand:
    promise = constraints.promise
    objective = _OBJECTIVES[constraints.objective]
    if objective is Objective.ENERGY and away.device.power is None:
        objective = Objective.LATENCY
    return Demand(
        weights=tuple(entry.weight for entry in constraints.workload),
        limits=Limits(
            latency_us=promise.latency_us,
            error=promise.max_error,
            throughput_per_s=promise.throughput_per_s,
        ),
        objectives=tuple(dict.fromkeys((objective, Objective.ERROR))),
    )


def error_share(graph: Graph, groups: tuple[Group, ...]) -> tuple[dict[str, float], str]:
    """Group -> how much an error of its products counts at the outputs, and why.

    In residual networks each branch adds to a stream that holds all of them; in plain chains every
    product hands its error on in full.
    """
    weighted = find_weighted(graph)
    total = max(len(weighted), 1)
    if is_residual(graph, total):
        each, basis = RESIDUAL_GAIN / total, "residual network: branches average out"
    else:
        each, basis = 1.0, "chain without residuals: errors of all products add up"
    found = {one.name: each * len(one.weighted) for one in groups}
    return found, f"a priori, by structure and not by weights; {basis}"


def is_residual(graph: Graph, weighted: int) -> bool:
    """Whether activations of equal shape are added often."""
    found = 0
    for op in graph.ops:
        tensors = [graph.tensors[name] for name in op.inputs if name]
        if op.op_type != "Add" or len(tensors) != 2 or any(t.is_constant for t in tensors):
            continue
        found += tensors[0].shape == tensors[1].shape and "float" in tensors[0].dtype
    return found >= _RESIDUAL_SHARE * weighted


def pins(constraints: Constraints, groups: tuple[Group, ...], offered: Offer) -> dict[str, str]:
    """Group -> the format that a pin of one of its operators asks for.

    Raises:
        UsageError: the target lacks it.
    """
    found: dict[str, str] = {}
    for pattern, form in constraints.compression.pin.items():
        names = [g.name for g in groups if any(fnmatchcase(op.name, pattern) for op in g.ops)]
        if names and str(form) not in offered.formats:
            reason = offered.excluded.get(str(form), "it is not among the formats allowed")
            raise UsageError(
                f"{pattern!r} is pinned to {form}, which cannot be had: {reason}",
                where=f"compression.pin.{pattern}",
                fix=f"one of {', '.join(offered.formats)}",
            )
        found.update(dict.fromkeys(names, str(form)))
    return found


def whole_ops(posed: Posed) -> dict[str, int]:
    """Operators that no rule cuts, by type."""
    kinds = {op.name: op.kind for op in posed.skeleton.graph.ops}
    return dict(Counter(kinds[name] for name in posed.offers.axes.unknown).most_common())
