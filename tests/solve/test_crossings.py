"""What the boundaries of chains cut at least, against enumeration; walks from chain to chain."""

from __future__ import annotations

import itertools
import math
import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import repeat

import numpy as np
import pytest

from planner.ir.assignment import Contiguity
from planner.ir.problem import Objective, Problem
from planner.ir.solution import Solution, Status
from planner.solve.assign.anneal import state_of
from planner.solve.assign.closure import Between, Chains, nets_of
from planner.solve.assign.crossings import are_few, raise_by_crossings, sequences
from planner.solve.assign.evaluate import check_assignment, options_at
from planner.solve.assign.glue import least_load_us
from planner.solve.assign.ideals import TooManyError
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial, spread
from planner.solve.assign.known import Known
from planner.solve.assign.linear import Cut, slots_of
from planner.solve.assign.narrowed import Narrowed
from planner.solve.assign.ordered import best_ordered
from planner.solve.assign.program import Effort
from planner.solve.assign.walk import chain_of, walk
from planner.solve.assign.within import ALL_ROWS, Settled, settle_within
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


EFFORT = Effort(20.0, linearization=ALL_ROWS)
EXAMPLES = max(16, int(os.environ.get("INFOPT_EXAMPLES", "0")))


@cache
def optima() -> tuple[tuple[Groups, float], ...]:
    """Small problems with their least largest load."""
    return tuple(_optima())


def _optima() -> Iterator[tuple[Groups, float]]:
    makers = (Maker(s, scheduled=False, contiguity=Contiguity.CHAIN) for s in range(EXAMPLES))
    for problem in (*(maker.problem() for maker in makers), *map(layers, range(8), repeat(6))):
        least = min(answers(problem), default=math.inf)
        groups = initial(problem)
        if math.isfinite(least) and least and np.isfinite(groups.time_us.min(axis=0)).all():
            yield groups, least


def narrowed(groups: Groups, cutoff_us: float, turns: int) -> Iterator[Narrowed]:
    """The boundaries of every order of the kinds."""
    known = Known(groups, nets_of(groups))
    for kinds in sequences([len(kind.slots) for kind in groups.kinds]):
        found = Narrowed(known, kinds, cutoff_us)
        found.bound()
        for _ in range(turns):
            found.narrow(lambda: False)
            found.bound()
        yield found


def test_boundaries_bound_every_plan_below_a_cutoff() -> None:
    said = narrower = 0
    for groups, least in optima():
        for factor, turns in ((1.0001, 1), (1.05, 0)):
            every = list(narrowed(groups, factor * least, turns))
            bound = min(each.bound_us for each in every)
            assert bound <= least * (1 + 1e-9)
            said += bound > least_load_us(groups) * (1 + 1e-6)
            wide = [Narrowed(each.known, each.kinds, factor * least) for each in every]
            narrower += sum(each.free for each in every) < sum(each.free for each in wide)
    assert said >= 8
    assert narrower >= 4


def test_the_best_chain_of_all_orders_is_the_optimum() -> None:
    """No boundary of the best plan is cut off, and below it there is nothing."""
    lists = 0
    for groups, least in optima():
        for factor, turns in ((1.0001, 1), (1.2, 0)):
            found = math.inf
            for each in narrowed(groups, factor * least, turns):
                cut = None if each.is_refuted else best_ordered(each, lambda: False)
                lists += cut is not None
                found = min(found, math.inf if cut is None else cut.value_us)
            assert found == pytest.approx(least, rel=1e-9)
        for each in narrowed(groups, 0.999 * least, 1):
            assert each.is_refuted or best_ordered(each, lambda: False) is None
    assert lists >= 15


def load_of(groups: Groups, cut: Cut) -> float:
    """The largest load of a chain."""
    slots = slots_of(groups, cut)
    return state_of(groups, [slots[members[0]] for members in groups.members]).largest


