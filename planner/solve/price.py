"""Prices a choice from the Problem alone: plain sums, and a simulation of streaming weights.

Shares no code with any formulation; `docs/method.md` defines every term.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from planner.ir.devices import Hold, Store
from planner.ir.problem import Latency, Option, Problem
from planner.ir.solution import Totals
from planner.solve.running import Chosen, Running

NOTHING = Latency(math.nan, math.nan, math.nan)
"""What does not exist has no price."""
ENDS = ("low_us", "expected_us", "high_us")


def fetch_us(store: Store, option: Option, degree: int) -> float:
    """Time to stream an option's weights into one device of a stage (C7)."""
    sharers = degree if store.is_shared else 1
    return store.latency_us + option.weight_size_bytes * sharers / store.bytes_per_us


def transfer_us(problem: Problem, source: Running, target: Running, size_bytes: float) -> float:
    """Time of the link between two stages (C6); NaN where there is none."""
    if source.device is None or target.device is None:
        return math.nan
    for link in problem.links:
        if (link.source, link.target) == (source.device.name, target.device.name):
            return link.time_us(size_bytes)
    return math.nan


def positions(problem: Problem, options: Sequence[Option]) -> list[int]:
    """Where each option runs: the position of its first operator."""
    where = {name: number for number, name in enumerate(problem.ops)}
    return [min(where[op] for op in option.ops) for option in options]


def streamed_us(
    times: Sequence[float], places: Sequence[int], fetches: Sequence[tuple[Store, float] | None]
) -> float:
    """Finish F_n of a stage's options with their weights streaming in (C7, `docs/method.md`).

    Args:
        times: of each option, in order.
        places: position of each option.
        fetches: store and fetch time of each option; None where the weights are resident.
    """
    finished = 0.0
    finish_of: list[float] = []
    streams: dict[str, float] = {}
    first: dict[str, int] = {}
    for number, (time, fetch) in enumerate(zip(times, fetches, strict=True)):
        if fetch is not None:
            store, needs = fetch
            free = first.get(store.name, 0)
            while free < number and places[free] < places[number] - store.ahead:
                free += 1
            first[store.name] = free
            opened = finish_of[free - 1] if free else 0.0
            streams[store.name] = max(streams.get(store.name, 0.0), opened) + needs
            finished = max(finished, streams[store.name])
        finished += time
        finish_of.append(finished)
    return finished


def _options_us(stage: Running, row: int, shape: int, end: str) -> float:
    times = [getattr(option.latency[row][shape] or NOTHING, end) for option in stage.options]
    if not stage.stored:
        return math.fsum(times)
    fetches = [
        (store, fetch_us(store, option, stage.degree))
        if (store := stage.stored.get(option.name))
        else None
        for option in stage.options
    ]
    return streamed_us(times, stage.positions, fetches)


def _pairs_us(problem: Problem, chosen: Chosen) -> list[float]:
    """Pair costs of each stage: they count where `second` runs."""
    found = [0.0] * len(chosen.stages)
    if not problem.pairs:
        return found
    covering: dict[str, list[str]] = {name: [] for name in problem.ops}
    for option in problem.options:
        for op in option.ops:
            covering[op].append(option.name)
    at: dict[str, tuple[int, int]] = {}
    ranks = {op: {name: rank for rank, name in enumerate(covering[op])} for op in covering}
    for number, stage in enumerate(chosen.stages):
        for option in stage.options:
            for op in option.ops:
                at[op] = (ranks[op][option.name], number)
    for pair in problem.pairs:
        (i, _), (j, number) = at[pair.first], at[pair.second]
        found[number] += pair.latency_us[i * len(covering[pair.second]) + j]
    return found


def _stage_us(
    problem: Problem, chosen: Chosen, stage: Running, pairs_us: float, shape: int, end: str
) -> float:
    conversions = (conversion.latency[chosen.row][shape] for conversion in stage.conversions)
    return math.fsum(
        (
            _options_us(stage, chosen.row, shape, end),
            *(getattr(cell or NOTHING, end) for cell in conversions),
            *(
                transfer_us(problem, chosen.stages[source], stage, transfer.size_bytes[shape])
                for transfer, source in stage.transfers
            ),
            pairs_us,
        )
    )


def peak_size_bytes(holds: Iterable[Hold]) -> int:
    """Largest sum of what is held at one time."""
    change: dict[int, int] = {}
    for hold in holds:
        if hold.start < hold.end:
            change[hold.start] = change.get(hold.start, 0) + hold.size_bytes
            change[hold.end] = change.get(hold.end, 0) - hold.size_bytes
    peak = now = 0
    for time in sorted(change):
        now += change[time]
        peak = max(peak, now)
    return peak


