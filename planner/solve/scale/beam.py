"""Which weights stream, where streams cost time: many choices side by side, weight after weight.

`residency` decides greedily, each weight for itself. Here the states of a beam are choices for all
weights so far: when each store's link is free, by how much the stage is late, what is in flight.
Every weight extends each state by staying and by each store with room in flight; the states that
stream most for the least delay go on (beam search; Ow and Morton, "Filtered Beam Search in
Scheduling", International Journal of Production Research 26, 1988). A delay counts as the bytes
that its slowest link could have brought meanwhile, at prices around and below that; a byte in
flight as a part of one, because slots hold it. The recursions are those of C7
(`price.streamed_us`), for all states at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from time import monotonic

import numpy as np

from planner.solve.data import FloatArray, IntArray
from planner.solve.scale.lines import Line, Way, around, line_of, ways
from planner.solve.scale.residency import Running, Streams

NARROW, WIDE = 20, 60
"""States that go on: to compare ways, and in the best of these."""
CLOSE = 0.93
"""Share of the bytes asked for that a way must free with few states to be tried with more."""
FINER = (0.97, 1.0, 1.03, 1.06)
"""Caps around those of the best ways;"""
PRICES = (1.0, 1.1)
"""prices of a byte there, relative to its time on the slowest link."""
COMPARING = 0.6
"""Share of the time for that."""
BEST = 2
"""Ways that are walked once more, with more states."""


@dataclass(frozen=True, slots=True)
class _States:
    """A beam: one row a state."""

    free_us: FloatArray
    """(states, stores, shapes): when the link is free."""
    late_us: FloatArray
    """(states, weights + 1, shapes): delay before each weight."""
    streamed: FloatArray
    """(states, stores, weights + 1): bytes before each weight."""


def search(
    running: Running, needed_bytes: float, room_bytes: dict[int, float], deadline: float
) -> Streams | None:
    """The streams of least delay that were found in time to free enough; None where none were.

    Args:
        room_bytes: what stores still hold, by number; unlimited where absent.
    """
    if needed_bytes <= 0:
        return Streams([-1] * len(running.options))
    line = line_of(running, room_bytes)
    if line is None:
        return None
    found: list[tuple[Streams, Way]] = []
    now = monotonic()
    until = now + COMPARING * (deadline - now)
    for way in ways(line, needed_bytes):
        _try(line, CLOSE * needed_bytes, way, NARROW, until, found)
    found.sort(key=lambda pair: _worth(pair[0], pair[1], needed_bytes))
    for _, way in found[:BEST]:
        for finer, price in product(FINER, PRICES):
            caps = tuple(finer * cap for cap in way.caps)
            wide = replace(way, caps=caps, price=price * way.price)
            _try(line, needed_bytes, wide, WIDE, deadline, found)
    enough = (each for each, _ in found if each.freed_bytes >= needed_bytes)
    return min(enough, key=lambda each: each.delay_us, default=None)


def _worth(streams: Streams, way: Way, needed: float) -> float:
    """Delay, with what is missing at its price."""
    return streams.delay_us + max(needed - streams.freed_bytes, 0.0) * way.price


def roomiest(
    running: Running,
    slots_bytes: dict[int, float],
    most_us: float,
    room_bytes: dict[int, float],
    deadline: float,
) -> Streams | None:
    """The streams that free most and delay at most so much, of those found in time; None where
    none were.

    Args:
        slots_bytes: in flight at most of each store, as it is; around that is looked.
    """
    line = line_of(running, room_bytes)
    best: Streams | None = None
    for way in around(line, slots_bytes) if line is not None else ():
        if monotonic() >= deadline:
            break
        assert line is not None
        ends = _walk(line, way, WIDE)
        freed = np.where(ends.delay_us <= most_us, ends.freed_bytes, -np.inf)
        number = int(freed.argmax())
        if freed[number] > (best.freed_bytes if best is not None else 0.0):
            best = _ending(line, ends, number)
    return best


def _try(
    line: Line,
    needed: float,
    way: Way,
    width: int,
    deadline: float,
    found: list[tuple[Streams, Way]],
) -> None:
    """Adds the streams of least delay that free enough on one way, while there is time."""
    if monotonic() >= deadline:
        return
    ends = _walk(line, way, width)
    delay_us = np.where(ends.freed_bytes >= needed, ends.delay_us, np.inf)
    number = int(delay_us.argmin())
    if delay_us[number] < np.inf:
        found.append((_ending(line, ends, number), way))


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where a walk ended."""

    states: _States
    steps: list[tuple[IntArray, IntArray]]
    freed_bytes: FloatArray
    delay_us: FloatArray


