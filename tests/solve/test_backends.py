"""Backends that crash or lie: the checker catches them and the other backend's answer is used."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from planner.ir.problem import Limits
from planner.ir.solution import Status
from planner.solve import cpsat
from planner.solve.backend import Answer, Outcome, Request
from planner.solve.cpsat import CpSat, scale_objective, scale_row
from planner.solve.highs import Highs
from planner.solve.solve import solve
from tests.solve.problems import chain, interleaved

LIMITS = Limits(error=0.0135)
BEST = solve(chain(30, LIMITS)).objective[0]


@dataclass(frozen=True, slots=True)
class Crash:
    """Raises."""

    name: str = "crash"

    def minimise(self, request: Request) -> Outcome:
        """Never answers."""
        raise RuntimeError("segmentation fault, nearly")


@dataclass(frozen=True, slots=True)
class Liar:
    """Claims that choosing `share` of everything is optimal."""

    share: float
    name: str = "liar"

    def minimise(self, request: Request) -> Outcome:
        """A choice that covers operators twice or not at all."""
        chosen = np.arange(len(request.active)) < self.share * len(request.active)
        return Outcome(Answer.OPTIMAL, chosen & request.active, request.scale)


@dataclass(frozen=True, slots=True)
class Denier:
    """Says that nothing is feasible."""

    name: str = "denier"

    def minimise(self, request: Request) -> Outcome:
        """Not even the plan it was given as a hint."""
        return Outcome(Answer.INFEASIBLE, bound=float("inf"))


@dataclass(frozen=True, slots=True)
class Boaster:
    """Solves rightly, and claims a bound above its own answer."""

    name: str = "boaster"

    def minimise(self, request: Request) -> Outcome:
        """The bound is twice the optimum."""
        outcome = CpSat().minimise(request)
        return replace(outcome, bound=2 * outcome.bound)


@pytest.mark.parametrize("bad", [Crash(), Liar(0.0), Liar(0.5), Liar(1.0), Denier(), Boaster()])
@pytest.mark.parametrize("good", [CpSat(), Highs()])
def test_the_other_backend_is_used(
    bad: Crash | Liar | Denier | Boaster, good: CpSat | Highs
) -> None:
    solution = solve(chain(30, LIMITS), backends=(bad, good))
    assert solution.status is Status.OPTIMAL
    assert solution.objective[0] == pytest.approx(BEST, rel=1e-6)
    assert good.name in solution.solver
    assert f"{bad.name} was refused: " in solution.solver


def test_without_a_good_backend_the_checked_seed_is_returned() -> None:
    solution = solve(chain(30, LIMITS), backends=(Crash(), Liar(0.5)))
    assert solution.status is Status.FEASIBLE
    assert solution.gap is not None
    assert solution.gap > 0


def test_an_answer_that_comes_late_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(cpsat, "run_solver", late)
    solution = solve(chain(30, LIMITS), time_limit_s=20.0)
    assert solution.status is Status.FEASIBLE
    assert solution.hit_time_limit
    assert Highs().name not in solution.solver
    assert "refused" not in solution.solver


def test_highs_alone_agrees() -> None:
    assert solve(chain(30, LIMITS), backends=(Highs(),)).objective[0] == pytest.approx(
        BEST, rel=1e-6
    )
    assert solve(interleaved(), backends=(Highs(),)).objective[0] == pytest.approx(22.0)


def test_objective_scaling_states_its_loss() -> None:
    costs = np.array([1e-3, 1.0, 1e9])
    scaled = scale_objective(costs, 1e9, 3)
    back = scaled.coefficients * scaled.unit
    assert (back <= costs).all()
    assert (costs - back).sum() <= 1e-9 * 1e9
    assert scale_objective(np.array([1.0, 5.0]), 1.0, 2).is_exact


def test_huge_costs_do_not_overflow() -> None:
    scaled = scale_objective(np.array([1e-6, 1e300]), 1e-6, 2)
    assert int(scaled.coefficients.sum()) <= 2**60 + 1


@pytest.mark.parametrize("limit", [1.0, 0.3, 1e-9, 1e12])
def test_row_scaling_admits_what_is_feasible(limit: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        parts = rng.random(4)
        values = limit * parts / parts.sum()
        coefficients, scaled = scale_row(values, float(values.sum()), 4)
        assert int(coefficients.sum()) <= scaled
        too_much, scaled = scale_row(values * (1 + 1e-8), float(values.sum()), 4)
        assert int(too_much.sum()) > scaled
