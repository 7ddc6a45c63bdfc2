"""Which weights stream, once options are chosen: as many as memory asks for, hidden where possible.

Operators are walked in order. A weight may stream if its fetch, queued behind those before it and
not before its window opens, arrives at most `slack` after the operator could start, and if what is
in flight then stays below a cap. With slack 0 streaming costs nothing. Where that frees too little,
several orders of stores and caps are walked, each with the least slack of a geometric series that
frees enough, and the one that delays the stage least is taken: a low cap spreads streams along the
stage, so that slots give back less of what streaming frees.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from planner.ir.devices import Store
from planner.ir.problem import Option
from planner.solve.price import fetch_us

SLACKS = (0.0, *(0.25 * 2.0**n for n in range(24)))
"""Microseconds, or times longer, a fetch may come late."""
FLOORS = (0.0, 0.3, 0.6, 0.8)
"""Shares of the weights, by size, that are tried as too small to stream."""
CAPS = (1.05, 1.3, 1.7, 2.5, math.inf)
"""What may be in flight, relative to the least that streams spread evenly have in flight."""
MANY = 20_000
"""Options of a stage above which all weights are large enough."""
SOME = 2_000
"""Options of a stage above which one cap is tried."""


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
    weights: Sequence[float] = (1.0,)
    """How much the delay of each shape counts."""


@dataclass(slots=True)
class Streams:
    """What streams: the store of each option (-1: resident), and the bytes that this frees."""

    store: list[int]
    freed_bytes: int = 0
    """Weights that stream, less the slots they need."""
    used_bytes: dict[int, int] = field(default_factory=dict)
    """By store, over all ranks."""
    delay_us: float = 0.0
    """By which the stage ends later, weighted over shapes."""


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
    if found.freed_bytes >= needed_bytes:
        return found
    late = [
        _least_late(running, needed_bytes, room_bytes, other)
        for other in (way, *_late_ways(running, needed_bytes))
    ]
    enough = [each for each in late if each.freed_bytes >= needed_bytes]
    if enough:
        return min(enough, key=lambda each: each.delay_us)
    return max((found, *late), key=lambda each: each.freed_bytes)


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
    least_bytes: float = 0.0
    """Smaller weights stay: each fetch has its alpha, a busy link carries more of large ones."""
    is_fast_first: bool = False
    """The fastest store is asked first, not the first."""
    cap_bytes: float = math.inf
    """In flight at most, of all stores."""


def _ways(running: Running) -> list[_Way]:
    sizes = sorted(o.weight_size_bytes for o in running.options if o.weight_size_bytes)
    shares = FLOORS if len(running.options) <= MANY else FLOORS[:1]
    floors = {sizes[int(share * (len(sizes) - 1))] if share else 0.0 for share in shares if sizes}
    return [_Way(even, least) for least in sorted(floors or {0.0}) for even in (True, False)]


def _late_ways(running: Running, needed: float) -> Iterator[_Way]:
    """Ways worth a delay."""
    count = len(running.options)
    if count > MANY:
        return
    ahead = min(store.ahead for _, store in running.stores)
    span = running.positions[-1] - running.positions[0] + 1
    windows = math.ceil(span / (ahead + 1))
    # of S bytes spread evenly, S / windows are in flight: S (1 - 1 / windows) is what they free
    least = needed / (windows - 1) if windows > 1 else math.inf
    orders = (True, False) if count <= SOME and len(running.stores) > 1 else (True,)
    for order in orders:
        for cap in CAPS if count <= SOME and windows > 1 else CAPS[1:2]:
            yield _Way(True, 0.0, order, cap * least)


def _least_late(running: Running, needed: float, room: dict[int, float], way: _Way) -> Streams:
    """The walk of least slack that frees enough."""
    known: dict[int, Streams] = {}

    def is_enough(number: int) -> bool:
        known[number] = _walk(running, needed, room, SLACKS[number], way)
        return known[number].freed_bytes >= needed

    number = bisect_left(range(len(SLACKS) - 1), True, key=is_enough)
    return known.get(number) or _walk(running, needed, room, SLACKS[number], way)


class _Queue:
    """One store's fetches on their way."""

    def __init__(self, number: int, store: Store, shapes: int) -> None:
        self.number, self.store = number, store
        self.arrived_us = [0.0] * shapes
        self.opened = 0
        """Options before this one lie behind the window."""
        self.flying_bytes = 0
        self.slot_bytes = 0
        self.used_bytes = 0

    def advance(self, n: int, running: Running, streams: Sequence[int]) -> None:
        """Moves the window to the n-th option; what it leaves behind has landed."""
        edge = running.positions[n] - self.store.ahead
        while self.opened < n and running.positions[self.opened] < edge:
            if streams[self.opened] == self.number:
                self.flying_bytes -= running.options[self.opened].weight_size_bytes
            self.opened += 1

    def take(self, size: int, degree: int, arrivals: list[float]) -> None:
        """One more weight streams."""
        self.arrived_us = arrivals
        self.used_bytes += size * degree
        self.flying_bytes += size
        self.slot_bytes = max(self.slot_bytes, self.flying_bytes)


def _walk(
    running: Running, needed: float, room: dict[int, float], slack: float, way: _Way
) -> Streams:
    shapes = range(len(running.times_us))
    found = Streams([-1] * len(running.options))
    finishes: list[list[float]] = [[] for _ in shapes]
    queues = [_Queue(r, store, len(shapes)) for r, store in running.stores]
    asked = sorted(queues, key=lambda q: -q.store.bytes_per_us) if way.is_fast_first else queues
    streamed = 0
    for n, option in enumerate(running.options):
        now = [finishes[w][-1] if n else 0.0 for w in shapes]
        start = now
        size = option.weight_size_bytes
        for queue in queues:
            queue.advance(n, running, found.store)
        pace = (n + 1) / len(running.options) if way.is_even else 1.0
        is_free = size >= max(way.least_bytes, 1) and found.freed_bytes < needed
        is_free = is_free and sum(q.flying_bytes for q in queues) + size <= way.cap_bytes
        for queue in asked if is_free else ():
            left = pace * room.get(queue.number, math.inf)
            if not _may(option, queue.store, running, queue.used_bytes, left):
                continue
            fetch = fetch_us(queue.store, option, running.degree)
            opening = [finishes[w][queue.opened - 1] if queue.opened else 0.0 for w in shapes]
            ends = [max(queue.arrived_us[w], opening[w]) + fetch for w in shapes]
            if any(end > at + slack for end, at in zip(ends, now, strict=True)):
                continue
            start = [max(a, b) for a, b in zip(now, ends, strict=True)]
            found.store[n] = queue.number
            queue.take(size, running.degree, ends)
            streamed += size
            found.freed_bytes = streamed - sum(q.slot_bytes for q in queues)
            break
        for w in shapes:
            finishes[w].append(start[w] + running.times_us[w][n])
    found.used_bytes = {q.number: q.used_bytes for q in queues if q.used_bytes}
    ends = [finish[-1] if finish else 0.0 for finish in finishes]
    late = (end - math.fsum(times) for end, times in zip(ends, running.times_us, strict=True))
    found.delay_us = math.fsum(q * us for q, us in zip(running.weights, late, strict=False))
    return found


def _may(option: Option, store: Store, running: Running, used: int, room: float) -> bool:
    """Whether a weight may stream and the store has room for it, on all ranks."""
    size = option.weight_size_bytes
    if not size or (option.stores is not None and store.name not in option.stores):
        return False
    if store.slot_size_bytes is not None and size > store.slot_size_bytes:
        return False
    return used + size * running.degree <= room
