"""Bounds of chains by branching, and of all orders of the kinds at once, also where a kind of slot
cannot run every group: against enumeration."""

from __future__ import annotations

import itertools
import math
import random
import time
from dataclasses import replace

import numpy as np
import pytest

from planner.ir.assignment import Assignment, Contiguity, Crossing, Slot
from planner.ir.problem import Latency, Problem
from planner.solve.assign.branched import raise_by_branching
from planner.solve.assign.closure import nets_of
from planner.solve.assign.crossings import pooled
from planner.solve.assign.glue import least_load_us
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial
from planner.solve.assign.known import Known
from planner.solve.assign.narrowed import Narrowed
from planner.solve.assign.orders import in_turns, orders
from planner.solve.assign.rates import with_rates
from planner.solve.assign.seed import seed as first_plans
from planner.solve.assign.stages import prove_by_stages
from planner.solve.assign.walk import walk_on
from planner.solve.solve import solve
from tests.solve.test_assign import Maker, answers, option
from tests.solve.test_crossings import layers, narrowed


def partial(seed: int) -> Problem:
    """A third of the operators runs on the CPUs only, of which there are one or two."""
    maker = Maker(seed, scheduled=False, contiguity=Contiguity.CHAIN)
    rng = random.Random(seed)
    options = [option(op, "cpu", rng.randint(1, 12) / 4) for op in range(maker.count)]
    able = [op for op in range(maker.count) if rng.random() < 0.65]
    options += [option(op, "gpu", rng.randint(0, 4) / 4, rng.randint(0, 5)) for op in able]
    problem = replace(maker.problem(), options=tuple(options))
    assert problem.assignment is not None
    slots = [Slot(f"gpu {n}", "gpu") for n in range(rng.randint(1, 2))]
    slots += [Slot(f"cpu {n}", "cpu", pays_crossings=False) for n in range(rng.randint(1, 2))]
    return replace(problem, assignment=replace(problem.assignment, slots=tuple(slots)))


def test_all_orders_at_once_are_bounded() -> None:
    """As far as their cheapest one, and no farther than the best plan; by what slots cannot run
    where that is most of it."""
    said = more = 0
    for seed in range(36):
        problem = partial(seed)
        least = min(answers(problem), default=math.inf)
        groups = with_rates(initial(problem))
        known = Known(groups, nets_of(groups))
        kinds = pooled(known, [len(kind.slots) for kind in groups.kinds])
        for factor in (1.0001, 1.5):
            found = Narrowed(known, kinds, factor * least, is_pooled=True)
            found.bound(evaluations=40)
            assert found.bound_us <= least * (1 + 1e-9)
            said += found.bound_us > 0
            more += found.bound_us > least_load_us(groups) * (1 + 1e-6)
    assert said >= 40
    assert more >= 8


def test_branches_bound_every_chain_and_settle_all_parts() -> None:
    """Of small problems no part is left open: what is found is the optimum."""
    found = 0
    for seed in range(16):
        problem = layers(seed, 6) if seed % 2 else partial(seed)
        least = min(answers(problem), default=math.inf)
        groups = initial(problem)
        every = [slot for kind in groups.kinds for slot in kind.slots]
        best = Incumbent(problem, time.monotonic() + 20, seed, 1, 0.0)
        for slot in every:
            if np.isfinite(groups.time_us[_kind(groups, slot)]).all():
                best.offer([slot] * len(problem.ops), "one slot")
        if not math.isfinite(best.value_us) or not best.value_us:
            continue
        before = best.value_us
        wholes = list(narrowed(groups, best.cutoff_us, 0))
        assert raise_by_branching(best, wholes, time.monotonic() + 20)
        assert best.value_us == pytest.approx(least)
        assert best.is_proved
        found += best.value_us < before
    assert found >= 4


def _kind(groups: Groups, slot: int) -> int:
    return next(k for k, kind in enumerate(groups.kinds) if slot in kind.slots)


BLOCKS, WIDTH = 6, 5


def sums() -> Problem:
    """Blocks of branches that are summed up, cheap to leave between blocks only, on four devices
    that have to share six blocks."""
    rng, edges, ends = random.Random(0), list[tuple[int, int]](), [0]
    for block in range(BLOCKS):
        first = 1 + block * (WIDTH + 1)
        edges += [(ends[-1], first + branch) for branch in range(WIDTH)]
        ends.append(first + WIDTH)
        edges += [(first + branch, ends[-1]) for branch in range(WIDTH)]
    count = ends[-1] + 1
    times = [0.1 if op in ends else rng.uniform(0.8, 1.2) for op in range(count)]
    maker = Maker(0, scheduled=False, contiguity=Contiguity.CHAIN)
    return replace(
        maker.problem(),
        ops=tuple(f"o{op}" for op in range(count)),
        edges=tuple((f"o{a}", f"o{b}") for a, b in edges),
        options=tuple(option(op, "gpu", times[op]) for op in range(count)),
        assignment=Assignment(
            tuple(Slot(f"gpu {n}", "gpu") for n in range(4)),
            tuple(Crossing(f"o{op}", 1.0) for op in range(count - 1)),
            contiguity=Contiguity.CHAIN,
        ),
    )


