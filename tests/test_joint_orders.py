"""Joint against sequential planning: steps keep what was decided, plans are checked."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from benchmarks.joint_models import Case, make
from benchmarks.joint_pipelines import Sequential, ways
from benchmarks.joint_steps import FAMILIES, Decided, Step, fixed, posed, split_of, translated
from planner.ir.devices import Device
from planner.ir.problem import Problem
from planner.solve.check import check, priced
from planner.solve.solve import solve


@pytest.fixture(scope="module")
def problem() -> Problem:
    """One block of a ResNet on two GPUs, memory short of int8."""
    made = make(Case("resnet", 7, 2, pressure=2.2, budget=0.4, tokens=(64, 32), is_lean=True))
    return replace(made, stores=(replace(made.stores[0], ahead=4),))


def test_every_order_is_there_once_a_way() -> None:
    found = list(ways())
    assert {way.order for way in found} == set(permutations(FAMILIES))
    assert len({(way.order, way.steps, way.compression) for way in found}) == len(found)
    assert all([step.family for step in way.steps] == list(way.order) for way in found)


def test_steps_keep_what_was_decided(problem: Problem) -> None:
    options = {option.name: option for option in problem.options}
    decided = Decided()
    steps = [Step(family, keeps_memory=False) for family in ("compress", "fuse", "swap", "place")]
    for number, step in enumerate(steps):
        plan = solve(posed(problem, decided, step), time_limit_s=5.0, gap=0.01, workers=1)
        named = translated(plan)
        assert not check(replace(problem, devices=_unlimited(problem)), named)
        chosen = [options[name] for name in named.chosen]
        if decided.formats is not None:
            assert all(o.format == decided.formats[o.ops[0]] for o in chosen)
        if decided.groups is not None:
            assert {o.ops for o in chosen if len(o.ops) > 1} == set(decided.groups)
        if decided.splits is not None:
            assert all(split_of(o) == decided.splits[o.ops[0]] for o in chosen)
        decided = fixed(problem, decided, step, named)
        assert (decided.groups is not None) == (number >= 1)


def _unlimited(problem: Problem) -> tuple[Device, ...]:
    return tuple(replace(device, memory_size_bytes=None) for device in problem.devices)


def test_no_order_beats_the_joint_plan(problem: Problem) -> None:
    joint = solve(problem, time_limit_s=10.0, gap=1e-4, workers=1)
    planner = Sequential(problem, 2.0)
    chosen = [way for way in ways() if way.order[0] == "compress" and way.order[1] == "place"]
    plans = [plan for way in chosen if (plan := planner.plan(way)) is not None]
    assert plans
    for plan in plans:
        assert not check(problem, plan)
        assert priced(problem, plan).weighted_latency_us >= joint.bound[0] * (1 - 1e-6)
    assert planner.solves < sum(len(way.steps) for way in chosen)
