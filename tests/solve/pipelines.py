"""Random small problems with places, and every plan of them."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

from planner.ir.devices import Device, Hold, Link, Place, Store
from planner.ir.problem import (
    Conversion,
    Latency,
    Limits,
    Objective,
    Option,
    Pair,
    Problem,
    Setting,
    State,
    Transfer,
)
from planner.ir.solution import Solution, Stage, Status
from planner.solve.stages.answer import useful

Table = tuple[tuple[Latency | None, ...], ...]
T = TypeVar("T")


class Pipelines:
    """Random problems with places; each has some of the families, so that plans can be counted."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        many = ("ops", "places", "forms", "stores", "settings", "options", "options", "stores")
        self.many = set(rng.sample(many, 2))
        self.ops = tuple(f"o{i}" for i in range(3 if "ops" in self.many else rng.randint(1, 2)))
        pairs = itertools.combinations(range(len(self.ops)), 2)
        self.arcs = [(a, b) for a, b in pairs if b == a + 1 or rng.random() < 0.5]
        self.shapes = rng.randint(1, 2)
        self.settings = 2 if "settings" in self.many else 1
        self.stages = rng.choice((1, 2, 2, 2))
        self.places = self._places()
        self.forms = ("plain", "q8") if "forms" in self.many else ("plain",)

    def maybe(self, chance: float) -> bool:
        """True that often."""
        return self.rng.random() < chance

    def quarter(self, most: int) -> float:
        """Quarters, so that sums are exact in floating point."""
        return self.rng.randint(0, most) / 4

    def latency(self) -> Latency:
        """Any interval."""
        low = self.quarter(40)
        expected = low + self.quarter(4)
        return Latency(low, expected, expected + self.quarter(4))

    def table(self) -> Table:
        """Latencies of every setting and shape."""
        return tuple(
            tuple(self.latency() for _ in range(self.shapes)) for _ in range(self.settings)
        )

    def _places(self) -> tuple[Place, ...]:
        first = Place("a1", "a")
        if "places" not in self.many:
            return (self.rng.choice((first, Place("a2", "a", 2))),)
        return (
            first,
            self.rng.choice((Place("b1", "b"), Place("a2", "a", 2), Place("b2", "b", 2))),
        )

    def devices(self) -> tuple[Device, ...]:
        """With capacities around what half the operators need."""
        rng = self.rng
        return tuple(
            Device(
                kind,
                rng.choice((None, rng.randint(15, 60))),
                rng.choice((None, rng.randint(1, 3))),
                float(rng.randint(1, 4)),
            )
            for kind in sorted({place.device for place in self.places})
        )

    def option(self, number: int, members: Sequence[int]) -> Option:
        """Reads and leaves its tensors in one form."""
        rng, inside = self.rng, set(members)
        form = rng.choice(self.forms)
        reads = sorted({a for a, b in self.arcs if b in inside and a not in inside})
        leaves = sorted({a for a, b in self.arcs if a in inside and b not in inside})
        leaves += [len(self.ops) - 1] if len(self.ops) - 1 in inside else []
        place = rng.choice(self.places).name if self.maybe(0.3) else None
        holds = tuple(
            Hold(m, m + rng.randint(0, 2), rng.randint(0, 10)) for m in members if self.maybe(0.4)
        )
        return Option(
            f"g{number}",
            tuple(self.ops[m] for m in members),
            rng.choice(("fp32", "int8")),
            self.table(),
            tuple(State(f"t{a}", form) for a in reads),
            tuple(State(f"t{a}", rng.choice((form, "plain"))) for a in dict.fromkeys(leaves)),
            rng.randint(0, 20),
            rng.choice((0, rng.randint(0, 10))),
            rng.choice((0.0, rng.randint(1, 16) / 1024)),
            rng.randint(0, 8) / 8,
            place,
            holds,
            rng.choice((0, rng.randint(0, 5))),
        )

    def options(self) -> list[Option]:
        """Each operator alone once or twice, the first everywhere; sometimes a pair of them."""
        found: list[Option] = []
        for op in range(len(self.ops)):
            for _ in range(self.rng.randint(1, 3) if "options" in self.many else 1):
                found.append(self.option(len(found), [op]))
        if len(self.ops) > 1 and self.maybe(0.5):
            found.append(self.option(len(found), self.rng.choice(self.arcs[:1])))
        return found

    def changes(self, made: Sequence[State]) -> tuple[Conversion, ...]:
        """Between the two forms of some tensors."""
        found: list[Conversion] = []
        for state in made:
            other = State(state.tensor, "q8" if state.form == "plain" else "plain")
            if len(self.forms) > 1 and len(found) < 1:
                found.append(Conversion(f"c{len(found)}", state, other, self.table()))
        return tuple(found)

    def transfers(self, made: Sequence[State]) -> tuple[Transfer, ...]:
        """Of most states that somebody makes."""
        rng = self.rng
        found: list[Transfer] = []
        for state in made:
            if self.stages > 1 and self.maybe(0.9) and len(found) < 3:
                sizes = tuple(rng.randint(0, 8) for _ in range(self.shapes))
                holds = (Hold(0, rng.randint(0, 3), rng.randint(0, 8)),) if self.maybe(0.3) else ()
                found.append(Transfer(f"m{len(found)}", state, state, sizes, holds, 0.25))
        return tuple(found)

    def stores(self) -> tuple[Store, ...]:
        """None, or one with a window and sometimes limits."""
        rng = self.rng
        if "stores" not in self.many:
            return ()
        return (
            Store(
                "host",
                self.quarter(4),
                float(rng.choice((1, 2, 4))),
                rng.randint(0, 2),
                ("a",) if self.maybe(0.2) else (),
                rng.choice((None, rng.randint(10, 60))),
                rng.choice((None, rng.randint(10, 40))),
                self.maybe(0.5),
                rng.choice((0, 0, 1)),
                float(rng.choice((0, 0, 1))),
            ),
        )

    def limits(self) -> Limits:
        """Around what plans of this size cost."""
        rng, n = self.rng, len(self.ops)

        def some(low: int, high: int, unit: float, chance: float = 0.12) -> float | None:
            return rng.randint(low, high) * unit if self.maybe(chance) else None

        memory, devices = some(10, 15 * n + 20, 1.0), some(1, 3, 1.0)
        return Limits(
            some(6 * n, 16 * n + 20, 1.0),
            None if memory is None else int(memory),
            some(0, 12 * n, 1 / 1024),
            some(1, 8, 1e6 / (60.0 * n)),
            None if devices is None else int(devices),
            some(1, 8, 1.0),
            some(1, 40 * n, 1 / 3.6e9),
            some(1, 8 * n, 1 / 8),
        )

    def pairs(self, options: Sequence[Option]) -> tuple[Pair, ...]:
        """Costs of one arc's options, sometimes infinite."""
        if not self.arcs or self.maybe(0.7):
            return ()
        first, second = (self.ops[op] for op in self.rng.choice(self.arcs))
        count = [sum(op in option.ops for option in options) for op in (first, second)]
        costs = [
            float("inf") if self.maybe(0.15) else self.quarter(20)
            for _ in range(count[0] * count[1])
        ]
        return (Pair(first, second, tuple(costs)),)

    def problem(self) -> Problem:
        """A valid problem; needs that nobody could make are taken out."""
        rng = self.rng
        options = self.options()
        made = list(dict.fromkeys(state for option in options for state in option.makes))
        conversions = self.changes(made)
        there = {*made, *(change.target for change in conversions)}
        options = [
            Option(
                **{
                    **{name: getattr(o, name) for name in Option.__slots__},
                    "needs": tuple(state for state in o.needs if state in there),
                    "place": None if number == 0 else o.place,
                }
            )
            for number, o in enumerate(options)
        ]
        last = State(f"t{len(self.ops) - 1}", "plain")
        names = [option.name for option in options]
        kinds = sorted({place.device for place in self.places})
        links = [(a, b) for a in kinds for b in kinds if self.maybe(0.9)]
        return Problem(
            ops=self.ops,
            edges=tuple((self.ops[a], self.ops[b]) for a, b in self.arcs),
            options=tuple(options),
            settings=tuple(
                Setting(
                    f"s{n}",
                    tuple(self.latency() for _ in range(self.shapes)),
                    rng.randint(0, 3),
                    float(rng.randint(0, 1)),
                    (rng.choice((1.0, 1.25)), *[1.0, 1.25][: self.shapes - 1]),
                )
                for n in range(self.settings)
            ),
            shape_weights=tuple(float(rng.randint(1, 3)) for _ in range(self.shapes)),
            conversions=conversions,
            wanted=(last,) if last in there else (),
            activation_size_bytes=rng.randint(0, 5),
            tied=(tuple(self.ops[:2]),) if len(self.ops) > 1 and self.maybe(0.15) else (),
            limits=self.limits(),
            objectives=tuple(rng.sample(list(Objective), rng.choice((1, 1, 2)))),
            forbidden=(frozenset(rng.sample(names, min(2, len(names)))),)
            if self.maybe(0.1)
            else (),
            places=self.places,
            devices=self.devices(),
            links=tuple(Link(a, b, self.quarter(4), float(rng.choice((1, 2)))) for a, b in links),
            stages=self.stages,
            stores=self.stores(),
            transfers=self.transfers(made),
            pairs=self.pairs(options),
        )