def test_branching_says_more_where_sums_are_the_cheap_cuts() -> None:
    problem = sums()
    exact = solve(problem, time_limit_s=60.0, workers=1)
    groups = initial(problem)
    best = Incumbent(problem, time.monotonic() + 60, 0, 1, 0.0)
    names = [slot.name for slot in problem.assignment.slots] if problem.assignment else []
    best.offer([names.index(slot) for _, slot in exact.slots], "known")
    wholes = list(narrowed(groups, best.cutoff_us, 0))
    before = min(whole.bound_us for whole in wholes)
    raise_by_branching(best, wholes, time.monotonic() + 10)
    assert best.bound_us <= exact.objective[0]
    assert best.bound_us >= before + 0.3 * (exact.objective[0] - before)


def test_orders_in_turns_are_orders_of_long_turns() -> None:
    for seed in range(40):
        groups = initial(partial(seed))
        order = in_turns(groups)
        place = {group: number for number, group in enumerate(order)}
        assert sorted(order) == list(range(groups.count))
        assert all(place[a] < place[b] for a, b in groups.order)
        able = np.isfinite(groups.time_us)
        found = list(itertools.islice(orders(groups, random.Random(0)), 4))
        assert (order in found) or able.all()
        assert min(turns(groups, other) for other in found) >= turns(groups, order) - 1


def turns(groups: Groups, order: list[int]) -> int:
    """Stretches that the same kinds can run."""
    able = [tuple(column) for column in np.isfinite(groups.time_us).T.tolist()]
    return sum(1 for _ in itertools.groupby(order, key=able.__getitem__))


def test_chains_of_partial_kinds_are_optimal() -> None:
    for seed in range(40):
        problem = partial(seed)
        solution = solve(problem, time_limit_s=20.0, workers=1)
        least = min(answers(problem), default=math.inf)
        assert solution.objective[0] == pytest.approx(least)
        assert solution.bound[0] == pytest.approx(least, rel=1e-8)


def test_what_groups_leave_of_a_torn_plan_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have operators where they cannot run."""
    problem = next(p for p in map(partial, range(50)) if not np.isfinite(initial(p).time_us).all())
    groups = initial(problem)
    slots = {
        bool(np.isfinite(us).all()): kind.slots[0]
        for us, kind in zip(groups.time_us, groups.kinds, strict=True)
    }
    best = Incumbent(problem, time.monotonic() + 20, 0, 1, 0.0)
    assert best.offer([slots[True]] * len(problem.ops), "one slot")
    torn = [slots[False]] * groups.count
    monkeypatch.setattr("planner.solve.assign.walk.plan_of", lambda *_: torn)
    assert not walk_on(best, groups, random.Random(0), time.monotonic() + 5)


def test_loads_that_are_crossings_alone_are_bounded() -> None:
    """Nothing takes time, and not all fits on one slot: prices cannot follow speeds."""
    still, bounded = ((Latency(0.0, 0.0, 0.0),),), 0
    for seed in range(12):
        problem = layers(seed, 6)
        options = (replace(o, latency=still, weight_size_bytes=1) for o in problem.options)
        devices = tuple(replace(device, memory_size_bytes=4) for device in problem.devices)
        problem = replace(problem, options=tuple(options), devices=devices)
        least = min(answers(problem), default=math.inf)
        if not 0 < least < math.inf:
            continue
        found = min(each.bound_us for each in narrowed(initial(problem), 1.5 * least, 0))
        assert 0 <= found <= least * (1 + 1e-9)
        bounded += 1
    assert bounded >= 4


def test_times_of_all_magnitudes_are_searched() -> None:
    """Beyond the power of a load that is a float, and 64 bits of a cutoff's units."""
    walked = 0
    for seed in range(12):
        problem, rng = layers(seed, 6), random.Random(seed)
        options = []
        for one in problem.options:
            time_us = rng.uniform(1, 5) * 10 ** rng.uniform(-14, 14)
            options.append(replace(one, latency=((Latency(time_us, time_us, time_us),),)))
        problem = replace(problem, options=tuple(options))
        least, groups = min(answers(problem), default=math.inf), initial(problem)
        best = Incumbent(problem, time.monotonic() + 20, seed, 1, 0.0)
        first_plans(best, groups)
        if not 0 < best.cutoff_us < math.inf:
            continue
        walk_on(best, groups, rng, time.monotonic() + 20)
        prove_by_stages(best, groups, best.cutoff_us)
        assert best.bound_us <= least * (1 + 1e-9)
        assert best.value_us >= least * (1 - 1e-9)
        walked += 1
    assert walked >= 8
