"""From the columns of a pipeline's model back to names."""

from __future__ import annotations

from collections.abc import Sequence

from planner.ir.problem import Conversion, Problem, State, Transfer
from planner.ir.solution import Solution, Stage, Status
from planner.solve.stages.model import HIGH, StageModel


def decode(m: StageModel, values: Sequence[float]) -> Solution:
    """The plan behind one point, without certificate; what nobody uses is left out."""
    problem = m.problem
    stages = [_stage(m, values, p) for p in m.stages]
    kept = useful(problem, [stage for stage in stages if stage is not None])
    chosen = tuple(name for stage in kept for name in stage.chosen)
    conversions = tuple(dict.fromkeys(name for stage in kept for name in stage.conversions))
    return Solution(
        Status.FEASIBLE,
        chosen,
        conversions,
        problem.settings[m.row].name,
        stages=tuple(kept),
        is_uncertain=m.end != HIGH,
    )


def _stage(m: StageModel, values: Sequence[float], p: int) -> Stage | None:
    problem = m.problem
    places = [k for k in m.places_at(p) if values[m.y[k, p]] > 0.5]
    if not places:
        return None
    where = m.positions()
    options = [g for (g, q), column in m.x.items() if q == p and values[column] > 0.5]
    options.sort(key=lambda g: (where[g], g))
    return Stage(
        problem.places[places[0]].name,
        tuple(problem.options[g].name for g in options),
        tuple(
            problem.conversions[v].name
            for (v, q), column in m.c.items()
            if q == p and values[column] > 0.5
        ),
        tuple(
            (problem.transfers[key[0]].name, key[1])
            for key, column in m.f.items()
            if key[2] == p and values[column] > 0.5
        ),
        tuple(
            (problem.options[g].name, problem.stores[r].name)
            for (g, q, _, r), column in m.u.items()
            if q == p and values[column] > 0.5
        ),
    )


def useful(problem: Problem, stages: Sequence[Stage]) -> list[Stage]:
    """The stages without conversions and transfers that nobody needs, last stage first."""
    changes = {change.name: change for change in problem.conversions}
    moves = {move.name: move for move in problem.transfers}
    options = {option.name: option for option in problem.options}
    wanted = set(problem.wanted)
    asked: list[set[State]] = [set(wanted) for _ in stages]
    kept: list[Stage] = []
    for p in reversed(range(len(stages))):
        stage = stages[p]
        made = {state for name in stage.chosen for state in options[name].makes}
        made.update(problem.given)
        needed = {s for name in stage.chosen for s in options[name].needs} | asked[p]
        conversions = _needed([changes[name] for name in stage.conversions], needed, made)
        needed |= {change.source for change in conversions}
        made |= {change.target for change in conversions}
        transfers = []
        for name, source in stage.transfers:
            move: Transfer = moves[name]
            if move.target in needed and move.target not in made:
                transfers.append((name, source))
                made.add(move.target)
                asked[source].add(move.source)
        kept.append(
            Stage(
                stage.place,
                stage.chosen,
                tuple(change.name for change in conversions),
                tuple(transfers),
                stage.stored,
            )
        )
    return kept[::-1]


def _needed(
    changes: Sequence[Conversion], needed: set[State], made: set[State]
) -> list[Conversion]:
    """Conversions on whose targets somebody waits, each target once."""
    found: list[Conversion] = []
    wanted = {state for state in needed if state not in made}
    progress = True
    while progress:
        progress = False
        for change in changes:
            there = {other.target for other in found}
            if change not in found and change.target in wanted and change.target not in there:
                found.append(change)
                if change.source not in made:
                    wanted.add(change.source)
                progress = True
    return found
