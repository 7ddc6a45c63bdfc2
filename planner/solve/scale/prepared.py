"""Labels and forest of a large problem, kept while only its limits and objectives change.

Points of a frontier, conflicts and prices of limits solve one problem again and again with other
limits; its labels and edges, a third of the time of a short solve, stay the same objects.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from planner.ir.problem import Problem
from planner.solve.scale.edges import forest
from planner.solve.scale.forest import Forest
from planner.solve.scale.labels import Labelled, label
from planner.solve.stages.model import ENDS

KEPT = 4
"""Settings and ends of the last problem that are remembered."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What limits and objectives do not change."""

    labelled: Labelled
    graph: Forest
    parts: tuple[object, ...]
    """What it was made from; held, so that no other object takes its identity."""


_known: OrderedDict[tuple[object, ...], Prepared] = OrderedDict()


def _parts(problem: Problem) -> tuple[object, ...]:
    """Everything that labels and edges are made from."""
    return (
        problem.ops,
        problem.edges,
        problem.options,
        problem.settings,
        problem.shape_weights,
        problem.conversions,
        problem.given,
        problem.places,
        problem.devices,
        problem.links,
        problem.stores,
        problem.transfers,
    )


def prepared(problem: Problem, row: int, end: str, deadline: float = np.inf) -> Prepared:
    """Labels and forest under one setting, made or remembered; the problem is the one asked for.

    Which end of the intervals they count matters only where latency is limited (C8).

    Raises:
        OutOfTimeError: the deadline passed.
    """
    parts = _parts(problem)
    own = tuple(id(part) for part in parts)
    key = (row, end, *own)
    ends = (end,) if problem.limits.latency_us is not None else (end, *ENDS)
    found = next((_known[k] for e in ends if (k := (row, e, *own)) in _known), None)
    if found is None:
        labelled = label(problem, row, end, deadline=deadline)
        found = Prepared(labelled, forest(labelled, end, deadline=deadline), parts)
        for other in [known for known in _known if known[2:] != key[2:]]:
            del _known[other]  # of another problem: they may hold gigabytes
        _known[key] = found
        while len(_known) > KEPT:
            _known.popitem(last=False)
    return replace(found, labelled=replace(found.labelled, problem=problem))
