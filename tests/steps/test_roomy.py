"""Weights that stream lie in one row where scattered they would not fit with what parts hold."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import pytest

from planner.ir.problem import Problem
from planner.ir.solution import Solution
from planner.place.variant import HOST
from planner.solve.check import check
from planner.solve.solve import solve
from planner.steps.away.roomy import roomy
from tests.steps.one_device import on_one_device

WIDTH = 512
STREAMED = f"@{HOST}"
SESSION_BYTES = 2**20


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    """A transformer of two layers on one device, 12 MiB of weights in 16 bits."""
    return on_one_device(tmp_path_factory.mktemp("wide"), WIDTH)


@pytest.fixture(scope="module")
def scattered(problem: Problem) -> Solution:
    """Every other group that can stream does."""
    can = list(dict.fromkeys(o.ops for o in problem.options if o.name.endswith(STREAMED)))
    wanted = set(can[::2])
    kept = tuple(
        o
        for o in problem.options
        if o.ops not in can or o.name.endswith(STREAMED) == (o.ops in wanted)
    )
    found = solve(replace(problem, options=kept), time_limit_s=20, gap=0.0)
    assert rows(found) > 2
    return found


def rows(found: Solution) -> int:
    """Runs of groups that stream."""
    return sum(1 for streams, _ in groupby(found.chosen, lambda n: n.endswith(STREAMED)) if streams)


def held(found: Solution) -> int:
    return SESSION_BYTES * sum(1 for _ in groupby(found.chosen, lambda n: n.endswith(STREAMED)))


def used(found: Solution) -> int:
    assert found.totals is not None
    return max(found.totals.stage_memory_size_bytes)


def limited(problem: Problem, room: int) -> Problem:
    return replace(problem, limits=replace(problem.limits, memory_size_bytes=room))


def test_what_fits_stays_as_it_is(problem: Problem, scattered: Solution) -> None:
    tight = limited(problem, used(scattered) + held(scattered))
    assert roomy(tight, scattered, held) is scattered


def test_one_row_streams_where_many_do_not_fit(problem: Problem, scattered: Solution) -> None:
    room = used(scattered) + held(scattered) - 1
    found = roomy(limited(problem, room), scattered, held)
    assert rows(found) == 1
    assert used(found) + held(found) <= room
    assert not check(limited(problem, room), found)
    assert found.gap is not None
    assert found.objective[0] * (1 - found.gap) == pytest.approx(found.bound[0])


def test_where_no_row_fits_the_plan_stays(problem: Problem, scattered: Solution) -> None:
    assert roomy(limited(problem, 1), scattered, held) is scattered
