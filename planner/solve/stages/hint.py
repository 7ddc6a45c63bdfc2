"""A plan as a point of a pipeline's model to start from: the inverse of `answer.decode`."""

from __future__ import annotations

from planner.ir.solution import Solution, Stage
from planner.solve.stages.model import StageModel


def hint_of(m: StageModel, plan: Solution) -> dict[int, float]:
    """Values of the choices; amounts follow from them."""
    problem = m.problem
    empty = Stage("", ())
    stages = [*plan.stages, *(empty for _ in range(len(m.stages) - len(plan.stages)))]
    devices = {place.name: place.device for place in problem.places}
    chosen = [set(stage.chosen) for stage in stages]
    changed = [set(stage.conversions) for stage in stages]
    stored = [set(stage.stored) for stage in stages]
    moved = [set(stage.transfers) for stage in stages]
    found: dict[int, bool] = {}
    for (k, p), column in m.y.items():
        found[column] = problem.places[k].name == stages[p].place
    for (g, p), column in m.x.items():
        found[column] = problem.options[g].name in chosen[p]
    for (v, p), column in m.c.items():
        found[column] = problem.conversions[v].name in changed[p]
    for (t, q, p, a, b), column in m.f.items():
        ends = (devices.get(stages[q].place), devices.get(stages[p].place))
        found[column] = (problem.transfers[t].name, q) in moved[p] and ends == (a, b)
    for (g, p, k, r), column in m.u.items():
        pair = (problem.options[g].name, problem.stores[r].name)
        found[column] = pair in stored[p] and problem.places[k].name == stages[p].place
    return {column: float(value) for column, value in found.items()}
