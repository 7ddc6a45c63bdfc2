"""The frontier of plans for devices elsewhere against enumeration, and against single plans."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from benchmarks.zoo_families.builder import Builder
from planner import pipeline
from planner.cli.exits import run
from planner.errors import NoPlanInTimeError, UsageError
from planner.graph.sandbox import Sandbox
from planner.graph.skeleton import load_skeleton
from planner.progress import Silent
from planner.report.pareto_files import READERS
from planner.solve.check import check, priced
from planner.spec.constraints import Constraints
from planner.spec.pareto import ParetoCurve
from planner.steps.away.frontier import thinned
from planner.steps.away.offers import pose_away
from planner.steps.away.search import STEPS
from planner.steps.away.solving import Solving
from planner.steps.away.target import find_target
from planner.steps.conflict import ConflictError
from tests.place.models import memory
from tests.solve.pipelines import plans

UNPRICED = "p4-8gb"
WIDTH, TOKENS = 4096, 4096
AXES = (
    ("latency", "devices"),
    ("latency", "query"),
    ("error", "cost"),
    ("latency", "devices", "error"),
)
GAP = 0.01
Values = tuple[float, ...]


def request(folder: Path, device: str, products: int = 2, **more: Any) -> Constraints:
    """One product of 256 MiB in 32 bits, or two; on one device or two."""
    b = Builder("two", "float32")
    x = b.input("x", ["n", WIDTH])
    hidden = b.node("Relu", b.linear(x, WIDTH, 4 * WIDTH, "a"))
    if products == 2:
        hidden = b.linear(hidden, 4 * WIDTH, WIDTH, "b")
    b.output(hidden, "y", ["n", "out"])
    path = folder / "model.onnx"
    onnx.save(b.build(), path)
    target = {"device": device, "gpus": "1..2", "offload": [], **more.pop("target", {})}
    given = {
        "model": path, "no_weights": True, "workload": [{"shapes": {"x": (TOKENS, WIDTH)}}],
        "accuracy": {"max_error": 1e-2}, "compression": {"formats": ["fp16", "int8"]},
        "target": target, **more,
    }  # fmt: skip
    return Constraints.model_validate(given)


def enumerated(constraints: Constraints) -> Iterator[dict[str, float]]:
    """By axis, the values of every plan at every number of devices."""
    away = find_target(constraints)
    workload = {entry.name: entry.shapes for entry in constraints.workload}
    skeleton = load_skeleton(constraints.model, workload)
    posed = pose_away(constraints, skeleton, away)
    solving = Solving(constraints, posed, away, Silent())
    for devices in range(1, away.machine.gpus + 1):
        problem = solving.at_most(devices, replace(posed.problem.limits, devices=devices))
        for plan in (each for each in plans(problem) if not check(problem, each)):
            totals = priced(problem, plan)
            yield {
                "latency": totals.weighted_latency_us,
                "error": totals.error,
                "devices": float(totals.devices),
                "cost": totals.price_per_hour,
                "query": totals.price_per_hour * totals.weighted_latency_us / 3.6e9,
            }


def efficient(values: Sequence[Values]) -> list[Values]:
    """Those that no other one beats, sorted."""
    distinct = sorted(set(values))
    return [
        one
        for one in distinct
        if not any(
            all(a <= b * (1 + 1e-9) for a, b in zip(other, one, strict=True))
            and any(a < b * (1 - 1e-9) for a, b in zip(other, one, strict=True))
            for other in distinct
        )
    ]


def reaches(axes: Sequence[str], one: Values, other: Values, slack: float) -> bool:
    """Whether it is no worse anywhere; times, and prices of times, but for a relative slack."""
    slacks = (slack if axis in ("latency", "query") else 1e-6 for axis in axes)
    return all(a <= b * (1 + free) for a, b, free in zip(one, other, slacks, strict=True))


def found_by(curve: ParetoCurve) -> list[Values]:
    """Values of its points along its axes, sorted."""
    return sorted(tuple(READERS[axis][1](point) for axis in curve.axes) for point in curve.points)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a process for each solve takes longer than these solves."""
    monkeypatch.setattr(Sandbox, "call", lambda _, function, *given: function(*given))


@pytest.mark.parametrize(
    ("device", "gpus", "products"),
    [("a100-sxm-80gb", "1..2", 2), ("l4-24gb", "1..2", 2), ("a100-sxm-80gb", "1..4", 1)],
)
def test_no_plan_beats_it(tmp_path: Path, device: str, gpus: str, products: int) -> None:
    """All plans at every number of devices, of two kinds of GPU."""
    constraints = request(tmp_path, device, products, target={"gpus": gpus})
    every = list(enumerated(constraints))
    for axes in AXES:
        curve = pipeline.pareto(constraints, axes=axes, points=40)
        found = found_by(curve)
        expected = efficient([tuple(each[axis] for axis in axes) for each in every])
        for point in expected:
            assert any(reaches(axes, each, point, 1.01 * GAP) for each in found), (axes, point)
        for each in found:
            beaten = [point for point in expected if reaches(axes, point, each, -1.01 * GAP)]
            assert not beaten or axes[0] == "error", (axes, each)
        assert found == efficient(found)
        assert all(point.gap is not None and point.gap <= GAP for point in curve.points)


