"""Random problems for the solver's tests, with every family of constraints."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import pytest

from planner.ir.problem import (
    Conversion,
    Latency,
    Limits,
    Objective,
    Option,
    Problem,
    Setting,
    State,
)

FORMS = ("plain", "q8", "f16")


class Generator:
    """Random problems with every family of constraints, small enough to enumerate."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.ops = tuple(f"o{i}" for i in range(rng.randint(1, 4)))
        pairs = itertools.combinations(range(len(self.ops)), 2)
        self.arcs = [pair for pair in pairs if rng.random() < 0.6]
        self.settings = rng.randint(1, 2)
        self.shapes = rng.randint(1, 2)

    def latency(self) -> Latency:
        """Quarters of a microsecond, so that sums are exact in floating point."""
        low = self.rng.randint(0, 40) / 4
        expected = low + self.rng.randint(0, 4) / 4
        return Latency(low, expected, expected + self.rng.randint(0, 4) / 4)

    def table(self, missing: float = 0.0) -> tuple[tuple[Latency | None, ...], ...]:
        """Latencies of every setting and shape; some settings may lack the option."""
        rows = []
        for setting in range(self.settings):
            gone = setting > 0 and self.rng.random() < missing
            rows.append(tuple(None if gone else self.latency() for _ in range(self.shapes)))
        return tuple(rows)

    def option(self, number: int, members: tuple[int, ...]) -> Option:
        """Reads what comes from outside in one form, leaves what is read outside in another."""
        rng = self.rng
        inside = set(members)
        form = rng.choice(FORMS[:2])
        sources = sorted({a for a, b in self.arcs if b in inside and a not in inside})
        outside = {a for a, b in self.arcs if a in inside and b not in inside}
        last = len(self.ops) - 1
        made = [m for m in members if m in outside or m == last or rng.random() < 0.5]
        if len(members) > 1 and made and rng.random() < 0.3:
            made.pop()  # an inner tensor that others may miss
        reads = tuple(State(f"t{a}", form) for a in sources)
        if 0 in inside:
            reads = (*reads, State("x", "plain"))
        return Option(
            f"g{number}",
            tuple(self.ops[m] for m in members),
            rng.choice(("fp32", "int8")),
            self.table(missing=0.2),
            needs=reads,
            makes=tuple(State(f"t{m}", rng.choice((form, "plain"))) for m in made),
            weight_size_bytes=rng.randint(0, 20),
            workspace_size_bytes=rng.choice((0, 0, rng.randint(1, 20))),
            error=rng.choice((0.0, rng.randint(1, 16) / 1024)),
            energy_j=rng.randint(0, 8) / 8,
        )

    def groups(self) -> Iterator[tuple[int, ...]]:
        """Every operator alone once or more, and some convex groups."""
        for op in range(len(self.ops)):
            yield from [(op,)] * self.rng.randint(1, 2)
        for size in (2, 3):
            for members in itertools.combinations(range(len(self.ops)), size):
                if self.rng.random() < 0.5 and self.is_convex(set(members)):
                    yield members

    def is_convex(self, inside: set[int]) -> bool:
        """No path leaves and comes back."""
        seen = {b for a, b in self.arcs if a in inside and b not in inside}
        for a, b in sorted(self.arcs):
            if a in seen and b in inside:
                return False
            if a in seen:
                seen.add(b)
        return True

    def conversions(self, options: tuple[Option, ...]) -> tuple[Conversion, ...]:
        """Enough that every state can be made somehow, and a few more, also in circles."""
        made = {state for option in options for state in option.makes}
        needed = {state for option in options for state in option.needs} - {State("x", "plain")}
        last = State(f"t{len(self.ops) - 1}", "plain")
        arcs = [(state, target) for target in (needed | {last}) - made for state in made]
        arcs = [(a, b) for a, b in arcs if a.tensor == b.tensor]
        known = sorted(made | needed | {last}, key=lambda s: (s.tensor, s.form))
        extra = [(a, b) for a in known for b in known if a.tensor == b.tensor and a != b]
        arcs += [pair for pair in extra if self.rng.random() < 0.4]
        arcs = sorted(dict.fromkeys(arcs), key=lambda p: (p[0].tensor, p[0].form, p[1].form))
        return tuple(Conversion(f"c{n}", a, b, self.table()) for n, (a, b) in enumerate(arcs[:5]))

    def settings_(self) -> tuple[Setting, ...]:
        """With overhead, memory, price and tail."""
        rng = self.rng
        return tuple(
            Setting(
                f"s{n}",
                tuple(self.latency() for _ in range(self.shapes)),
                size_bytes=rng.randint(0, 5),
                price_per_hour=float(rng.randint(1, 2)),
                tail_factors=tuple(rng.choice((1.1, 1.25)) for _ in range(self.shapes)),
                tail_low_factors=tuple(rng.choice((1.0, 1.1)) for _ in range(self.shapes)),
            )
            for n in range(self.settings)
        )

    def maybe(self, low: int, high: int, unit: float) -> float | None:
        """A limit, or none."""
        return self.rng.randint(low, high) * unit if self.rng.random() < 0.4 else None

    def limits(self) -> Limits:
        """Around what plans of this size cost."""
        n = len(self.ops)
        memory = self.maybe(6 * n, 18 * n + 20, 1.0)
        rate = self.maybe(1, 8, 1e6 / (60.0 * n))
        return Limits(
            latency_us=self.maybe(6 * n, 14 * n + 10, 1.0),
            memory_size_bytes=None if memory is None else int(memory),
            error=self.maybe(0, 12 * n, 1 / 1024),
            throughput_per_s=rate,
        )

    def problem(self) -> Problem:
        """A valid problem: states that nobody could make are taken out of the options."""
        rng = self.rng
        options = tuple(self.option(n, members) for n, members in enumerate(self.groups()))
        conversions = self.conversions(options)
        options, conversions, wanted = self.made_possible(options, conversions)
        names = [option.name for option in options]
        forbidden = [
            frozenset(rng.sample(names, min(2, len(names)))) for _ in range(rng.randint(0, 2))
        ]
        tied = (tuple(rng.sample(self.ops, 2)),) if len(self.ops) > 1 and rng.random() < 0.3 else ()
        objectives = rng.sample(list(Objective), rng.randint(1, 3))
        return Problem(
            ops=self.ops,
            edges=tuple((self.ops[a], self.ops[b]) for a, b in self.arcs),
            options=options,
            settings=self.settings_(),
            shape_weights=tuple(float(rng.randint(1, 3)) for _ in range(self.shapes)),
            conversions=conversions,
            given=(State("x", "plain"),),
            wanted=wanted,
            activation_size_bytes=rng.randint(0, 5),
            tied=tied,
            limits=self.limits(),
            objectives=tuple(objectives),
            forbidden=tuple(forbidden),
        )

    def made_possible(
        self, options: tuple[Option, ...], conversions: tuple[Conversion, ...]
    ) -> tuple[tuple[Option, ...], tuple[Conversion, ...], tuple[State, ...]]:
        """Drops needs and conversions of states that nobody makes."""
        made = {State("x", "plain"), *(state for option in options for state in option.makes)}
        made |= {c.target for c in conversions}
        kept = tuple(c for c in conversions if c.source in made)
        possible = tuple(
            Option(
                **{
                    **{name: getattr(o, name) for name in Option.__slots__},
                    "needs": tuple(state for state in o.needs if state in made),
                }
            )
            for o in options
        )
        last = State(f"t{len(self.ops) - 1}", "plain")
        return possible, kept, (last,) if last in made else ()


@pytest.fixture
def make_problem() -> Callable[[random.Random], Problem]:
    """A random valid problem."""
    return lambda rng: Generator(rng).problem()