def slots_size_bytes(stage: Running) -> dict[str, int]:
    """Bytes in flight at most on one device of a stage, by store (C7)."""
    windows: dict[str, list[Hold]] = {}
    for option, place in zip(stage.options, stage.positions, strict=True):
        store = stage.stored.get(option.name)
        if store is not None:
            hold = Hold(place - store.ahead, place + 1, option.weight_size_bytes)
            windows.setdefault(store.name, []).append(hold)
    return {name: peak_size_bytes(holds) for name, holds in windows.items()}


def memory_size_bytes(problem: Problem, chosen: Chosen, stage: Running) -> int:
    """What one device of a stage holds (C4)."""
    resident = (o.weight_size_bytes for o in stage.options if o.name not in stage.stored)
    holds = [hold for option in stage.options for hold in option.holds]
    holds += [hold for transfer, _ in stage.transfers for hold in transfer.holds]
    return (
        problem.activation_size_bytes
        + chosen.setting.size_bytes
        + sum(resident)
        + sum(option.cache_size_bytes for option in stage.options)
        + max((option.workspace_size_bytes for option in stage.options), default=0)
        + peak_size_bytes(holds)
        + sum(slots_size_bytes(stage).values())
    )


def used_stores(chosen: Chosen) -> dict[str, Store]:
    """Stores that hold any weight."""
    return {store.name: store for stage in chosen.stages for store in stage.stored.values()}


def _shared_us(chosen: Chosen, runs: float) -> Iterator[float]:
    """What the fetches of all stages need of each shared link, per inference (C9)."""
    for store in used_stores(chosen).values():
        if store.is_shared:
            yield runs * math.fsum(
                fetch_us(store, option, stage.degree)
                for stage in chosen.stages
                for option in stage.options
                if stage.stored.get(option.name) == store
            )


def price_chosen(problem: Problem, chosen: Chosen) -> Totals:
    """Everything a choice costs; NaN latencies where something does not exist."""
    shapes = range(len(problem.shape_weights))
    pairs_us = _pairs_us(problem, chosen)

    @cache
    def stage_us(number: int, shape: int, end: str) -> float:
        stage = chosen.stages[number]
        return _stage_us(problem, chosen, stage, pairs_us[number], shape, end)

    count = range(len(chosen.stages))
    latency = [
        tuple(
            math.fsum(
                (
                    getattr(chosen.setting.overhead[shape], end),
                    *(stage_us(number, shape, end) for number in count),
                )
            )
            for shape in shapes
        )
        for end in ENDS
    ]
    weights = problem.shape_weights
    alone = [chosen.setting.overhead[s].expected_us if len(count) == 1 else 0.0 for s in shapes]
    stages = tuple(
        math.fsum(weights[s] * (stage_us(number, s, ENDS[1]) + alone[s]) for s in shapes)
        for number in count
    )
    memory = tuple(memory_size_bytes(problem, chosen, stage) for stage in chosen.stages)
    stores = used_stores(chosen).values()
    has_places = bool(problem.places)
    return Totals(
        latency_low_us=latency[0],
        latency_expected_us=latency[1],
        latency_high_us=latency[2],
        weighted_latency_us=math.fsum(q * us for q, us in zip(weights, latency[1], strict=True)),
        memory_size_bytes=max(memory, default=0),
        error=math.fsum(option.error for option in chosen.options),
        energy_j=math.fsum(_energies(chosen)),
        price_per_hour=math.fsum(_prices(chosen)),
        devices=_devices(chosen, stores) if has_places else 0,
        period_us=max((*stages, *_shared_us(chosen, math.fsum(weights))), default=0.0),
        stage_us=stages if has_places else (),
        stage_memory_size_bytes=memory if has_places else (),
    )


def _devices(chosen: Chosen, stores: Iterable[Store]) -> int:
    extra = sum(store.extra_devices for store in stores)
    return extra + sum(stage.degree for stage in chosen.stages)


def _energies(chosen: Chosen) -> Iterator[float]:
    for stage in chosen.stages:
        yield from (option.energy_j for option in stage.options)
        yield from (conversion.energy_j for conversion in stage.conversions)
        yield from (transfer.energy_j for transfer, _ in stage.transfers)


def _prices(chosen: Chosen) -> Iterator[float]:
    yield chosen.setting.price_per_hour
    yield from (store.price_per_hour for store in used_stores(chosen).values())
    for stage in chosen.stages:
        if stage.device is not None:
            yield stage.degree * stage.device.price_per_hour
