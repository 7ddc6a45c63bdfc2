"""Schedules whose contiguity follows some edges only, as in training: against enumeration."""

from __future__ import annotations

import random
from dataclasses import replace

from planner.ir.assignment import Contiguity
from planner.ir.problem import Problem
from planner.ir.solution import Status
from tests.solve.test_assign import Maker, solved


def training(seed: int) -> Problem:
    """Edges of the first operators are followed, those between others now and then backwards."""
    rng = random.Random(seed)
    problem = Maker(seed, scheduled=True, contiguity=Contiguity.CHAIN).problem()
    assert problem.assignment is not None
    forward = set(problem.ops[: (len(problem.ops) + 1) // 2])
    followed = [(a, b) for a, b in problem.edges if {a, b} <= forward]
    backward = [(b, a) for a, b in problem.edges if not {a, b} & forward and rng.random() < 0.5]
    order = tuple(followed + backward)
    return replace(problem, assignment=replace(problem.assignment, order=order))


def test_schedules_wait_for_edges_that_contiguity_does_not_follow() -> None:
    optimal = unfollowed = 0
    for seed in range(40):
        problem = training(seed)
        found = solved(problem, 2.0)
        if found is None:
            continue
        solution, least = found
        if solution.status is Status.OPTIMAL:
            assert solution.objective[0] <= least * (1 + max(solution.rounding, 1e-9))
            optimal += 1
        assert problem.assignment is not None
        assert problem.assignment.order is not None
        unfollowed += not set(problem.edges) <= set(problem.assignment.order)
    assert optimal >= 30
    assert unfollowed >= 20
