"""Limits that cannot be kept: proved, with what would be feasible; and the search's own limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.ir.problem import Problem
from planner.ir.solution import Solution, Status
from tests.endtoend import Ended, Workshop

ASKED = ("--max-error", "0.05", "--formats", "int8_dynamic", "-q")


@pytest.fixture
def plan(workshop: Workshop, tmp_path: Path) -> list[str]:
    """`infopt plan` of a model whose kernels were measured before."""
    workshop.plan("mlp")
    return ["plan", str(workshop.model("mlp")), *ASKED, "-o", str(tmp_path / "plan.json")]


def refusal(ended: Ended, folder: Path, code: int, *words: str) -> None:
    """That code, one message with these words, and no plan."""
    assert ended.code == code, ended.err
    assert ended.err.startswith("error: ")
    for word in words:
        assert word in ended.err
    assert list(folder.iterdir()) == []


def test_a_latency_nobody_can_keep(workshop: Workshop, plan: list[str], tmp_path: Path) -> None:
    ended = workshop.infopt(*plan, "--slo", "0.01us")
    refusal(ended, tmp_path, 3, "no plan keeps slo", "(proved)", "fastest feasible plan takes")


def test_a_memory_nobody_can_keep(workshop: Workshop, plan: list[str], tmp_path: Path) -> None:
    ended = workshop.infopt(*plan, "--memory", "1kB")
    refusal(ended, tmp_path, 3, "no plan keeps target.memory", "fix: target.memory")


def test_a_throughput_nobody_can_keep(workshop: Workshop, plan: list[str], tmp_path: Path) -> None:
    ended = workshop.infopt(*plan, "--throughput", "1000000000/s")
    refusal(ended, tmp_path, 3, "no plan keeps slo.throughput", "/s")


def test_no_plan_in_time(
    workshop: Workshop, plan: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The solver always has a seed here; so its answer that it found nothing is played."""

    def solve(problem: Problem, **_: object) -> Solution:
        return Solution(status=Status.UNKNOWN, solver="none", hit_time_limit=True)

    monkeypatch.setattr("planner.solve.solve.solve", solve)
    ended = workshop.infopt(*plan, "--time-limit", "3s")
    refusal(ended, tmp_path, 6, "no plan was found within 3 s", "solver.time_limit")


def test_an_output_that_cannot_be_written_is_said_before_anything_is_measured(
    workshop: Workshop, plan: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    fresh = Workshop(workshop.folder, tmp_path / "cache")
    ended = fresh.infopt(*plan[:-1], str(tmp_path / "file" / "plan.json"))
    assert ended.code == 2
    assert "plan.json: cannot be written" in ended.err
    assert not (tmp_path / "cache").exists()
