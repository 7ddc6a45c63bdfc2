"""What a stage's weights meet on their way, and how many of them may be in flight: for `beam`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from planner.solve.data import FloatArray, IntArray
from planner.solve.price import fetch_us
from planner.solve.scale.residency import Running

CAPS = (0.85, 1.0, 1.1, 1.2, 1.4, math.inf)
"""In flight at most of the store that brings most, relative to streams spread evenly; any number,
where a stage is short."""
OTHER_CAPS = (1.0, 1.4, math.inf)
"""The same of other stores."""
PRICES = (1.0, 0.1, 0.03)
"""Of a byte, relative to its time on the slowest link that is used. Where hardly anything has to
come late a delay is not worth that: links that are filled early are late for the rest."""
FLYING = 0.3
"""What a byte in flight takes from one that streams, at low prices: at high ones delays, not
slots, decide."""
NEAR = (1.0, 0.95, 1.06, 0.85, 1.2)
"""Around what is in flight as it is."""
LOW_PRICES = (0.03, 0.01)
"""Where hardly any delay is allowed."""
MOST = 300
"""Weights above which nothing is tried: each step copies the states."""


@dataclass(frozen=True, slots=True)
class Way:
    """How weights are taken while a stage is walked."""

    caps: tuple[float, ...]
    """Bytes in flight at most, by store."""
    price: float
    """Microseconds that a byte is worth."""
    flying: float = 0.0
    """What a byte in flight takes from one that streams."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a stage's weights meet, by store and weight."""

    running: Running
    weights: list[int]
    """Numbers of the options with weights."""
    base: FloatArray
    """(shapes, options + 1): time before each option without any delay."""
    opened: IntArray
    """Options that have finished when a window opens;"""
    late: IntArray
    """weights among them."""
    flying: IntArray
    """The first weight whose window is still open."""
    fetch: FloatArray
    room: FloatArray
    """Bytes of each store for each device."""


def line_of(running: Running, room_bytes: dict[int, float]) -> Line | None:
    """A stage; None where there is nothing to stream, or too much to try."""
    options, places = running.options, np.asarray(running.positions)
    weights = [n for n, option in enumerate(options) if option.weight_size_bytes]
    if not weights or len(weights) > MOST or not running.stores:
        return None
    base = np.zeros((len(running.times_us), len(options) + 1))
    base[:, 1:] = np.cumsum(np.asarray(running.times_us), axis=1)
    edges = [places[weights] - store.ahead for _, store in running.stores]
    opened = np.array([np.searchsorted(places, edge) for edge in edges])
    opened = np.minimum(opened, np.asarray(weights))
    fetches = [
        [fetch_us(s, options[n], running.degree) for n in weights] for _, s in running.stores
    ]
    rooms = [room_bytes.get(r, np.inf) / running.degree for r, _ in running.stores]
    return Line(
        running,
        weights,
        base,
        opened,
        np.searchsorted(weights, opened),
        np.array([np.searchsorted(places[weights], edge) for edge in edges]),
        np.array(fetches),
        np.array(rooms),
    )


def ways(line: Line, needed: float) -> Iterator[Way]:
    """Caps around what streams spread evenly have in flight, at several prices of a byte."""
    running, places = line.running, line.running.positions
    stores = [store for _, store in running.stores]
    ahead = min(store.ahead for store in stores)
    windows = max((places[-1] - places[0] + 1) / (ahead + 1), 1.0)
    needed_bytes = needed * windows / max(windows - 1.0, 0.5)
    least = float(min(running.options[n].weight_size_bytes for n in line.weights))
    speeds = np.array(
        [store.bytes_per_us / (running.degree if store.is_shared else 1) for store in stores]
    )
    for factor, shares in product(PRICES, _splits(line, speeds, needed_bytes)):
        used = speeds[shares > 0]
        price = factor * sum(running.weights) / float(used.min(initial=speeds.max()))
        most = int(shares.argmax())
        lists = (CAPS if r == most else OTHER_CAPS for r in range(len(stores)))
        for factors in product(*lists):
            pairs = zip(factors, shares.tolist(), strict=True)
            caps = [
                math.inf if f == math.inf else max(f * share / windows, least) for f, share in pairs
            ]
            yield Way(tuple(caps), price, FLYING if factor < 1.0 else 0.0)


def around(line: Line, slots_bytes: dict[int, float]) -> Iterator[Way]:
    """Caps around what is in flight of each store, at low prices of a byte."""
    least = float(min(line.running.options[n].weight_size_bytes for n in line.weights))
    slots = [slots_bytes.get(r, 0.0) for r, _ in line.running.stores]
    slowest = min(store.bytes_per_us for _, store in line.running.stores)
    price = sum(line.running.weights) / slowest
    for factors in product(NEAR, repeat=len(slots)):
        caps = [max(f * slot, least) for f, slot in zip(factors, slots, strict=True)]
        for factor in LOW_PRICES:
            yield Way(tuple(caps), factor * price, FLYING)


def _splits(line: Line, speeds: FloatArray, needed_bytes: float) -> Iterator[FloatArray]:
    """Bytes that each store brings: the fastest stores first; in proportion to what links hide."""
    hidden = speeds * float(line.base[:, -1].min())
    left, shares = needed_bytes, np.zeros(len(speeds))
    order = np.argsort(-speeds).tolist()
    for r in order:
        share = left if r == order[-1] else min(left, float(hidden[r]))
        shares[r] = min(share, float(line.room[r]))
        left -= shares[r]
    yield shares
    if len(speeds) > 1:
        reach = np.minimum(hidden, line.room)
        yield np.minimum(needed_bytes * reach / max(float(reach.sum()), 1e-300), line.room)
