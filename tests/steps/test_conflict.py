"""An infeasible request in its own words: which limits, where they were written, the way out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner.ir.problem import Limits, Problem
from planner.ir.solution import Status
from planner.solve.conflict import Conflict
from planner.solve.solve import solve
from planner.spec.conflict import ConflictingLimit
from planner.spec.constraints import Constraints
from planner.steps.conflict import ConflictError, _reason, conflict_error, feasible
from tests.endtoend import Workshop
from tests.solve.problems import chain


def posed(limits: Limits, **accuracy: Any) -> tuple[Constraints, Problem]:
    """A chain of four operators, 43 us and 1600 bytes as it came, and the request behind it."""
    values: dict[str, Any] = {
        "model": "m.onnx",
        "slo": {"latency": {"p95_us": limits.latency_us}} if limits.latency_us else {},
        "target": {"memory_size_bytes": limits.memory_size_bytes},
        "accuracy": accuracy or {"max_error": limits.error},
    }
    return Constraints.model_validate(values), chain(4, limits)


def raised(limits: Limits, **accuracy: Any) -> ConflictError:
    constraints, problem = posed(limits, **accuracy)
    assert solve(problem).status is Status.INFEASIBLE
    return conflict_error(constraints, problem)


def test_the_limits_that_conflict_and_no_others() -> None:
    error = raised(Limits(latency_us=30.0, error=0.0015, memory_size_bytes=10**9))
    assert {limit.key for limit in error.report.limits} == {
        "slo.latency.p95",
        "accuracy.max_error",
    }
    assert {limit.conflict for limit in error.report.limits} == {1}
    assert error.exit_code == 3
    assert (
        "no plan keeps slo.latency.p95 30 us and accuracy.max_error 0.0015 together" in error.what
    )
    assert error.fix is not None
    assert ", or " in error.fix


def test_each_nearest_value_is_feasible_with_the_others_as_they_are() -> None:
    limits = Limits(latency_us=30.0, error=0.0015)
    latency, error = raised(limits).report.limits
    for found, given in (
        (latency, replace(limits, latency_us=_eased(latency))),
        (error, replace(limits, error=_eased(error))),
    ):
        assert found.nearest is not None
        assert solve(posed(given)[1]).status is Status.OPTIMAL


def _eased(limit: ConflictingLimit) -> float:
    """A millionth beyond what is said to be enough."""
    return (limit.nearest or 0.0) * (1 + 1e-6)


def test_two_conflicts_are_two_and_each_has_its_way_out() -> None:
    error = raised(Limits(latency_us=5.0, memory_size_bytes=10, error=1.0))
    found = {limit.key: limit for limit in error.report.limits}
    assert found.keys() == {"slo.latency.p95", "target.memory"}
    assert {limit.conflict for limit in found.values()} == {1, 2}
    assert all(limit.nearest is not None for limit in found.values())
    assert ", nor " in error.what
    assert error.fix is not None
    assert " and " in error.fix


def test_the_budget_of_the_solver_is_told_in_the_users_measure() -> None:
    """The solver's budget is on a sum of errors, here twice what the whole was measured to have."""
    constraints, problem = posed(Limits(latency_us=30.0, error=0.0015), max_error=0.00075)
    limit = conflict_error(constraints, problem).report.limits[-1]
    summed = conflict_error(*posed(Limits(latency_us=30.0, error=0.0015))).report.limits[-1]
    assert (limit.key, limit.value) == ("accuracy.max_error", 0.00075)
    assert limit.nearest == pytest.approx((summed.nearest or 0) / 2)


def test_a_drop_is_named_where_a_drop_was_asked_for() -> None:
    drop = {"max_drop": 0.005, "metric": "top1", "evaluation": "e.npz"}
    limits = raised(Limits(latency_us=30.0, error=0.0015), **drop).report.limits
    assert [(limit.key, limit.nearest) for limit in limits][-1] == ("accuracy.max_drop", None)


def test_places_are_named_once_they_are_known() -> None:
    error = raised(Limits(latency_us=30.0, error=0.0015))
    assert error.where == "constraints"
    origins = {"slo.latency.p95": "c.yaml:4", "accuracy.max_error": "--max-error"}
    assert error.written_at(origins).text.startswith("c.yaml:4, --max-error: no plan keeps slo")


def test_no_limit_at_all_is_to_blame() -> None:
    constraints, problem = posed(Limits(error=1.0))
    every = tuple(frozenset({option.name}) for option in problem.options if "o0" in option.ops)
    error = conflict_error(constraints, replace(problem, forbidden=every))
    assert error.report.limits == ()
    assert error.text == "m.onnx: no plan covers all operators, whatever the limits (proved)"


def test_a_feasible_request_has_a_fastest_plan() -> None:
    report = feasible(*posed(Limits(latency_us=40.0, error=1.0)))
    assert report.feasible
    assert report.limits == ()
    assert report.fastest_us is not None
    assert report.fastest_us <= 40.0


def test_the_command_line_names_lines_and_flags(workshop: Workshop, tmp_path: Path) -> None:
    workshop.plan("mlp")
    path = tmp_path / "c.yaml"
    path.write_text(
        f"model: {workshop.model('mlp')}\nslo: 0.01us\n"
        "accuracy:\n  max_error: 0.05\ncompression: {formats: [int8_dynamic]}\n"
    )
    explain = ("explain", "--infeasible", "-c", path, "-q")
    ended = workshop.infopt(*explain, "--memory", "1kB", "--json")
    assert ended.code == 3
    assert "error: " in ended.err
    found = {limit["key"]: limit["origin"] for limit in json.loads(ended.out)["limits"]}
    assert found == {"slo.latency.p99": f"{path}:2", "target.memory": "--memory"}
    planned = workshop.infopt("plan", "-c", path, "-q", "-o", tmp_path / "plan.json")
    assert planned.code == 3
    assert planned.err.startswith(f"error: {path}:2: no plan keeps slo.latency.p99 0.01 us")
    ended = workshop.infopt(*explain, "--slo", "1h")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("feasible · ")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["c.yaml"]


def test_what_stayed_open_is_said() -> None:
    limits = tuple(
        ConflictingLimit(key=key, value=1.0, nearest=nearest, unit="bytes", conflict=1)
        for key, nearest in (("target.memory", None), ("accuracy.max_error", 2.0))
    )
    names = ("memory_size_bytes", "error")
    proved = Conflict(names, {}, None, "")
    assert "time" not in _reason(limits, [proved])
    late = Conflict(names, {}, None, "", open=names[:1], is_minimal=False)
    said = _reason(limits, [late])
    assert "found in time of target.memory)" in said
    assert "perhaps fewer" in said
