"""Pipelines against enumeration, with what `pipelines` leaves out: `pipelines_wider`."""

from __future__ import annotations

import os
import random
from time import monotonic

import pytest

from planner.ir.solution import Status
from planner.solve.check import check
from planner.solve.scale.solve import search_large
from planner.solve.solve import solve
from planner.solve.stages.exact import Exact
from planner.solve.validate import validate
from tests.solve.pipelines_wider import wider
from tests.solve.test_stages import best

EXAMPLES = int(os.environ.get("INFOPT_EXAMPLES", "40"))
"""Random problems: more where the environment asks."""
FIRST_SEED = int(os.environ.get("INFOPT_SEED", "0"))


def test_equals_enumeration_however_it_is_solved() -> None:
    """The whole model to the optimum; bounds, refutations and plans of the large way are true."""
    proved = refuted = 0
    for seed in range(FIRST_SEED, FIRST_SEED + EXAMPLES):
        problem = wider(random.Random(seed))
        validate(problem)
        truth = best(problem)
        answer = solve(problem, workers=1)
        assert not check(problem, answer), seed
        state = Exact(problem, monotonic() + 5.0, 0.0, 0, 1, None)
        status = search_large(state)
        if truth is None:
            assert answer.status is Status.INFEASIBLE, seed
            assert state.best is None, seed
            refuted += status is Status.INFEASIBLE
            continue
        assert status is not Status.INFEASIBLE, seed
        values, end = truth
        assert answer.status is Status.OPTIMAL, seed
        assert answer.is_uncertain == (end != "high"), seed
        assert answer.objective == pytest.approx(values, rel=1e-7, abs=1e-12), seed
        if state.best is None:
            continue
        assert not check(problem, state.best), seed
        if state.best.is_uncertain == (end != "high"):
            assert state.values[0] >= values[0] * (1 - 1e-7) - 1e-12, seed
            assert state.bounds[0] <= values[0] * (1 + 1e-7) + 1e-12, seed
        if status is Status.OPTIMAL:
            assert state.values == pytest.approx(values, rel=1e-7, abs=1e-12), seed
            proved += 1
    assert proved >= EXAMPLES // 20
    assert refuted >= EXAMPLES // 20
