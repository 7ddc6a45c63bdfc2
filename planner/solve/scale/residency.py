"""Which weights stream, once options are chosen: as many as memory asks for, hidden where possible.

Operators are walked in order. A weight may stream if its fetch, queued behind those before it and
not before its window opens, arrives at most `slack` after the operator could start. With slack 0
streaming costs nothing; the least slack of a geometric series that frees enough memory is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.ir.devices import Store
from planner.ir.problem import Option
from planner.solve.price import fetch_us

SLACKS = (0.0, *(0.25 * 2.0**n for n in range(24)))
"""Microseconds, or times longer, a fetch may come late."""


FLOORS = (0.0, 0.3, 0.6, 0.8)
"""Shares of the weights, by size, that are tried as too small to stream."""
MANY = 20_000
"""Options of a stage above which all weights are large enough."""


@dataclass(frozen=True, slots=True)
class Running:
    """The options of one stage, in order."""

    options: Sequence[Option]
    positions: Sequence[int]
    times_us: Sequence[Sequence[float]]
    """By shape."""
    stores: Sequence[tuple[int, Store]]
    """Those that reach the stage, with their numbers."""
    degree: int


@dataclass(slots=True)
class Streams:
    """What streams: the store of each option (-1: resident), and the bytes that this frees."""

    store: list[int]
    freed_bytes: int = 0
    """Weights that stream, less the slots they need."""
    used_bytes: dict[int, int] = field(default_factory=dict)
    """By store, over all ranks."""


def stream(running: Running, needed_bytes: float, room_bytes: dict[int, float]) -> Streams:
    """The cheapest streams found that free enough; all that can be freed where nothing does.

    Args:
        room_bytes: what stores still hold, by number; unlimited where absent.
    """
    found = Streams([-1] * len(running.options))
    if needed_bytes <= 0 or not running.stores:
        return found
    ways = _ways(running)
    tried = [_walk(running, needed_bytes, room_bytes, SLACKS[0], way) for way in ways]
    found, way = max(zip(tried, ways, strict=True), key=lambda pair: pair[0].freed_bytes)
    for slack in SLACKS[1:]:
        if found.freed_bytes >= needed_bytes:
            break
        found = _walk(running, needed_bytes, room_bytes, slack, way)
    return found


def hidden_bytes(running: Running, room_bytes: dict[int, float]) -> int:
    """What streaming frees at most without costing anything."""
    if not running.stores:
        return 0
    walks = (_walk(running, math.inf, room_bytes, 0.0, way) for way in _ways(running))
    return max(found.freed_bytes for found in walks)


@dataclass(frozen=True, slots=True)
class _Way:
    """How weights are taken while a stage is walked."""

    is_even: bool
    """Stores are filled evenly along the stage, which keeps slots small, not early."""
    least_bytes: float
    """Smaller weights stay: each fetch has its alpha, a busy link carries more of large ones."""


def _ways(running: Running) -> list[_Way]:
    sizes = sorted(o.weight_size_bytes for o in running.options if o.weight_size_bytes)
    shares = FLOORS if len(running.options) <= MANY else FLOORS[:1]
    floors = {sizes[int(share * (len(sizes) - 1))] if share else 0.0 for share in shares if sizes}
    return [_Way(even, least) for least in sorted(floors or {0.0}) for even in (True, False)]


def _walk(
    running: Running, needed: float, room: dict[int, float], slack: float, way: _Way
) -> Streams:
    shapes = range(len(running.times_us))
    found = Streams([-1] * len(running.options))
    finishes: list[list[float]] = [[] for _ in shapes]
    arrived = {r: [0.0] * len(shapes) for r, _ in running.stores}
    opened = {r: 0 for r, _ in running.stores}
    flying = {r: 0 for r, _ in running.stores}
    oldest = {r: 0 for r, _ in running.stores}
    slots = {r: 0 for r, _ in running.stores}
    streamed = 0
    for n, option in enumerate(running.options):
        now = [finishes[w][-1] if n else 0.0 for w in shapes]
        start = now
        for r, store in running.stores:
            while (
                opened[r] < n and running.positions[opened[r]] < running.positions[n] - store.ahead
            ):
                opened[r] += 1
            while oldest[r] < opened[r]:
                if found.store[oldest[r]] == r:
                    flying[r] -= running.options[oldest[r]].weight_size_bytes
                oldest[r] += 1
            pace = (n + 1) / len(running.options) if way.is_even else 1.0
            if option.weight_size_bytes < way.least_bytes or found.freed_bytes >= needed:
                continue
            if not _may(
                option, store, running, found.used_bytes.get(r, 0), pace * room.get(r, math.inf)
            ):
                continue
            fetch = fetch_us(store, option, running.degree)
            first = opened[r] - 1
            ends = [
                max(arrived[r][w], finishes[w][first] if first >= 0 else 0.0) + fetch
                for w in shapes
            ]
            if any(end > at + slack for end, at in zip(ends, now, strict=True)):
                continue
            arrived[r] = ends
            start = [max(a, b) for a, b in zip(now, ends, strict=True)]
            found.store[n] = r
            size = option.weight_size_bytes
            found.used_bytes[r] = found.used_bytes.get(r, 0) + size * running.degree
            flying[r] += size
            slots[r] = max(slots[r], flying[r])
            streamed += size
            found.freed_bytes = streamed - sum(slots.values())
            break
        for w in shapes:
            finishes[w].append(start[w] + running.times_us[w][n])
    return found


def _may(option: Option, store: Store, running: Running, used: int, room: float) -> bool:
    """Whether a weight may stream and the store has room for it, on all ranks."""
    size = option.weight_size_bytes
    if not size or (option.stores is not None and store.name not in option.stores):
        return False
    if store.slot_size_bytes is not None and size > store.slot_size_bytes:
        return False
    return used + size * running.degree <= room
