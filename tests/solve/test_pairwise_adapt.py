"""Planning problems of pairwise structure, against enumeration by the checker's own prices."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import UsageError
from planner.ir.devices import Hold
from planner.ir.problem import (
    Latency,
    Limits,
    Objective,
    Option,
    Pair,
    Problem,
    Setting,
    State,
)
from planner.ir.solution import Solution, Status
from planner.solve.check import check, price
from planner.solve.pairwise.adapt import has_pairs, is_pairwise, solve_adapted
from planner.solve.solve import solve
from planner.solve.validate import validate


def _latency(us: float) -> Latency:
    return Latency(0.9 * us, us, 1.1 * us)


def drawn(rng: random.Random) -> Problem:
    """Up to five operators with up to three options each, two shapes, holds, weights, pairs."""
    ops = tuple(f"op{number}" for number in range(rng.randrange(1, 6)))
    options = []
    for op in ops:
        for k in range(rng.randrange(1, 4)):
            holds = tuple(
                Hold(start, start + rng.randrange(4), rng.randrange(9))
                for start in (rng.randrange(5) for _ in range(rng.randrange(3)))
            )
            row = (_latency(rng.random() * 9), _latency(rng.random() * 9))
            options.append(
                Option(
                    f"{op}:{k}",
                    (op,),
                    "fp16",
                    (row,),
                    weight_size_bytes=rng.randrange(9),
                    cache_size_bytes=rng.randrange(3),
                    holds=holds,
                )
            )
    counts = {op: sum(option.ops == (op,) for option in options) for op in ops}
    pairs = []
    for _ in range(rng.randrange(6)) if len(ops) > 1 else ():
        first, second = rng.sample(ops, 2)
        size = counts[first] * counts[second]
        costs = tuple(rng.choice((0.0, 1.5, rng.random() * 9, math.inf)) for _ in range(size))
        pairs.append(Pair(first, second, costs))
    return Problem(
        ops,
        (),
        tuple(options),
        (Setting("s", (_latency(2.0), _latency(3.0)), size_bytes=1),),
        shape_weights=(1.0, 2.5),
        activation_size_bytes=2,
        limits=Limits(memory_size_bytes=rng.choice((None, 2, 15, 25, 40))),
        objectives=(Objective.LATENCY,),
        pairs=tuple(pairs),
    )


def least(problem: Problem) -> float | None:
    """By trying every choice, priced and checked by the checker."""
    rows = [[o.name for o in problem.options if o.ops == (op,)] for op in problem.ops]
    found = []
    for chosen in itertools.product(*rows):
        totals = price(problem, chosen, (), "s")
        if not check(problem, Solution(Status.FEASIBLE, chosen, (), "s")):
            found.append(totals.weighted_latency_us)
    return min((us for us in found if math.isfinite(us)), default=None)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_equals_enumeration(seed: int) -> None:
    """Value and status agree; the bound is proved."""
    problem = drawn(random.Random(seed))
    validate(problem)
    assert is_pairwise(problem)
    expected = least(problem)
    answer = solve if has_pairs(problem) else solve_adapted
    solution = answer(problem, time_limit_s=30)
    if expected is None:
        assert solution.status is Status.INFEASIBLE
        return
    assert solution.status is Status.OPTIMAL
    assert solution.objective[0] == pytest.approx(expected, rel=1e-9)
    assert solution.bound[0] == pytest.approx(expected, rel=1e-9)
    assert check(problem, solution) == ()


def test_other_structures_are_left_alone() -> None:
    """A second objective, a state that must be made, a group of two: not this path."""
    problem = drawn(random.Random(0))
    assert is_pairwise(problem)
    others = (
        replace(problem, objectives=(Objective.LATENCY, Objective.ERROR)),
        replace(problem, wanted=(State("y", "plain"),)),
        replace(problem, limits=Limits(latency_us=5.0)),
        replace(problem, settings=problem.settings * 2),
        replace(problem, options=(replace(problem.options[0], ops=problem.ops[:2]),)),
    )
    assert [is_pairwise(other) for other in others[:4]] == [False] * 4
    assert is_pairwise(others[4]) is (len(problem.ops) == 1)


def test_the_product_uses_it() -> None:
    """Pair costs and holds without places: `solve` comes here, and refuses what nobody heeds."""
    problem = next(
        found for seed in range(50) if (found := drawn(random.Random(seed))).pairs and least(found)
    )
    assert "messages" in solve(problem, time_limit_s=30).solver
    plain = replace(
        problem, pairs=(), options=tuple(replace(option, holds=()) for option in problem.options)
    )
    assert not has_pairs(plain)
    with pytest.raises(UsageError, match="no place"):
        solve(replace(problem, limits=Limits(error=1.0)))
