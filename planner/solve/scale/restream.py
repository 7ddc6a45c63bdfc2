"""The weights of a plan stream anew, with its options as they are, where streams delay it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from planner.ir.problem import Problem
from planner.ir.solution import Solution, Stage
from planner.solve.check import TOLERANCE
from planner.solve.price import fetch_us, memory_size_bytes, slots_size_bytes, streamed_us
from planner.solve.running import Chosen, look_up
from planner.solve.running import Running as Standing
from planner.solve.scale.beam import roomiest, search
from planner.solve.scale.residency import Running, Streams
from planner.solve.scale.sizes import capacity_bytes
from planner.solve.stages.exact import Exact

Change = Callable[[Chosen, Standing, Running, dict[int, float]], Streams | None]
"""Other streams of a stage, whose stores still have so much room; None: as they are."""


def restream(state: Exact, row: int, number: int, bound: float, until: float) -> None:
    """Offers the incumbent with better streams, if some are found in time."""
    problem = state.problem

    def least_late(
        chosen: Chosen, standing: Standing, line: Running, room: dict[int, float]
    ) -> Streams | None:
        if _delay_us(line, standing) <= 0.0:
            return None
        return search(line, _needs(problem, chosen, standing, row), room, until)

    anew = _changed(state, row, least_late)
    if anew is not None:
        state.offer(anew, "streams anew", bound, number)


def make_room(state: Exact, row: int, until: float) -> None:
    """The incumbent with streams that free more memory at no further delay, if some are found in
    time: what follows may use it for faster options."""

    def free_most(
        _: Chosen, standing: Standing, line: Running, room: dict[int, float]
    ) -> Streams | None:
        slots = slots_size_bytes(standing)
        by_name = {store.name: r for r, store in line.stores}
        flying = {by_name[name]: float(size) for name, size in slots.items()}
        streamed = sum(o.weight_size_bytes for o in line.options if o.name in standing.stored)
        found = roomiest(line, flying, _delay_us(line, standing), room, until)
        is_more = found is not None and found.freed_bytes > streamed - sum(slots.values())
        return found if is_more else None

    anew = _changed(state, row, free_most)
    if anew is not None:
        state.exchange(anew)


def _changed(state: Exact, row: int, change: Change) -> Solution | None:
    """The incumbent with other streams; None where nothing streams or nothing changes."""
    problem, plan = state.problem, state.best
    assert plan is not None
    chosen = look_up(problem, plan, state.names)
    if not isinstance(chosen, Chosen) or not any(stage.stored for stage in plan.stages):
        return None
    room = {
        r: float(store.memory_size_bytes)
        for r, store in enumerate(problem.stores)
        if store.memory_size_bytes is not None
    }
    stages: list[Stage] = []
    for old, standing in zip(plan.stages, chosen.stages, strict=True):
        line = _line(problem, standing, row) if old.stored else None
        streams = None if line is None else change(chosen, standing, line, room)
        stages.append(_stored(problem, old, standing, streams))
        kept = dict(stages[-1].stored)
        for option in standing.options:
            r = _number(problem, kept.get(option.name))
            if r in room:
                room[r] -= option.weight_size_bytes * standing.degree
    anew = replace(plan.choice, stages=tuple(stages))
    return None if anew.stages == plan.stages else anew


def _number(problem: Problem, name: str | None) -> int:
    return next((r for r, store in enumerate(problem.stores) if store.name == name), -1)


def _needs(problem: Problem, chosen: Chosen, standing: Standing, row: int) -> float:
    """Bytes that streams have to free on one stage."""
    assert standing.place is not None
    k = problem.places.index(standing.place)
    fixed = problem.activation_size_bytes + chosen.setting.size_bytes
    resident = memory_size_bytes(problem, chosen, replace(standing, stored={}))
    return resident - fixed - capacity_bytes(problem, row, k)


def _delay_us(line: Running, standing: Standing) -> float:
    """By which streams delay a stage, over shapes; 0 where rounding explains it."""
    stored = (standing.stored.get(option.name) for option in line.options)
    pairs = zip(line.options, stored, strict=True)
    fetches = [(s, fetch_us(s, option, line.degree)) if s else None for option, s in pairs]
    total = 0.0
    for weight, times in zip(line.weights, line.times_us, strict=True):
        plain = math.fsum(times)
        late = streamed_us(times, line.positions, fetches) - plain
        total += weight * late if late > TOLERANCE * plain else 0.0
    return total


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
