"""The weights of a plan stream anew, with its options as they are, where streams delay it."""

from __future__ import annotations

import math
from dataclasses import replace

from planner.ir.problem import Problem
from planner.ir.solution import Stage
from planner.solve.check import TOLERANCE
from planner.solve.price import fetch_us, memory_size_bytes, streamed_us
from planner.solve.running import Chosen, look_up
from planner.solve.running import Running as Standing
from planner.solve.scale.beam import search
from planner.solve.scale.residency import Running, Streams
from planner.solve.scale.sizes import capacity_bytes
from planner.solve.stages.exact import Exact


def restream(state: Exact, row: int, number: int, bound: float, until: float) -> None:
    """Offers the incumbent with better streams, if some are found in time."""
    problem, plan = state.problem, state.best
    assert plan is not None
    chosen = look_up(problem, plan, state.names)
    if not isinstance(chosen, Chosen) or not any(stage.stored for stage in plan.stages):
        return
    room = {
        r: float(store.memory_size_bytes)
        for r, store in enumerate(problem.stores)
        if store.memory_size_bytes is not None
    }
    stages: list[Stage] = []
    for old, standing in zip(plan.stages, chosen.stages, strict=True):
        stage = old
        line = _line(problem, standing, row) if stage.stored else None
        if line is not None and _is_late(line, standing):
            needs = _needs(problem, chosen, standing, row)
            stage = _stored(problem, stage, standing, search(line, needs, room, until))
        stages.append(stage)
        kept = dict(stages[-1].stored)
        for option in standing.options:
            r = _number(problem, kept.get(option.name))
            if r in room:
                room[r] -= option.weight_size_bytes * standing.degree
    anew = replace(plan.choice, stages=tuple(stages))
    state.offer(anew, "streams anew", bound, number)


def _number(problem: Problem, name: str | None) -> int:
    return next((r for r, store in enumerate(problem.stores) if store.name == name), -1)


def _needs(problem: Problem, chosen: Chosen, standing: Standing, row: int) -> float:
    """Bytes that streams have to free on one stage."""
    assert standing.place is not None
    k = problem.places.index(standing.place)
    fixed = problem.activation_size_bytes + chosen.setting.size_bytes
    resident = memory_size_bytes(problem, chosen, replace(standing, stored={}))
    return resident - fixed - capacity_bytes(problem, row, k)


def _is_late(line: Running, standing: Standing) -> bool:
    """Whether streams delay a stage."""
    stored = (standing.stored.get(option.name) for option in line.options)
    pairs = zip(line.options, stored, strict=True)
    fetches = [(s, fetch_us(s, option, line.degree)) if s else None for option, s in pairs]
    return any(
        streamed_us(times, line.positions, fetches) > math.fsum(times) * (1 + TOLERANCE)
        for times in line.times_us
    )


def _line(problem: Problem, standing: Standing, row: int) -> Running:
    """One stage as its streams see it."""
    assert standing.device is not None
    cells = [option.latency[row] for option in standing.options]
    shapes = range(len(problem.shape_weights))
    times = [[cell.expected_us if (cell := each[w]) else 0.0 for each in cells] for w in shapes]
    stores = [
        (r, store)
        for r, store in enumerate(problem.stores)
        if not store.devices or standing.device.name in store.devices
    ]
    return Running(
        standing.options, standing.positions, times, stores, standing.degree, problem.shape_weights
    )


def _stored(problem: Problem, stage: Stage, standing: Standing, streams: Streams | None) -> Stage:
    if streams is None:
        return stage
    names = [option.name for option in standing.options]
    pairs = zip(names, streams.store, strict=True)
    return replace(
        stage, stored=tuple((name, problem.stores[r].name) for name, r in pairs if r >= 0)
    )