def test_cp_sat_within_boundaries_finds_the_optimum_and_nothing_below_it() -> None:
    """No plan is cut off by boundaries or rounding, and what is found is priced as it is."""
    solved = 0
    for groups, least in optima():
        for factor, turns in ((1.0001, 1), (1.2, 0)):
            bounds, cuts = [], list[Cut]()
            for each in narrowed(groups, factor * least, turns):
                if not each.is_refuted:
                    found = settle_within(each, EFFORT, cuts.append)
                    bounds.append(found.bound_us)
                    solved += found.is_solved
            assert min(bounds) == pytest.approx(least, rel=1e-8)
            loads = [load_of(groups, cut) for cut in cuts]
            assert min(loads) == pytest.approx(least, rel=1e-8)
        for each in narrowed(groups, 0.999 * least, 1):
            if not each.is_refuted:
                assert settle_within(each, EFFORT, cuts.append).bound_us == each.cutoff_us
    assert solved >= 15


def test_listing_gives_up_where_ideals_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.solve.assign.listing.MOST_ROWS", 1)
    groups, least = next((g, v) for g, v in optima() if g.slot_count > 1 and g.count > 4)
    first = next(narrowed(groups, 3 * least, 0))
    with pytest.raises(TooManyError):
        best_ordered(first, lambda: False)


def ideals(groups: Groups) -> Iterator[np.ndarray]:
    for chosen in itertools.product((False, True), repeat=groups.count):
        if all(chosen[a] or not chosen[b] for a, b in groups.order):
            yield np.array(chosen, dtype=np.bool_)


def test_the_cheapest_chain_is_no_dearer_than_any() -> None:
    tight = 0
    for number, problem in enumerate(problems()):
        rng = random.Random(number)
        groups = initial(problem)
        if not groups.count or not groups.nets:
            continue
        nets, every = nets_of(groups), list(ideals(groups))
        low, high = rng.choice(every), rng.choice(every)
        first = Between(low & high, ~(low | high), np.ones(len(groups.nets), dtype=np.bool_))
        more = rng.choice(every)
        second = replace(first, inside=first.inside | more, outside=first.outside & ~more)
        asked = [first, second]
        charges = [np.array([rng.randint(0, 8) / 4 for _ in groups.nets]) for _ in asked]
        weights = [np.array([rng.randint(-9, 9) / 4 for _ in range(groups.count)]) for _ in asked]
        bound, (a, b) = Chains(nets, asked).cheapest(weights, charges)
        values = {
            (x.tobytes(), y.tobytes()): sum(
                float(weight[each].sum()) + _cost(groups, charge, each)
                for weight, charge, each in zip(weights, charges, (x, y), strict=True)
            )
            for x, y in itertools.product(every, repeat=2)
            if not (x & ~y).any() and _is_asked(x, first) and _is_asked(y, second)
        }
        assert bound <= min(values.values()) + 1e-9
        assert bound == pytest.approx(min(values.values()), abs=1e-5)
        assert values[a.tobytes(), b.tobytes()] == pytest.approx(bound, abs=1e-5)
        tight += len(values) > 3
    assert tight >= 40


def _is_asked(ideal: np.ndarray, between: Between) -> bool:
    return not (between.inside & ~ideal).any() and not (between.outside & ideal).any()


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


def test_ctrl_c_while_cp_sat_searches_ends_all_searching(monkeypatch: pytest.MonkeyPatch) -> None:
    """CP-SAT hears it in the caller's place; nobody else would."""
    asked: list[Narrowed] = []

    def stopped(narrowed: Narrowed, *_: object) -> Settled:
        asked.append(narrowed)
        return Settled(narrowed.bound_us, is_solved=False, is_interrupted=True)

    monkeypatch.setattr("planner.solve.assign.listing.MOST_ROWS", 1)
    monkeypatch.setattr("planner.solve.assign.within.settle_within", stopped)
    problem = layers(2, 24)
    groups = initial(problem)
    able = [
        k.slots[0]
        for k, us in zip(groups.kinds, groups.time_us, strict=True)
        if np.isfinite(us).all()
    ]
    best = Incumbent(problem, time.monotonic() + 20, 0, 1, 0.0)
    best.offer([able[0]] * len(problem.ops), "one slot")
    with pytest.raises(KeyboardInterrupt):
        raise_by_crossings(best, groups, time.monotonic() + 3)
    assert len(asked) == 1


def test_the_bound_rises_and_stays_below_the_optimum() -> None:
    for seed in range(12):
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
    found = walk(groups, start, 20_000, random.Random(seed), lambda done: done)
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
    assert walk(groups, torn, 1_000, random.Random(0), lambda done: done) == torn
