"""Random small pipelines with what `pipelines` leaves out, a twist or two each.

Operators computed more than once (C1), three stages (C3, C6), casts made for one place, inputs of
the model and transfers that change the form (C5, C6), two stores (C7), promises whose tail is known
as an interval (C8), options that some settings lack.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from planner.ir.devices import Store
from planner.ir.problem import Conversion, Latency, Problem, State, Transfer
from tests.solve.pipelines import Pipelines

Twist = Callable[[Pipelines, Problem], Problem]
MOST_OPTIONS = 4
"""Options of problems in which everything may run at several stages: there are many plans."""


def wider(rng: random.Random) -> Problem:
    """A random problem with one or two twists."""
    made = Pipelines(rng)
    problem = made.problem()
    for twist in rng.sample(TWISTS, rng.choice((1, 1, 2))):
        problem = twist(made, problem)
    return problem


def repeated(made: Pipelines, problem: Problem) -> Problem:
    """Some operators may be computed again, inside a group say."""
    if len(problem.options) >= MOST_OPTIONS or problem.stages > 2:
        return problem
    rng, options = made.rng, problem.options
    if made.arcs:
        a, b = rng.choice(made.arcs)
        one = next(o for o in options if o.ops == (problem.ops[b],))
        group = replace(
            one,
            name="again",
            ops=(problem.ops[a], problem.ops[b]),
            needs=tuple(state for state in one.needs if state.tensor != f"t{a}"),
        )
        options = (*options, group) if b == a + 1 else options
    count = rng.randint(1, len(problem.ops))
    again = frozenset(rng.sample(problem.ops, count))
    return replace(problem, options=options, repeatable=again, pairs=(), tied=())


def three_stages(made: Pipelines, problem: Problem) -> Problem:
    """Of few operators; some transfers skip a stage."""
    if len(problem.options) > MOST_OPTIONS or problem.repeatable:
        return problem
    return replace(problem, stages=3, transfers=problem.transfers[:2])


def with_input(made: Pipelines, problem: Problem) -> Problem:
    """The model's input, read in either form; there is a cast."""
    first, rng = problem.ops[0], made.rng
    forms = ("plain", "q8")
    options = tuple(
        replace(o, needs=(*o.needs, State("x", rng.choice(forms)))) if first in o.ops else o
        for o in problem.options
    )
    plain, cast = (State("x", form) for form in forms)
    casts = (*problem.conversions, Conversion("cast", plain, cast, made.table()))
    return replace(problem, options=options, conversions=casts, given=(plain,))


def casts_of_places(made: Pipelines, problem: Problem) -> Problem:
    """Conversions are made for one place, and take energy."""
    rng, places = made.rng, [place.name for place in problem.places]
    changes = tuple(
        replace(c, place=rng.choice((None, *places)), energy_j=rng.randint(0, 4) / 8)
        for c in problem.conversions
    )
    return replace(problem, conversions=changes)


def cheaper_transfers(made: Pipelines, problem: Problem) -> Problem:
    """A tensor may cross in another form than it was made in."""
    rng = made.rng
    there = {state for option in problem.options for state in (*option.needs, *option.makes)}
    there |= {change.target for change in problem.conversions}
    found: list[Transfer] = []
    for state in sorted(there, key=lambda each: (each.tensor, each.form)):
        other = State(state.tensor, "q8" if state.form == "plain" else "plain")
        if other in there and len(found) < 2:
            sizes = tuple(rng.randint(0, 4) for _ in range(made.shapes))
            found.append(Transfer(f"as{len(found)}", state, other, sizes, energy_j=0.125))
    return replace(problem, transfers=(*problem.transfers[:1], *found))


def two_stores(made: Pipelines, problem: Problem) -> Problem:
    """A slow one for all, and a fast one with little room that some options may use."""
    rng = made.rng
    fast = Store("peer", 0.25, 8.0, rng.randint(0, 2), (), rng.randint(5, 30), None, False, 1, 1.0)
    slow = Store("host", made.quarter(2), float(rng.choice((1, 2))), rng.randint(0, 2))
    barred = tuple(
        replace(o, stores=rng.choice((None, None, ("host",), ("peer",), ())))
        for o in problem.options
    )
    return replace(problem, options=barred, stores=(slow, fast))


def lacking(made: Pipelines, problem: Problem) -> Problem:
    """Some options and casts do not exist under the second setting."""
    rng = made.rng

    def cut(
        table: tuple[tuple[Latency | None, ...], ...],
    ) -> tuple[tuple[Latency | None, ...], ...]:
        none = (None,) * made.shapes
        return tuple(none if n and rng.random() < 0.4 else row for n, row in enumerate(table))

    return replace(
        problem,
        options=tuple(replace(o, latency=cut(o.latency)) for o in problem.options),
        conversions=tuple(replace(c, latency=cut(c.latency)) for c in problem.conversions),
    )


def uncertain_tails(made: Pipelines, problem: Problem) -> Problem:
    """The percentile's factor is an interval."""
    limits = problem.limits
    if limits.latency_us is None:
        limits = replace(limits, latency_us=float(made.rng.randint(10, 30 * len(problem.ops))))
    settings = tuple(
        replace(s, tail_factors=(1.5,) * made.shapes, tail_low_factors=(1.0,) * made.shapes)
        for s in problem.settings
    )
    return replace(problem, settings=settings, limits=limits)


TWISTS: tuple[Twist, ...] = (
    repeated,
    three_stages,
    with_input,
    casts_of_places,
    cheaper_transfers,
    two_stores,
    lacking,
    uncertain_tails,
)
