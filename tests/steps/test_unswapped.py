"""Weights for which there is room do not stream, whatever a search left in host memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.ir.problem import Problem
from planner.ir.solution import Solution
from planner.place.variant import HOST
from planner.solve.check import check
from planner.solve.solve import solve
from planner.steps.away.unswapped import unswapped
from tests.steps.one_device import on_one_device

WIDTH = 1024
STREAMED = f"@{HOST}"


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    """A transformer of two layers on one device, 48 MiB of weights in 16 bits."""
    return on_one_device(tmp_path_factory.mktemp("wide"), WIDTH)


def all_streaming(problem: Problem) -> Solution:
    """A plan in which all weights stream that can."""
    can = {o.ops for o in problem.options if o.name.endswith(STREAMED)}
    kept = tuple(o for o in problem.options if o.name.endswith(STREAMED) or o.ops not in can)
    found = solve(replace(problem, options=kept), time_limit_s=20, gap=0.0)
    assert sum(name.endswith(STREAMED) for name in found.chosen) >= 8
    return found


def streams(found: Solution) -> list[str]:
    assert found.chosen == tuple(name for stage in found.stages for name in stage.chosen)
    return [name for name in found.chosen if name.endswith(STREAMED)]


def test_all_stay_where_there_is_room(problem: Problem) -> None:
    before = all_streaming(problem)
    after = unswapped(problem, before)
    assert not streams(after)
    assert after.objective <= before.objective
    assert not check(problem, after)


def test_as_many_stay_as_fit(problem: Problem) -> None:
    before = all_streaming(problem)
    whole = unswapped(problem, before)
    assert before.totals is not None
    assert whole.totals is not None
    most = max(before.totals.memory_size_bytes, whole.totals.memory_size_bytes)
    least = min(before.totals.memory_size_bytes, whole.totals.memory_size_bytes)
    types = tuple(replace(d, memory_size_bytes=(most + least) // 2) for d in problem.devices)
    tight = replace(problem, devices=types)
    after = unswapped(tight, before)
    assert 0 < len(streams(after)) < len(streams(before))
    assert not check(tight, after)


def test_a_plan_without_swapping_is_left_alone(problem: Problem) -> None:
    found = unswapped(problem, all_streaming(problem))
    assert unswapped(problem, found) is found
