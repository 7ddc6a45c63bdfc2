"""Sizes that steps of the search share: of devices, and of the objective."""

from __future__ import annotations

import math

from planner.ir.problem import Objective, Problem
from planner.solve.scale.labels import Labelled


def capacity_bytes(problem: Problem, row: int, k: int) -> float:
    """Of each device of a place, less what is fixed."""
    devices = {device.name: device for device in problem.devices}
    limits = (devices[problem.places[k].device].memory_size_bytes, problem.limits.memory_size_bytes)
    known = [float(limit) for limit in limits if limit is not None]
    fixed = problem.activation_size_bytes + problem.settings[row].size_bytes
    return min(known, default=math.inf) - fixed


def unit_of(labelled: Labelled, objective: Objective) -> float:
    """Size of the objective: the average label, summed over operators."""
    values = {
        Objective.ERROR: [float(kind.error.mean()) for kind in labelled.kinds],
        Objective.ENERGY: [float(kind.energy_j.mean()) for kind in labelled.kinds],
        Objective.MEMORY: [float(kind.held_bytes.mean()) for kind in labelled.kinds],
        Objective.COST: [1.0],
        Objective.DEVICES: [1.0],
    }
    means = values.get(objective, [float(kind.time_us.mean()) for kind in labelled.kinds])
    return max(sum(means) / len(means) * labelled.ops, 1e-9)
