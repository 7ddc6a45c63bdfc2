"""Bounds from what single slots hold, against enumeration of sets and of assignments."""

from __future__ import annotations

import itertools
import math
import random
import time

import numpy as np
import pytest

from planner.ir.assignment import Assignment, Contiguity, Crossing, Slot
from planner.ir.devices import Device, Place
from planner.ir.problem import Latency, Objective, Problem, Setting
from planner.solve.assign import frontier
from planner.solve.assign import fullest as pricing
from planner.solve.assign.completions import Slot as Walks
from planner.solve.assign.frontier import layers
from planner.solve.assign.glue import glue, least_load_us
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial
from planner.solve.assign.packing import NAME, Packing, packing_of
from planner.solve.assign.rates import with_rates
from planner.solve.data import BoolArray, FloatArray
from planner.solve.pace import never
from tests.solve.test_assign import Maker, answers, free, option

BELOW = 1 - 1e-9
"""Cutoffs lie that much below the plan that they are of."""


def load_us(groups: Groups, kind: int, inside: BoolArray) -> float:
    """Of a slot that holds a set, by the definition."""
    nets = [net for net in groups.nets if groups.kinds[kind].pays]
    cut = [net.cost_us for net in nets if len({inside[v] for v in (net.source, *net.targets)}) == 2]
    return math.fsum([*groups.time_us[kind][inside], *cut])


def sets_of(count: int) -> list[BoolArray]:
    return [np.array(bits, np.bool_) for bits in itertools.product((False, True), repeat=count)]


def prices_of(rng: random.Random, count: int) -> FloatArray:
    """Of any sign, some of them alike."""
    return np.array([rng.choice((-1.0, 0.0, 1.0, 1.0, rng.uniform(-2, 4))) for _ in range(count)])


@pytest.mark.parametrize("most", [2_000_000, 40])
def test_no_set_is_worth_more_than_the_fullest(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where labels are few enough to keep, the bound is that of the best set, up to a tolerance."""
    monkeypatch.setattr(pricing, "LABELS", most)
    loose = 0
    for seed in range(60):
        rng = random.Random(seed)
        groups = initial(free(seed, 8))
        for kind in range(len(groups.kinds)):
            walk = layers(groups, kind)
            assert walk is not None
            prices, cutoff = prices_of(rng, groups.count), rng.uniform(0.5, 12)
            within = [s for s in sets_of(groups.count) if load_us(groups, kind, s) <= cutoff]
            best = max(float(prices[s].sum()) for s in within)
            slot = Walks(walk, groups.time_us[kind], cutoff)
            found = pricing.fullest(slot, prices, 1e-6, never)
            assert found.bound >= best
            assert all(load_us(groups, kind, s) <= cutoff * (1 + 1e-8) for s in found.sets)
            loose += found.bound > best + 1e-4
            if most > 1_000:
                assert max((float(prices[s].sum()) for s in found.sets), default=0.0) >= best - 1e-5
    assert bool(loose) == (most < 1_000)


def narrow(groups: Groups) -> Packing:
    """Of a graph that is narrow."""
    found = packing_of(groups)
    assert found is not None
    return found


def bounded(problem: Problem, cutoff_us: float) -> Incumbent:
    """What is proved of plans below a cutoff that is known to be no worse than the best."""
    best = Incumbent(problem, time.monotonic() + 20, 0, 1, 0.0)
    groups = glue(with_rates(initial(problem)), cutoff_us, is_acyclic=False)
    best.raise_bound(least_load_us(groups), "load")
    narrow(groups).raise_bound(best, cutoff_us, best.deadline)
    return best


def test_packings_bound_the_optimum() -> None:
    raised, proved, solved = 0, 0, 0
    for seed in range(80):
        problem = Maker(seed, scheduled=False, contiguity=Contiguity.FREE).problem()
        least = min(answers(problem), default=math.inf)
        if not 0 < least < math.inf:
            continue
        best = bounded(problem, least + 1e-6)
        assert best.bound_us <= least + 1e-6
        solved += 1
        raised += NAME in best.used
        proved += best.bound_us >= least * (1 - 1e-3)
    assert solved > 40
    assert raised > solved / 4
    assert proved > 0.9 * solved


def layers_of_a_chain(count: int, slots: int, crossing: float) -> Problem:
    """Equal operators one after another."""
    return Problem(
        ops=tuple(f"o{n}" for n in range(count)),
        edges=tuple((f"o{n}", f"o{n + 1}") for n in range(count - 1)),
        options=tuple(option(n, "gpu", 4.0) for n in range(count)),
        settings=(Setting("any", (Latency(0.0, 0.0, 0.0),)),),
        objectives=(Objective.PERIOD,),
        places=(Place("gpu", "gpu"),),
        devices=(Device("gpu"),),
        assignment=Assignment(
            tuple(Slot(f"gpu {n}", "gpu") for n in range(slots)),
            tuple(Crossing(f"o{n}", crossing) for n in range(count - 1)),
            contiguity=Contiguity.FREE,
        ),
    )


def test_equal_layers_are_counted_whole() -> None:
    """25 layers on six slots: five in one of them, and a crossing at least."""
    best = bounded(layers_of_a_chain(25, 6, 0.25), 20.25 * BELOW)
    assert best.bound_us == pytest.approx(20.25)


def test_the_middle_of_a_chain_pays_twice() -> None:
    """Nine layers on three slots: the ends pay one crossing each, so that one slot alone proves
    13; what is between them pays two."""
    best = bounded(layers_of_a_chain(9, 3, 1.0), 14.0 * BELOW)
    assert best.bound_us == pytest.approx(14.0)


def test_wide_graphs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "MOST_OPEN", 0)
    assert packing_of(initial(free(0, 8))) is None


def test_a_time_that_is_over_proves_nothing() -> None:
    problem = layers_of_a_chain(9, 3, 1.0)
    best = Incumbent(problem, time.monotonic(), 0, 1, 0.0)
    packing = narrow(initial(problem))
    packing.raise_bound(best, 14.0, time.monotonic() - 1)
    assert best.is_clocked
    assert best.bound_us == 0
    assert not packing.refutes(13.0, time.monotonic() - 1)
    assert packing_of(initial(problem), time.monotonic() - 1) is None