def test_its_points_are_what_plan_finds(tmp_path: Path) -> None:
    def asked(gpus: str) -> Constraints:
        return request(tmp_path, "a100-sxm-80gb", target={"gpus": gpus}, objective="latency")

    curve = pipeline.pareto(asked("1..2"), axes=("latency", "devices"))
    assert [point.devices for point in curve.points] == [2, 1]
    for point in curve.points:
        plan = pipeline.plan(asked(f"1..{point.devices}")).plan
        latency_us = plan.prediction.latency_p50_us["default"].expected
        assert point.latency_us.expected == pytest.approx(latency_us, rel=1.01 * GAP)
        assert plan.placement is not None
        assert point.layout == plan.placement.layout
        assert point.price_per_hour == plan.placement.price_per_hour
        assert point.price_per_query == pytest.approx(plan.placement.price_per_query, rel=GAP)


def test_too_little_memory_leaves_the_larger_numbers(tmp_path: Path) -> None:
    """Two products of 128 MiB; a device has no room for both and what is alive."""
    small = {"memory": memory("a100-sxm-80gb", 400), "gpus": "1..2"}
    constraints = request(
        tmp_path, "a100-sxm-80gb", target=small, compression={"formats": ["fp16"]}
    )
    curve = pipeline.pareto(constraints)
    assert curve.axes == ("latency", "devices", "error")
    assert {point.devices for point in curve.points} == {2}


def test_what_cannot_be_kept_is_named(tmp_path: Path) -> None:
    constraints = request(tmp_path, "a100-sxm-80gb", slo={"latency": {"p99": "1us"}})
    with pytest.raises(ConflictError) as caught:
        pipeline.pareto(constraints, axes=("latency", "cost"))
    (limit,) = caught.value.report.limits
    assert limit.key == "slo.latency.p99"
    assert limit.nearest is not None
    assert limit.nearest > 1.0
    tiny = request(tmp_path, "a100-sxm-80gb", target={"memory": "100MiB"})
    with pytest.raises(ConflictError, match="no model fits in 100 MiB"):
        pipeline.pareto(tiny, axes=("latency", "error"))


def test_time_that_ends_first_is_said(tmp_path: Path) -> None:
    constraints = request(tmp_path, "a100-sxm-80gb", solver={"time_limit": "1us"})
    with pytest.raises(NoPlanInTimeError, match="none was ruled out"):
        pipeline.pareto(constraints, axes=("latency", "devices"))


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        (("cost", "devices"), "rise together"),
        (("latency", "query"), "no source prices"),
        (("latency", "speed"), "no axis 'speed'"),
        (("latency",), "no frontier of latency"),
    ],
)
def test_axes_that_say_nothing_are_refused(
    tmp_path: Path, axes: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        pipeline.pareto(request(tmp_path, UNPRICED, target={"gpus": "1"}), axes=axes)


def test_many_numbers_are_thinned() -> None:
    assert thinned(1, 4, 12) == (1, 2, 3, 4)
    assert thinned(1, 16, 12) == (1, 2, 3, 4, 6, 8, 12, 16)
    assert thinned(2, 2, 1) == (2,)
    for least, most, many in itertools.product((1, 3), (8, 72, 1024), (2, 3, 7)):
        found = thinned(least, most, many)
        assert (found[0], found[-1]) == (least, most)
        assert len(found) <= many
        assert list(found) == sorted(set(found))
        assert set(found[1:-1]) <= {*STEPS, *range(least, most)}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, JSON, CSV and a figure; a limit that nothing keeps is exit code 3."""
    model = str(request(tmp_path, "a100-sxm-80gb").model)
    given = [
        "pareto", model, "--no-weights", "--target", "a100-sxm-80gb", "--gpus", "1..2",
        "--shapes", f"x:{TOKENS}x{WIDTH}", "--formats", "fp16", "--axes", "latency,query",
    ]  # fmt: skip
    table, figure = tmp_path / "curve.csv", tmp_path / "curve.svg"
    assert run([*given, "--csv", str(table), "--svg", str(figure)]) == 0
    shown = capsys.readouterr()
    assert "7.34" in shown.out  # by the hour, of two
    assert "latency against query" in shown.err
    assert [row["devices"] for row in csv.DictReader(table.read_text().splitlines())] == ["2", "1"]
    assert "price per query" in figure.read_text()
    assert run([*given, "--json", "-q"]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert points[0]["price_per_query"] > points[1]["price_per_query"]
    assert run([*given, "--slo", "1us"]) == 3
    assert "--slo" in capsys.readouterr().err