def covers(problem: Problem, left: frozenset[str]) -> Iterator[tuple[Option, ...]]:
    """Every exact cover of the operators that are left."""
    if not left:
        yield ()
        return
    first = next(name for name in problem.ops if name in left)
    for option in problem.options:
        if first in option.ops and left.issuperset(option.ops):
            for rest in covers(problem, left - set(option.ops)):
                yield (option, *rest)


def _subsets(members: Sequence[T]) -> Iterator[tuple[T, ...]]:
    for size in range(len(members) + 1):
        yield from itertools.combinations(members, size)


def plans(problem: Problem) -> Iterator[Solution]:
    """Every plan without parts that nobody uses, feasible or not; some come twice."""
    places = [place.name for place in problem.places]
    for count in range(1, problem.stages + 1):
        for cover, where in _runs(problem, count):
            for chosen in itertools.product(places, repeat=count):
                yield from _completed(problem, cover, where, chosen)


def _runs(problem: Problem, count: int) -> Iterator[tuple[tuple[Option, ...], tuple[int, ...]]]:
    """Options with their stages, none of which is empty: exact covers; any runs that compute
    everything where operators may repeat."""
    if not problem.repeatable:
        for cover in covers(problem, frozenset(problem.ops)):
            for where in itertools.product(range(count), repeat=len(cover)):
                if len(set(where)) == count:
                    yield cover, where
        return
    single = set(problem.ops) - problem.repeatable
    for chosen in _subsets(list(itertools.product(problem.options, range(count)))):
        times = Counter(op for option, _ in chosen for op in option.ops)
        is_once = all(times[op] == 1 for op in single)
        if is_once and len(times) == len(problem.ops) and len({p for _, p in chosen}) == count:
            yield tuple(option for option, _ in chosen), tuple(p for _, p in chosen)


