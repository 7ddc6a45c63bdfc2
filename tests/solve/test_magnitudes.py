"""Assignments whose times and sizes are beyond 64 bits in whole units, against enumeration."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from planner.ir.assignment import Contiguity
from planner.ir.problem import Latency, Problem
from planner.ir.solution import Status
from planner.solve.assign.free_model import build_free
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import initial
from planner.solve.assign.one_slot import raise_by_one_slot
from planner.solve.assign.packing import packing_of
from planner.solve.assign.program import MOST_BITS, Effort, fitted, search
from planner.solve.backend import Answer
from planner.solve.solve import solve
from tests.solve.test_assign import Maker, answers, compare, solved

FORMS = (
    (False, Contiguity.FREE),
    (False, Contiguity.CHAIN),
    (True, Contiguity.CONVEX),
)


def changed(problem: Problem, factor: Callable[[], float], size: Callable[[], int]) -> Problem:
    """Every time and crossing, and every size, times a factor of its own."""
    assert problem.assignment is not None
    options = []
    for option in problem.options:
        latency = option.latency[0][0]
        assert latency is not None
        us = latency.expected_us * factor()
        held = option.weight_size_bytes * size()
        now = replace(option, latency=((Latency(us, us, us),),), weight_size_bytes=held)
        options.append(now)
    crossings = tuple(
        replace(crossing, latency_us=crossing.latency_us * factor())
        for crossing in problem.assignment.crossings
    )
    assignment = replace(problem.assignment, crossings=crossings)
    return replace(problem, options=tuple(options), assignment=assignment)


def extreme(problem: Problem, seed: int) -> Problem:
    """Magnitudes 48 orders apart, in units of any size."""
    rng = random.Random(seed)
    unit = rng.choice((1.0, 1e-200, 1e200, 1e12, 1e-12))
    return changed(
        problem,
        lambda: unit * rng.choice((1.0, 1.0, 1.0, 10.0 ** rng.randint(-12, 18))),
        lambda: rng.choice((1, 1, 2 ** rng.randint(0, 60))),
    )


@pytest.mark.parametrize(("is_scheduled", "contiguity"), FORMS)
def test_times_and_sizes_of_any_magnitude(
    is_scheduled: bool,
    contiguity: Contiguity,
) -> None:
    for seed in range(24):
        maker = Maker(seed, scheduled=is_scheduled, contiguity=contiguity)
        compare(extreme(maker.problem(), seed))


def test_bounds_of_any_magnitude() -> None:
    """Of programs that small problems are proved without."""
    raised = 0
    for seed in range(12):
        maker = Maker(seed, scheduled=False, contiguity=Contiguity.FREE)
        problem = extreme(maker.problem(), seed)
        least = min(answers(problem), default=math.inf)
        if not 0 < least < math.inf:
            continue
        cutoff, until = least * (1 + 1e-6), time.monotonic() + 20
        groups = initial(problem)
        best = Incumbent(problem, until, seed, 1, 0.0)
        raise_by_one_slot(best, groups, cutoff, until)
        packing = packing_of(groups)
        assert packing is not None
        packing.raise_bound(best, cutoff, until)
        assert 0 <= best.bound_us <= cutoff
        raised += best.bound_us > 0.99 * least
        model = build_free(groups, cutoff)
        assert model is not None
        found = search(model.program, Effort(20.0, seed))
        assert found.answer is Answer.OPTIMAL
        assert found.bound * model.unit_us <= cutoff
    assert raised > 3


@pytest.mark.parametrize(("is_scheduled", "contiguity"), FORMS)
@pytest.mark.parametrize("power", [-500, 500])
def test_a_scaled_problem_has_the_same_plan(
    is_scheduled: bool,
    contiguity: Contiguity,
    power: int,
) -> None:
    for seed in range(8):
        problem = Maker(seed, scheduled=is_scheduled, contiguity=contiguity).problem()
        scaled = changed(problem, lambda: 2.0**power, lambda: 1)
        plain, other = (solve(p, time_limit_s=20.0, workers=1) for p in (problem, scaled))
        assert other.status is plain.status
        assert other.slots == plain.slots
        if plain.status is Status.OPTIMAL:
            assert other.objective[0] == plain.objective[0] * 2.0**power


def test_times_that_stand_for_never_hide_no_schedule() -> None:
    """Loads are differences of sums: beside 1e16 a time of 1 would be lost."""
    for seed in range(40):
        problem = Maker(seed, scheduled=True, contiguity=Contiguity.CONVEX).problem()
        rng = random.Random(seed)

        def factor(rng: random.Random = rng) -> float:
            return 1e16 if rng.random() < 0.2 else 1.0

        found = solved(changed(problem, factor, lambda: 1), 20.0)
        if found is not None:
            solution, least = found
            assert solution.status is Status.OPTIMAL
            assert solution.objective[0] == pytest.approx(least, rel=1e-9)


def test_rows_of_large_amounts_are_weaker() -> None:
    """Whatever kept the row keeps it in the coarser unit, which fits."""
    rng = random.Random(0)
    for _ in range(200):
        amounts = [rng.getrandbits(rng.randint(1, 90)) for _ in range(6)]
        taken = [amount for amount in amounts if rng.random() < 0.5]
        most = sum(taken) + rng.getrandbits(rng.randint(1, 90))
        fewer, room = fitted(amounts, most)
        assert max(sum(fewer), room).bit_length() <= MOST_BITS
        assert sum(fewer[amounts.index(amount)] for amount in taken) <= room
    assert fitted([3, 4], 5) == ([3, 4], 5)
