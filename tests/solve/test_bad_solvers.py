"""CP-SAT that crashes or lies under pipelines and assignments: HiGHS answers in its place, and what
nobody can answer leaves the plans that are known, with an honest status."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ortools.sat.python import cp_model_helper as cmh

from planner.ir.assignment import Assignment, Contiguity, Crossing, Slot
from planner.ir.devices import Device, Place
from planner.ir.problem import Latency, Objective, Problem, Setting
from planner.ir.solution import Status
from planner.solve import apart, trusted
from planner.solve.apart import Child, SolverDiedError, solve_apart
from planner.solve.assign import free
from planner.solve.backend import Answer
from planner.solve.check import check
from planner.solve.cpsat import run_solver
from planner.solve.scale.solve import Large
from planner.solve.solve import solve
from planner.solve.stages import solve as ways
from planner.solve.trusted import NAME, SECOND, solve_trusted
from planner.solve.whole import broken, rows_of
from tests.solve.test_assign import option
from tests.solve.test_bad_pipelines import line

Solved = tuple[cmh.CpSolverResponse, bool]
HONEST = run_solver


def crash(*_: object) -> Solved:
    """Raises."""
    raise RuntimeError("segmentation fault, nearly")


def invalid(*given: Any) -> Solved:
    """Calls every model invalid."""
    response, is_stopped = HONEST(*given)
    response.status = cmh.CpSolverStatus.MODEL_INVALID
    return response, is_stopped


def wrong_point(*given: Any) -> Solved:
    """Claims a point that chooses nothing."""
    response, is_stopped = HONEST(*given)
    values = [0 for _ in response.solution]
    response.solution.clear()
    response.solution.extend(values)
    return response, is_stopped


def boast(*given: Any) -> Solved:
    """Claims a bound above its own point."""
    response, is_stopped = HONEST(*given)
    response.best_objective_bound = 2 * response.objective_value + 10
    return response, is_stopped


def deny(*given: Any) -> Solved:
    """Says that nothing is feasible, after it was seen to have found something."""
    response, is_stopped = HONEST(*given)
    response.status = cmh.CpSolverStatus.INFEASIBLE
    return response, is_stopped


def assignment(contiguity: Contiguity) -> Problem:
    """Nine operators on three devices."""
    edges = [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 5), (5, 6), (5, 7), (6, 8), (7, 8)]
    return Problem(
        ops=tuple(f"o{op}" for op in range(9)),
        edges=tuple((f"o{a}", f"o{b}") for a, b in edges),
        options=tuple(option(op, "gpu", 3.0 + op * op % 7, 2) for op in range(9)),
        settings=(Setting("any", (Latency(0.0, 0.0, 0.0),)),),
        objectives=(Objective.PERIOD,),
        places=(Place("gpu", "gpu"),),
        devices=(Device("gpu", 8),),
        assignment=Assignment(
            tuple(Slot(f"gpu {n}", "gpu") for n in range(3)),
            tuple(Crossing(f"o{op}", 1.0 + op % 3) for op in range(8)),
            contiguity=contiguity,
        ),
    )


LIARS: tuple[Callable[..., Solved], ...] = (crash, invalid, wrong_point, boast, deny)
PROBLEMS: dict[str, Problem] = {
    "pipeline": line(5),
    "any assignment": assignment(Contiguity.FREE),
}


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on graphs too wide for packings, which prove nine operators without CP-SAT."""
    monkeypatch.setattr(free, "packing_of", lambda *_: None)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("liar", LIARS)
