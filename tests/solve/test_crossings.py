"""What the boundaries of chains cut at least, against enumeration; walks from chain to chain."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from planner.ir.assignment import Contiguity
from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution, Status
from planner.solve.assign.anneal import state_of
from planner.solve.assign.closure import Between, cheapest, nets_of
from planner.solve.assign.crossings import Crossings, are_few, raise_by_crossings, sequences
from planner.solve.assign.evaluate import check_assignment, options_at
from planner.solve.assign.glue import least_load_us
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial, spread
from planner.solve.assign.walk import chain_of, walk
from planner.solve.solve import solve
from tests.solve.test_assign import Maker, answers, wide


def layers(seed: int, count: int) -> Problem:
    """Chains of layers of operators that all read the layer before."""
    problem = replace(wide(count, seed), objectives=(Objective.PERIOD,))
    assert problem.assignment is not None
    slots = tuple(replace(slot, is_unlimited=False) for slot in problem.assignment.slots)
    asked = replace(problem.assignment, slots=slots, is_scheduled=False)
    return replace(problem, assignment=replace(asked, contiguity=Contiguity.CHAIN))


def problems() -> Iterator[Problem]:
    """Small ones of both makers."""
    for seed in range(150):
        yield Maker(seed, scheduled=False, contiguity=Contiguity.CHAIN).problem()
    for seed in range(60):
        yield layers(seed, 7)


def test_boundaries_bound_every_plan_below_a_cutoff() -> None:
    said = 0
    for problem in problems():
        least = min(answers(problem), default=math.inf)
        if math.isinf(least) or not least:
            continue
        groups = initial(problem)
        if not np.isfinite(groups.time_us.min(axis=0)).all():
            continue
        known = Crossings(groups)
        counts = [len(kind.slots) for kind in groups.kinds]
        for factor in (1.0001, 1.05, 1.4, 3.0):
            every = [known.least_us(kinds, factor * least)[0] for kinds in sequences(counts)]
            assert min(every) <= least * (1 + 1e-9)
            said += min(every) > least_load_us(groups) * (1 + 1e-6)
    assert said >= 15


def ideals(groups: Groups) -> Iterator[np.ndarray]:
    for chosen in itertools.product((False, True), repeat=groups.count):
        if all(chosen[a] or not chosen[b] for a, b in groups.order):
            yield np.array(chosen, dtype=np.bool_)


def test_the_cheapest_ideal_is_no_dearer_than_any() -> None:
    tight = 0
    for number, problem in enumerate(problems()):
        rng = random.Random(number)
        groups = initial(problem)
        if not groups.count or not groups.nets:
            continue
        nets, work = nets_of(groups), np.array([rng.randint(0, 9) / 4 for _ in range(groups.count)])
        every = list(ideals(groups))
        inside, outside = rng.choice(every), rng.choice(every)
        inside, outside = inside & outside, ~(inside | outside)
        charge = np.array([rng.randint(0, 8) / 4 for _ in groups.nets])
        low, high = sorted(rng.uniform(0, float(work.sum())) for _ in range(2))
        bound, found = cheapest(nets, work, Between(inside, outside, charge, low, high))
        values = [_cost(groups, charge, each) for each in every if _is_asked(each, inside, outside)]
        loads = [work[each].sum() for each in every if _is_asked(each, inside, outside)]
        fits = [value for value, load in zip(values, loads, strict=True) if low <= load <= high]
        assert bound <= min(fits, default=math.inf) + 1e-9
        assert _is_asked(found, inside, outside)
        assert any((found == each).all() for each in every)
        tight += bool(fits) and bound >= min(fits) - 1e-6
    assert tight >= 40


def _is_asked(ideal: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> bool:
    return not (inside & ~ideal).any() and not (outside & ideal).any()


def _cost(groups: Groups, charge: np.ndarray, ideal: np.ndarray) -> float:
    total = 0.0
    for net, cost in zip(groups.nets, charge.tolist(), strict=True):
        held = [bool(ideal[v]) for v in (net.source, *net.targets)]
        total += cost * (any(held) and not all(held))
    return total


def test_orders_of_kinds() -> None:
    assert sorted(sequences((2, 1))) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
    assert are_few((6, 1))
    assert not are_few((6, 6))


def test_the_bound_rises_and_stays_below_the_optimum() -> None:
    for seed in range(40):
        problem = layers(seed, 7)
        best = Incumbent(problem, time.monotonic() + 20, seed, 1, 0.0)
        exact = solve(problem, time_limit_s=20.0, workers=1)
        if not exact.slots:
            continue
        assert problem.assignment is not None
        names = [slot.name for slot in problem.assignment.slots]
        best.offer([names.index(slot) for _, slot in exact.slots], "known")
        raise_by_crossings(best, initial(problem), time.monotonic() + 5)
        assert best.bound_us <= exact.objective[0] * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_walks_go_from_chain_to_chain(seed: int) -> None:
    problem = layers(seed, 24)
    groups = initial(problem)
    best = Incumbent(problem, time.monotonic() + 20, seed, 1, 0.0)
    exact = solve(problem, time_limit_s=20.0, workers=1)
    assert problem.assignment is not None
    if not exact.slots:
        pytest.skip("no plan")
    able = [
        slot
        for k, kind in enumerate(groups.kinds)
        for slot in kind.slots
        if np.isfinite(groups.time_us[k]).all()
    ]
    start = [able[-1]] * groups.count
    found = walk(groups, start, 20_000, random.Random(seed), lambda: False)
    assert len(chain_of(groups, found)) == len(set(found))
    assert best.offer(spread(groups, found), "walk")
    assert best.value_us == pytest.approx(state_of(groups, found).largest)
    assert best.value_us >= exact.objective[0] * (1 - 1e-9)
    slot_of = dict(zip(problem.ops, spread(groups, found), strict=True))
    names = tuple((op, problem.assignment.slots[slot].name) for op, slot in slot_of.items())
    chosen = tuple(option.name for option in options_at(problem, slot_of))
    answer = Solution(Status.FEASIBLE, chosen, slots=names)
    assert not check_assignment(problem, answer)[1]


def test_what_is_no_chain_is_left_alone() -> None:
    """Glued groups may tear the best plan: what they leave of it need not be a chain."""
    problem = layers(3, 12)
    groups = initial(problem)
    slots = [slot for kind in groups.kinds for slot in kind.slots]
    torn = [slots[v % 2] for v in range(groups.count)]
    assert len(chain_of(groups, torn)) < len(set(torn))
    assert walk(groups, torn, 1_000, random.Random(0), lambda: False) == torn