def _walk(line: Line, way: Way, width: int) -> _Ends:
    """The last states."""
    stores, shapes = len(line.running.stores), len(line.running.times_us)
    count = len(line.weights)
    states = _States(
        np.zeros((1, stores, shapes)),
        np.zeros((1, count + 1, shapes)),
        np.zeros((1, stores, count + 1)),
    )
    steps: list[tuple[IntArray, IntArray]] = []
    for a in range(count):
        states, source, store = _step(line, states, a, way, width)
        steps.append((source, store))
    flying = np.take_along_axis(states.streamed, line.flying[None], axis=2)
    slots = (states.streamed[:, :, 1:] - flying).max(axis=2).sum(axis=1)
    freed = states.streamed[:, :, -1].sum(axis=1) - slots
    return _Ends(states, steps, freed, states.late_us[:, -1] @ np.asarray(line.running.weights))


def _ending(line: Line, ends: _Ends, number: int) -> Streams:
    """The streams of one of the last states."""
    used = ends.states.streamed[number, :, -1] * line.running.degree
    return Streams(
        _traced(line, ends.steps, number),
        int(ends.freed_bytes[number]),
        {r: int(u) for (r, _), u in zip(line.running.stores, used.tolist(), strict=True) if u},
        float(ends.delay_us[number]),
    )


def _traced(line: Line, steps: Sequence[tuple[IntArray, IntArray]], last: int) -> list[int]:
    """The store of each option in one of the last states."""
    found, state = [-1] * len(line.running.options), last
    for n, (source, store) in zip(reversed(line.weights), reversed(steps), strict=True):
        r = int(store[state])
        found[n] = line.running.stores[r][0] if r >= 0 else -1
        state = int(source[state])
    return found


def _step(
    line: Line, states: _States, a: int, way: Way, width: int
) -> tuple[_States, IntArray, IntArray]:
    """One weight more: the best states, from which they come, and its store in each."""
    count = len(states.free_us)
    taken = [(np.arange(count), -1, states.free_us, states.late_us[:, a])]
    for r in range(len(line.running.stores)):
        kept = _may(line, states, a, r, way)
        if len(kept):
            taken.append((kept, r, *_fetched(line, states, a, r, kept)))
    source = np.concatenate([kept for kept, *_ in taken])
    store = np.concatenate([np.full(len(kept), r) for kept, r, *_ in taken])
    free = np.concatenate([each for _, _, each, _ in taken])
    late = np.concatenate([each for *_, each in taken])
    streamed = states.streamed[source, :, a]
    size = line.running.options[line.weights[a]].weight_size_bytes
    streams = np.flatnonzero(store >= 0)
    streamed[streams, store[streams]] += size
    score = streamed.sum(axis=1) - late @ np.asarray(line.running.weights) / way.price
    if way.flying:
        score -= way.flying * _flying(line, states, a, source, streamed)
    best = np.arange(len(score))
    if len(score) > width:
        best = np.sort(np.argpartition(-score, width)[:width])
    late_us, bytes_so_far = states.late_us[source[best]], states.streamed[source[best]]
    late_us[:, a + 1], bytes_so_far[:, :, a + 1] = late[best], streamed[best]
    return _States(free[best], late_us, bytes_so_far), source[best], store[best]


def _flying(
    line: Line, states: _States, a: int, source: IntArray, streamed: FloatArray
) -> FloatArray:
    """Bytes in flight of all stores before the weight after this one, by state."""
    landed = line.flying[:, min(a + 1, len(line.weights) - 1)]
    before = np.empty_like(streamed)
    for r, n in enumerate(landed.tolist()):
        before[:, r] = streamed[:, r] if n > a else states.streamed[source, r, n]
    return np.asarray((streamed - before).sum(axis=1))


def _may(line: Line, states: _States, a: int, r: int, way: Way) -> IntArray:
    """States in which a weight may stream from a store."""
    option, store = line.running.options[line.weights[a]], line.running.stores[r][1]
    size = option.weight_size_bytes
    is_barred = option.stores is not None and store.name not in option.stores
    if is_barred or (store.slot_size_bytes is not None and size > store.slot_size_bytes):
        return np.zeros(0, dtype=np.int64)
    before = states.streamed[:, r, a]
    flying = before - states.streamed[:, r, line.flying[r, a]]
    fits = (flying + size <= way.caps[r]) & (before + size <= line.room[r])
    if store.slot_size_bytes is not None:
        fits &= flying + size <= store.slot_size_bytes
    return np.flatnonzero(fits)


def _fetched(
    line: Line, states: _States, a: int, r: int, kept: IntArray
) -> tuple[FloatArray, FloatArray]:
    """When links are free and how late the stage is, once a weight has come from a store."""
    opening = line.base[:, line.opened[r, a]] + states.late_us[kept, line.late[r, a]]
    arrived = np.maximum(states.free_us[kept, r], opening) + line.fetch[r, a]
    free = states.free_us[kept]
    free[:, r] = arrived
    late = np.maximum(states.late_us[kept, a], arrived - line.base[:, line.weights[a]])
    return free, late
