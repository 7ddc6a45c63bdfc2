"""What may run on each stage of a plan, as entries: options with the home of their weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from planner.ir.devices import Place, Store
from planner.ir.problem import Option, Problem
from planner.solve.data import IntArray
from planner.solve.price import fetch_us
from planner.solve.scale.batch import Entries, Line
from planner.solve.stages.model import may_store


@dataclass(frozen=True, slots=True)
class Entry:
    """An option at a position of its stage, and the store of its weights (-1: on the device)."""

    at: int
    option: int
    store: int


@dataclass(slots=True)
class Board:
    """One stage of a plan: every entry that may run there, and the current one of each position."""

    place: Place
    line: Line
    entries: list[Entry | None]
    """None: entry 0, nothing."""
    table: Entries
    families: dict[tuple[str, ...], list[int]]
    """Entries by the operators that they compute."""
    current: IntArray
    """By position; 0 where a group computes it from an earlier one."""
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)
    """Entry of (option, store)."""


def board(
    problem: Problem,
    row: int,
    place: Place,
    members: Iterable[int],
    chosen: dict[int, int],
    offered: Iterable[int],
    stores: Iterable[tuple[int, Store]],
) -> Board:
    """The entries of one stage.

    Args:
        members: operators of the stage, in order.
        chosen: the options that run there now, with their stores.
        offered: options that compute some of these operators only.
        stores: those that weights may stream from.
    """
    ops = list(members)
    where = {problem.ops[op]: at for at, op in enumerate(ops)}
    reach = list(stores)
    entries: list[Entry | None] = [None]
    families: dict[tuple[str, ...], list[int]] = {}
    for g in offered:
        option = problem.options[g]
        at = min(where[name] for name in option.ops)
        for r in (-1, *_homes(problem, option, place, reach)):
            families.setdefault(option.ops, []).append(len(entries))
            entries.append(Entry(at, g, r))
    numbers = {(e.option, e.store): n for n, e in enumerate(entries) if e is not None}
    current = np.zeros(len(ops), dtype=np.int64)
    for g, r in chosen.items():
        number = numbers[g, r]
        entry = entries[number]
        assert entry is not None
        current[entry.at] = number
    ahead = tuple(store.ahead for store in problem.stores)
    line = Line(np.array(ops, dtype=np.int64), ahead)
    return Board(
        place, line, entries, _table(problem, row, place, entries), families, current, numbers
    )


def _homes(
    problem: Problem, option: Option, place: Place, reach: Iterable[tuple[int, Store]]
) -> Iterator[int]:
    device = next(device for device in problem.devices if device.name == place.device)
    for r, store in reach:
        fits = store.slot_size_bytes is None or option.weight_size_bytes <= store.slot_size_bytes
        if option.weight_size_bytes and fits and may_store(option, store, device):
            yield r


def _table(problem: Problem, row: int, place: Place, entries: list[Entry | None]) -> Entries:
    shapes, stores = len(problem.shape_weights), len(problem.stores)
    found = Entries(
        np.zeros((shapes, len(entries))),
        np.zeros((stores, len(entries))),
        np.zeros((stores, len(entries))),
        *(np.zeros(len(entries)) for _ in range(4)),
    )
    for n, entry in enumerate(entries):
        if entry is None:
            continue
        option = problem.options[entry.option]
        for w, cell in enumerate(option.latency[row]):
            found.time_us[w, n] = cell.expected_us if cell is not None else np.inf
        found.resident_bytes[n] = option.cache_size_bytes
        if entry.store < 0:
            found.resident_bytes[n] += option.weight_size_bytes
        else:
            store = problem.stores[entry.store]
            found.fetch_us[entry.store, n] = fetch_us(store, option, place.degree)
            found.streamed_bytes[entry.store, n] = option.weight_size_bytes
        found.workspace_bytes[n] = option.workspace_size_bytes
        found.error[n] = option.error
        found.energy_j[n] = option.energy_j
    return found