@pytest.mark.parametrize("form", sorted(PROBLEMS))
def test_the_other_solver_is_used(
    form: str, liar: Callable[..., Solved], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = PROBLEMS[form]
    honest = solve(problem, workers=1, time_limit_s=20.0)
    asked: list[bool] = []

    def lie(*given: Any) -> Solved:
        asked.append(True)
        return liar(*given)

    monkeypatch.setattr(trusted, "run_solver", lie)
    found = solve(problem, workers=1, time_limit_s=20.0, gap=1e-4)
    assert asked
    assert not check(problem, found)
    assert found.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert found.objective[0] == pytest.approx(honest.objective[0], rel=1e-4)
    assert found.bound[0] <= honest.objective[0] * (1 + 1e-6)


@pytest.mark.parametrize("liar", LIARS)
def test_without_any_solver_nothing_is_claimed(
    liar: Callable[..., Solved], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(trusted, "run_solver", liar)
    monkeypatch.setattr(trusted, "ask_highs", fail)
    found = solve(line(5), workers=1, time_limit_s=5.0)
    assert found.status in (Status.UNKNOWN, Status.FEASIBLE)
    assert not check(line(5), found)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pipeline is solved as a large one."""
    monkeypatch.setattr(ways, "SMALL_COLUMNS", 0)
    monkeypatch.setattr(ways, "EXACT_COLUMNS", 0)


def test_a_large_pipeline_survives_a_crash(large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Large) -> float:
        raise FloatingPointError

    best = solve(line(8), workers=1)
    monkeypatch.setattr(Large, "run", fail)
    found = solve(line(8), workers=1, time_limit_s=10.0)
    assert not check(line(8), found)
    assert found.status is Status.FEASIBLE
    assert found.bound[0] <= best.objective[0] <= found.objective[0]
    assert "FloatingPointError" in found.solver


def test_a_large_pipeline_survives_a_lie(large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound above a checked plan: the plan is kept, nothing is claimed."""
    honest = Large.run

    def boast_of(self: Large) -> float:
        return 10 * honest(self) + 1e6

    best = solve(line(8), workers=1)
    monkeypatch.setattr(Large, "run", boast_of)
    found = solve(line(8), workers=1, time_limit_s=10.0)
    assert not check(line(8), found)
    assert found.status is Status.FEASIBLE
    assert found.objective[0] <= best.objective[0] * (1 + 1e-9)
    assert found.bound[0] <= best.bound[0]


def model() -> cmh.CpModelProto:
    """minimise -a - 2b - 3c with not both of b and c, a or b, and a -> 2b + c <= 1."""
    made = cmh.CpModelProto()
    for _ in range(3):
        made.variables.add().domain.extend([0, 1])
    made.constraints.add().exactly_one.literals.extend([1, 2])
    made.constraints.add().bool_or.literals.extend([0, 1])
    row = made.constraints.add()
    row.enforcement_literal.append(0)
    row.linear.vars.extend([1, 2])
    row.linear.coeffs.extend([2, 1])
    row.linear.domain.extend([-(2**62), 1])
    made.objective.vars.extend([0, 1, 2])
    made.objective.coeffs.extend([-1, -2, -3])
    return made


def test_rows_say_what_the_model_says() -> None:
    made = model()
    rows = rows_of(made)
    for number in range(8):
        values = [number >> column & 1 for column in range(3)]
        kept = all(
            low <= sum(a * values[column] for column, a in terms) <= high
            for terms, low, high in zip(rows.terms, rows.low, rows.high, strict=True)
        )
        assert kept is not bool(broken(made, values))


def test_the_second_solver_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = cmh.SatParameters()
    parameters.max_time_in_seconds = 5.0
    first = solve_trusted(parameters, model())
    monkeypatch.setattr(trusted, "run_solver", crash)
    second = solve_trusted(parameters, model())
    assert first.values == second.values == [1, 0, 1]
    assert second.bound == pytest.approx(first.bound)
    assert second.answer is Answer.OPTIMAL
    assert (second.solver, second.complaint[:12]) == (SECOND, "RuntimeError")


def test_a_known_point_is_not_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(parameters: cmh.SatParameters, made: cmh.CpModelProto, _: object) -> Solved:
        return deny(parameters, made, None)

    monkeypatch.setattr(trusted, "run_solver", silent)
    assert solve_trusted(limited(5.0), model()).answer is Answer.INFEASIBLE
    told = solve_trusted(limited(5.0), model(), reached=-4.0)
    assert told.answer is Answer.OPTIMAL
    assert "infeasible" in told.complaint


def aborting(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Every child but the first few dies by SIGABRT as soon as it is asked; their numbers."""
    honest, died = Child.ask, list[int]()

    def ask(self: Child, *given: Any) -> str:
        if len(died) >= after:
            os.kill(self.pid, signal.SIGABRT)
        died.append(self.pid)
        return honest(self, *given)

    monkeypatch.setattr(Child, "ask", ask)
    return died


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("form", sorted(PROBLEMS))
def test_a_solver_that_aborts_costs_no_plan(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CP-SAT 9.15 does where a check of its own fails: HiGHS answers, and we live."""
    problem = PROBLEMS[form]
    best = solve(problem, workers=1, time_limit_s=20.0)
    died = aborting(monkeypatch, after=0)
    found = solve(problem, workers=1, time_limit_s=20.0, gap=1e-4)
    assert died
    assert not check(problem, found)
    assert found.objective[0] == pytest.approx(best.objective[0], rel=1e-4)
    assert found.bound[0] <= best.objective[0] * (1 + 1e-6)


def test_what_was_found_before_the_abort_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last point shown is the answer where HiGHS has none."""

    def die(parameters: object, made: object, on_point: Any) -> Solved:
        on_point([0, 1, 0], -9.0)
        raise SolverDiedError("killed by SIGABRT")

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(trusted, "run_solver", die)
    monkeypatch.setattr(trusted, "ask_highs", fail)
    told = solve_trusted(limited(5.0), model())
    assert (told.answer, told.values) == (Answer.TIME, [0, 1, 0])
    assert told.bound == -float("inf")


def limited(seconds: float) -> cmh.SatParameters:
    parameters = cmh.SatParameters()
    parameters.max_time_in_seconds = seconds
    return parameters


def test_a_dead_child_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        aborting(patch, after=0)
        with pytest.raises(SolverDiedError, match="SIGABRT"):
            solve_apart(limited(5.0), model(), None)
    response, is_stopped = solve_apart(limited(5.0), model(), None)
    assert list(response.solution) == [1, 0, 1]
    assert not is_stopped


def test_a_child_that_was_killed_while_idle_is_replaced() -> None:
    solve_apart(limited(5.0), model(), None)
    for child in apart.CHILDREN._idle:
        os.kill(child.pid, signal.SIGKILL)
    time.sleep(0.05)
    response, _ = solve_apart(limited(5.0), model(), None)
    assert response.status == cmh.CpSolverStatus.OPTIMAL


def hard() -> cmh.CpModelProto:
    """Market split: no proof in seconds."""
    made = cmh.CpModelProto()
    for _ in range(50):
        made.variables.add().domain.extend([0, 1])
    for row in range(6):
        weights = [(37 * (row + 3) * (j + 11) ** 2) % 100 for j in range(50)]
        slack = len(made.variables)
        for _ in range(2):
            made.variables.add().domain.extend([0, 10_000])
        linear = made.constraints.add().linear
        linear.vars.extend([*range(50), slack, slack + 1])
        linear.coeffs.extend([*weights, 1, -1])
        linear.domain.extend([sum(weights) // 2] * 2)
        made.objective.vars.extend([slack, slack + 1])
        made.objective.coeffs.extend([1, 1])
    return made


def test_a_child_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than its time and some grace: the answer is lost, the points are not."""
    monkeypatch.setattr(apart, "GRACE_S", -1.0)
    seen: list[list[int]] = []
    with pytest.raises(TimeoutError):
        solve_apart(limited(2.0), hard(), lambda values, _: seen.append(values))
    assert seen


def test_a_child_that_is_late_has_run_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not wrong: nobody else is asked, or named."""
    monkeypatch.setattr(apart, "GRACE_S", -1.0)
    found = solve_trusted(limited(1.5), hard())
    assert (found.answer, found.complaint, found.solver) == (Answer.TIME, "", NAME)
    assert found.values is not None


def test_ctrl_c_stops_the_child_and_brings_its_answer() -> None:
    def interrupt() -> None:
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    response, is_stopped = solve_apart(limited(60.0), hard(), None)
    thread.join()
    assert is_stopped
    assert response.solution
