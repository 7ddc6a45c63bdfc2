"""Which weights stream, once options are chosen: as many as memory asks for, hidden where possible.

Operators are walked in order. A weight may stream if its fetch, queued behind those before it and
not before its window opens, arrives at most `slack` after the operator could start. With slack 0
streaming costs nothing; the least slack of a geometric series that frees enough memory is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.ir.devices import Store
from planner.ir.problem import Option
from planner.solve.price import fetch_us

SLACKS = (0.0, *(0.25 * 2.0**n for n in range(24)))
"""Microseconds, or times longer, a fetch may come late."""


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
    for slack in SLACKS:
        found = _walk(running, needed_bytes, room_bytes, slack)
        if found.freed_bytes >= needed_bytes:
            break
    return found


def hidden_bytes(running: Running, room_bytes: dict[int, float]) -> int:
    """What streaming frees at most without costing anything."""
    if not running.stores:
        return 0
    return _walk(running, float("inf"), room_bytes, 0.0).freed_bytes


def _walk(running: Running, needed: float, room: dict[int, float], slack: float) -> Streams:
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
            if found.freed_bytes >= needed or not _may(option, store, r, running, room, found):
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


def _may(
    option: Option,
    store: Store,
    r: int,
    running: Running,
    room: dict[int, float],
    found: Streams,
) -> bool:
    size = option.weight_size_bytes
    if not size or (option.stores is not None and store.name not in option.stores):
        return False
    if store.slot_size_bytes is not None and size > store.slot_size_bytes:
        return False
    after = found.used_bytes.get(r, 0) + size * running.degree
    return after <= room.get(r, float("inf"))