def _completed(
    problem: Problem, cover: Sequence[Option], where: Sequence[int], places: Sequence[str]
) -> Iterator[Solution]:
    """All conversions, transfers, residencies and settings for options at stages and places."""
    if any(o.place not in (None, places[p]) for o, p in zip(cover, where, strict=True)):
        return
    count = len(places)
    changes = [(c.name, p) for c in problem.conversions for p in range(count)]
    hops = list(itertools.combinations(range(count), 2))
    moves = [(t.name, q, p) for t in problem.transfers for q, p in hops]
    seen: set[tuple[Stage, ...]] = set()
    for paid in _subsets(changes):
        for moved in _subsets(moves):
            stages = tuple(
                Stage(
                    places[p],
                    tuple(o.name for o, q in zip(cover, where, strict=True) if q == p),
                    tuple(name for name, q in paid if q == p),
                    tuple((name, q) for name, q, to in moved if to == p),
                )
                for p in range(count)
            )
            stages = tuple(useful(problem, stages))
            if stages not in seen:
                seen.add(stages)
                yield from _stored(problem, cover, where, stages)


def _stored(
    problem: Problem, cover: Sequence[Option], where: Sequence[int], stages: Sequence[Stage]
) -> Iterator[Solution]:
    names = [None, *(store.name for store in problem.stores)]
    for homes in itertools.product(names, repeat=len(cover)):
        kept = tuple(
            Stage(
                stage.place,
                stage.chosen,
                stage.conversions,
                stage.transfers,
                tuple(
                    (option.name, home)
                    for option, home, q in zip(cover, homes, where, strict=True)
                    if q == p and home is not None
                ),
            )
            for p, stage in enumerate(stages)
        )
        for setting in problem.settings:
            yield Solution(
                Status.FEASIBLE,
                tuple(name for stage in kept for name in stage.chosen),
                tuple(dict.fromkeys(name for stage in kept for name in stage.conversions)),
                setting.name,
                stages=kept,
            )
