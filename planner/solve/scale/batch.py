"""Many variations of one stage priced at once: streams, slots and memory, a column a variation.

A variation changes what runs at one or two positions of a stage. The recursions of C7 are walked
once, position by position, for all variations together. Arrays are (positions, variations).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.data import BoolArray, FloatArray, IntArray

NOTHING = -1
"""No second change."""


@dataclass(frozen=True, slots=True)
class Entries:
    """What may run at positions: entry 0 is nothing, the rest of a group."""

    time_us: FloatArray
    """(shapes, entries)"""
    fetch_us: FloatArray
    """(stores, entries); 0 where the weights do not stream from that store."""
    streamed_bytes: FloatArray
    """(stores, entries)"""
    resident_bytes: FloatArray
    workspace_bytes: FloatArray
    error: FloatArray
    energy_j: FloatArray


@dataclass(frozen=True, slots=True)
class Line:
    """One stage: its positions in order, and how far ahead each store may fetch."""

    positions: IntArray
    ahead: tuple[int, ...]
    """By store."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Variations: entries put at one or two positions (indices into the stage's)."""

    at: IntArray
    """(2, variations); the second may be NOTHING."""
    entry: IntArray
    """(2, variations)"""

    def part(self, chosen: IntArray) -> Changes:
        """Some of them."""
        return Changes(self.at[:, chosen], self.entry[:, chosen])

    def only(self, number: int) -> Changes:
        """One of them."""
        return self.part(np.array([number]))

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """(position, entry) of one of them."""
        both = zip(self.at[:, number].tolist(), self.entry[:, number].tolist(), strict=True)
        return [(at, entry) for at, entry in both if at != NOTHING]

    @property
    def count(self) -> int:
        """How many."""
        return int(self.at.shape[1])


UNCHANGED = Changes(np.full((2, 1), NOTHING), np.zeros((2, 1), dtype=np.int64))
"""One variation: everything as it is."""


def changes(pairs: Sequence[Sequence[tuple[int, int]]]) -> Changes:
    """From the (position, entry) of each, one or two."""
    filled = [(*each, (NOTHING, 0))[:2] for each in pairs]
    found = np.array(filled, dtype=np.int64).reshape(-1, 2, 2)
    return Changes(found[:, :, 0].T, found[:, :, 1].T)


@dataclass(frozen=True, slots=True)
class Priced:
    """What each variation takes."""

    finish_us: FloatArray
    """(shapes, variations)"""
    slot_bytes: FloatArray
    """(stores, variations)"""
    stored_bytes: FloatArray
    """(stores, variations)"""
    resident_bytes: FloatArray
    """With the largest workspace."""
    error: FloatArray
    energy_j: FloatArray


def price_changes(line: Line, table: Entries, current: IntArray, moved: Changes) -> Priced:
    """Prices variations of `current`, the entry at each position."""
    count = moved.count
    here = np.repeat(current[:, None], count, axis=1)
    columns = np.arange(count)
    for at, entry in zip(moved.at, moved.entry, strict=True):
        real = at != NOTHING
        here[at[real], columns[real]] = entry[real]
    streamed = [sizes[here] for sizes in table.streamed_bytes]
    resident = _total(table.resident_bytes, current, moved)
    workspace = table.workspace_bytes[here].max(axis=0, initial=0.0)
    slots = [_slot(line, r, sizes) for r, sizes in enumerate(streamed)]
    return Priced(
        _finishes(line, table, here),
        np.array(slots).reshape(-1, count),
        np.array([sizes.sum(axis=0) for sizes in streamed]).reshape(-1, count),
        resident + workspace,
        _total(table.error, current, moved),
        _total(table.energy_j, current, moved),
    )


def _total(values: FloatArray, current: IntArray, moved: Changes) -> FloatArray:
    """A sum over positions after each variation."""
    total = np.full(moved.count, values[current].sum())
    for at, entry in zip(moved.at, moved.entry, strict=True):
        change = values[entry] - values[current[at]]
        total += np.where(at != NOTHING, change, 0.0)
    return total


def _slot(line: Line, store: int, sizes: FloatArray) -> FloatArray:
    """The most bytes in flight: those of positions i .. i + ahead, for every i."""
    sums = np.vstack((np.zeros(sizes.shape[1]), sizes.cumsum(axis=0)))
    last = np.searchsorted(line.positions, line.positions + line.ahead[store], side="right")
    return np.asarray((sums[last] - sums[:-1]).max(axis=0, initial=0.0))


def _finishes(line: Line, table: Entries, here: IntArray) -> FloatArray:
    """F_n of every shape and variation (C7)."""
    fetches = [us[here] for us in table.fetch_us]
    streams = [us > 0 for us in fetches]
    return np.array([_finish(line, us[here], fetches, streams) for us in table.time_us])


def _finish(
    line: Line, times: FloatArray, fetches: list[FloatArray], streams: list[BoolArray]
) -> FloatArray:
    busy = [set(np.flatnonzero(stream.any(axis=1)).tolist()) for stream in streams]
    if not any(busy):
        return np.asarray(times.sum(axis=0))
    behind = [
        np.searchsorted(line.positions, line.positions - ahead, side="left") for ahead in line.ahead
    ]
    count = times.shape[1]
    finish = np.zeros((len(times) + 1, count))
    arrived = [np.zeros(count) for _ in fetches]
    for i in range(len(times)):
        start = finish[i]
        for r, stream in enumerate(streams):
            if i in busy[r]:
                after = np.maximum(arrived[r], finish[behind[r][i]]) + fetches[r][i]
                arrived[r] = np.where(stream[i], after, arrived[r])
                start = np.maximum(start, np.where(stream[i], after, 0.0))
        finish[i + 1] = start + times[i]
    return np.asarray(finish[-1])
