"""A plan laid out so that every small change of it can be priced: boards, tensors, limits.

Stages and their places stay. A move puts another entry (an option with the home of its weights) in
the place of one, fuses two operators or takes a pair apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.ir.devices import Store
from planner.ir.problem import Problem
from planner.ir.solution import Solution
from planner.solve.data import FloatArray
from planner.solve.price import peak_size_bytes
from planner.solve.scale.batch import UNCHANGED, Changes, Priced, changes, price_changes
from planner.solve.scale.complete import Choice, Completer
from planner.solve.scale.entries import Board, board
from planner.solve.scale.facts import Facts
from planner.solve.scale.tensors import Tensors


@dataclass(frozen=True, slots=True)
class Moves:
    """Moves of one stage with what they change."""

    stage: int
    moved: Changes
    gain_us: FloatArray
    """By which the plan gets faster, expected and weighted; minus infinity: it cannot run."""
    forms_us: FloatArray
    """What conversions and transfers add."""
    use: FloatArray
    """(limits, moves): share of each limit that is used afterwards."""


class Layout:
    """One plan under one setting."""

    def __init__(self, problem: Problem, row: int, end: str, plan: Solution) -> None:
        self._problem, self._row = problem, row
        self._completer = Completer(problem, row)
        self._weights = np.array(problem.shape_weights)
        places = {place.name: place for place in problem.places}
        self._where = {name: n for n, name in enumerate(problem.ops)}
        chosen = self._chosen(plan)
        stage_of = {
            self._where[op]: p
            for p, mine in enumerate(chosen)
            for g in mine
            for op in problem.options[g].ops
        }
        members: list[list[int]] = [[] for _ in plan.stages]
        for op in range(len(problem.ops)):
            members[stage_of[op]].append(op)
        standing = tuple(places[stage.place] for stage in plan.stages)
        offered = self._offered(stage_of, [place.name for place in standing])
        stores = self._stores({r for mine in chosen for r in mine.values()})
        self.boards: list[Board] = [
            board(problem, row, place, members[p], chosen[p], offered[p], stores)
            for p, place in enumerate(standing)
        ]
        self._tensors = Tensors(problem, row, end, standing)
        for p, mine in enumerate(chosen):
            self._tensors.put((problem.options[g], p) for g in mine)
        self._room = [self._left(plan, p) for p in range(len(standing))]
        self._base = [self._priced(one, UNCHANGED) for one in self.boards]
        self._facts = Facts(problem, self.boards, self._tensors)

    def _chosen(self, plan: Solution) -> list[dict[int, int]]:
        """By stage: the store of each option's weights, -1 on the device."""
        numbers = {option.name: g for g, option in enumerate(self._problem.options)}
        stores = {store.name: r for r, store in enumerate(self._problem.stores)}
        found = []
        for stage in plan.stages:
            away = {name: stores[store] for name, store in stage.stored}
            found.append({numbers[name]: away.get(name, -1) for name in stage.chosen})
        return found

    def _offered(self, stage_of: dict[int, int], places: list[str]) -> list[list[int]]:
        """By stage: the options that could run there."""
        found: list[list[int]] = [[] for _ in places]
        for g, option in enumerate(self._problem.options):
            stages = {stage_of[self._where[op]] for op in option.ops}
            p = min(stages)
            exists = all(cell is not None for cell in option.latency[self._row])
            if len(stages) == 1 and exists and option.place in (None, places[p]):
                found[p].append(g)
        return found

    def _stores(self, used: set[int]) -> list[tuple[int, Store]]:
        """Those that cost nothing more to use."""
        return [
            (r, store)
            for r, store in enumerate(self._problem.stores)
            if r in used or not (store.extra_devices or store.price_per_hour)
        ]

    def _left(self, plan: Solution, p: int) -> float:
        """Bytes of each device of a stage that options and slots may take."""
        problem, stage = self._problem, plan.stages[p]
        moves = {move.name: move for move in problem.transfers}
        devices = {device.name: device for device in problem.devices}
        copies = peak_size_bytes(h for name, _ in stage.transfers for h in moves[name].holds)
        device = devices[self.boards[p].place.device]
        known = (device.memory_size_bytes, problem.limits.memory_size_bytes)
        capacity = min((float(size) for size in known if size is not None), default=np.inf)
        fixed = problem.activation_size_bytes + problem.settings[self._row].size_bytes
        return capacity - fixed - copies

    def plan(self) -> Solution | None:
        """The whole plan; None where some state cannot be had."""
        parts = sorted(
            (int(one.line.positions[entry.at]), entry.option, p, entry.store)
            for p, one in enumerate(self.boards)
            for number in one.current.tolist()
            if (entry := one.entries[number]) is not None
        )
        choice = Choice(
            tuple(one.place for one in self.boards),
            [g for _, g, _, _ in parts],
            [p for _, _, p, _ in parts],
            [r for _, _, _, r in parts],
        )
        return self._completer.complete(choice)

    @property
    def value_us(self) -> float:
        """Expected latency, weighted over shapes."""
        cells = self._problem.settings[self._row].overhead
        overhead = self._weights @ np.array([cell.expected_us for cell in cells])
        stages = sum(float(self._weights @ priced.finish_us[:, 0]) for priced in self._base)
        return float(overhead) + self._tensors.total_us() + stages

    def moves(self, p: int) -> Changes:
        """All moves of one stage."""
        one, options = self.boards[p], self._problem.options
        found: list[list[tuple[int, int]]] = []
        now = {
            options[entry.option].ops: (number, entry.at)
            for number in one.current.tolist()
            if (entry := one.entries[number]) is not None
        }
        for ops, (number, at) in now.items():
            found += [[(at, other)] for other in one.families[ops] if other != number]
            if len(ops) == 2:
                found += self._apart(one, ops, number)
        for ops, members in one.families.items():
            if len(ops) == 2 and all((op,) in now for op in ops):
                first, second = sorted(now[op,][1] for op in ops)
                found += [[(first, number), (second, 0)] for number in members]
        return changes(found)

    def _apart(
        self, one: Board, ops: tuple[str, ...], number: int
    ) -> Iterator[list[tuple[int, int]]]:
        """A pair as two operators: the first in the same format and home, the second in any."""
        options, entry = self._problem.options, one.entries[number]
        assert entry is not None
        first, second = sorted(ops, key=self._where.__getitem__)
        for a in one.families.get((first,), ()):
            other = one.entries[a]
            assert other is not None
            alike = options[other.option].format == options[entry.option].format
            if not alike or other.store != entry.store:
                continue
            for b in one.families.get((second,), ()):
                last = one.entries[b]
                assert last is not None
                yield [(other.at, a), (last.at, b)]

    def price(self, p: int, moved: Changes, forms_us: FloatArray | None = None) -> Moves:
        """What moves of one stage change.

        Args:
            forms_us: what conversions and transfers add, where it is known.
        """
        one, base = self.boards[p], self._base[p]
        priced = self._priced(one, moved)
        added = self._facts.added_us(p, moved) if forms_us is None else forms_us
        gain = self._weights @ (base.finish_us - priced.finish_us) - added
        return Moves(p, moved, gain, added, self._use(p, moved, priced))

    @staticmethod
    def _priced(one: Board, moved: Changes) -> Priced:
        return price_changes(one.line, one.table, one.current, moved)

    def _use(self, p: int, moved: Changes, priced: Priced) -> FloatArray:
        limits = self._problem.limits
        memory = (
            priced.resident_bytes
            + priced.slot_bytes.sum(axis=0)
            + self._facts.peaks_bytes(p, moved)
        )
        rows = [memory / max(self._room[p], 1.0)]
        for name in ("error", "energy_j"):
            limit = getattr(limits, name)
            if limit is not None:
                others = sum(getattr(b, name)[0] for q, b in enumerate(self._base) if q != p)
                rows.append((getattr(priced, name) + others) / max(limit, 1e-300))
        for r, store in enumerate(self._problem.stores):
            if store.memory_size_bytes is not None:
                mine = self.boards[p].place.degree * priced.stored_bytes[r]
                rows.append((mine + self._stored(r, p)) / max(store.memory_size_bytes, 1))
            if store.slot_size_bytes is not None:
                rows.append(priced.slot_bytes[r] / max(store.slot_size_bytes, 1))
        return np.array(rows)

    def _stored(self, r: int, p: int) -> float:
        """Bytes in a store that other stages than p have there."""
        pairs = enumerate(zip(self.boards, self._base, strict=True))
        return sum(b.place.degree * float(d.stored_bytes[r, 0]) for q, (b, d) in pairs if q != p)

    def apply(self, p: int, moved: Changes) -> None:
        """Makes the first of some moves."""
        self._facts.apply(p, moved)
        self._base[p] = self._priced(self.boards[p], UNCHANGED)

    def use(self, p: int) -> FloatArray:
        """Share of each limit that is used now."""
        return self._use(p, UNCHANGED, self._base[p])[:, 0]
