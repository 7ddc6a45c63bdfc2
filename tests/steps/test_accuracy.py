"""Accuracy budgets, end to end: what is promised is measured, what cannot be proved is said.

The objective is memory, so that the solver always wants to compress, however fast the machine is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planner import pipeline
from planner.compress.measure import runner
from planner.runtime.engine import load
from planner.spec.session import SessionSettings
from planner.steps import raced
from tests.endtoend import Workshop

METRIC = """
import numpy as np

FEEDS = {"x": np.linspace(-1, 1, 64, dtype=np.float32)[None]}

def exact(run):
    "1 where the answer has the very bits that the unchanged model gives."
    return float(run(FEEDS)["y"].tobytes().hex() == "WANTED")
"""


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who ships depends on what accuracy allows, not on what this machine's timing prefers. Only
    for plans that no other test asks for: the workshop remembers them."""
    monkeypatch.setattr(raced, "LEAST_THRESHOLD", 10.0)


def evaluation(workshop: Workshop, samples: int, path: Path) -> Path:
    """Inputs with the labels that the unchanged model gives them, by a wide margin."""
    inputs = np.random.default_rng(3).standard_normal((3 * samples, 64), "f4")
    run = runner(workshop.model("mlp"), SessionSettings())
    scores = np.array([np.ravel(run({"x": row[None]})["y"]) for row in inputs])
    ranked = np.sort(scores, axis=1)
    clear = np.argsort(ranked[:, -2] - ranked[:, -1])[:samples]
    np.savez(path, x=inputs[clear], labels=np.argmax(scores[clear], axis=1))
    return path


def test_the_joint_error_is_within_the_budget(workshop: Workshop) -> None:
    report = workshop.plan("mlp").accuracy
    assert report.verdict == "kept"
    assert report.measured_error <= 0.05
    assert not report.calibrated
    assert report.samples > 0


def test_a_budget_that_allows_nothing_ships_every_operator_as_it_is(workshop: Workshop) -> None:
    plan = workshop.plan("mlp", objective="memory", accuracy={"max_error": 1e-15})
    assert plan.formats == {}
    assert plan.accuracy.measured_error == 0.0
    assert plan.accuracy.verdict == "kept"
    assert {decision.format for decision in plan.decisions} == {"fp32"}


def test_too_few_samples_prove_nothing_and_say_how_many_would(
    workshop: Workshop, tmp_path: Path
) -> None:
    few = evaluation(workshop, 20, tmp_path / "few.npz")
    budget = {"metric": "top1", "max_drop": "0.5pp", "evaluation": str(few)}
    plan = workshop.plan("mlp", objective="memory", accuracy=budget)
    assert plan.formats == {}
    assert plan.accuracy.verdict == "unprovable"
    assert plan.accuracy.samples_needed is not None
    assert plan.accuracy.samples_needed >= 590  # ln 0.05 / ln 0.995 = 598 without any flip

    # No answer changes, so the drop is 0 by construction: it deploys and passes, and says so.
    assert (plan.accuracy.drop, plan.accuracy.drop_high, plan.accuracy.basis) == (
        0.0,
        0.0,
        "proved",
    )
    with workshop.quick():
        checks = pipeline.verify(pipeline.build(plan, tmp_path / "engine")).checks
    (check,) = (check for check in checks if check.name == "accuracy")
    assert check.passed
    assert "unprovable: the evaluation data cannot show" in check.detail
    assert f"{plan.accuracy.samples_needed} evaluation samples would" in check.detail


def test_enough_samples_prove_the_drop(workshop: Workshop, tmp_path: Path) -> None:
    many = evaluation(workshop, 400, tmp_path / "many.npz")
    budget = {"metric": "top1", "max_drop": "10pp", "evaluation": str(many)}
    report = workshop.plan("mlp", objective="memory", accuracy=budget).accuracy
    assert report.verdict == "kept"
    assert report.baseline == 1.0
    assert report.drop is not None
    assert report.drop <= (report.drop_high or 0.0) <= 0.1
    assert report.calibrated


@pytest.mark.usefixtures("untimed")
@pytest.mark.usefixtures("untimed")
def test_a_loss_may_grow_by_a_share_of_itself(workshop: Workshop, tmp_path: Path) -> None:
    inputs = np.random.default_rng(4).standard_normal((64, 64), "f4")
    run = runner(workshop.model("mlp"), SessionSettings())
    answers = np.concatenate([run({"x": row[None]})["y"] for row in inputs])
    np.savez(tmp_path / "e.npz", x=inputs, labels=answers + 1.0)  # the unchanged model's mse is 1
    budget = {"metric": "mse", "evaluation": str(tmp_path / "e.npz")}
    loose = workshop.plan("mlp", objective="memory", accuracy={**budget, "max_drop": "50%"})
    assert loose.formats
    assert loose.accuracy.verdict == "kept"
    assert loose.accuracy.baseline == pytest.approx(1.0, rel=1e-3)
    assert (loose.promise.max_drop, loose.promise.is_drop_relative) == (0.5, True)
    assert (loose.accuracy.drop or 0.0) <= (loose.accuracy.drop_high or 0.0) <= 0.5
    tight = workshop.plan("mlp", objective="memory", accuracy={**budget, "max_drop": 1e-9})
    assert tight.accuracy.drop is not None
    assert tight.accuracy.drop <= 1e-9


def test_a_metric_that_hates_any_change_gets_none(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = {"x": np.linspace(-1, 1, 64, dtype=np.float32)[None]}
    wanted = runner(workshop.model("mlp"), SessionSettings())(feeds)["y"].tobytes().hex()
    (tmp_path / "strict_metric.py").write_text(METRIC.replace("WANTED", wanted))
    monkeypatch.syspath_prepend(tmp_path)
    budget = {"evaluation": "strict_metric:exact", "max_drop": "1pp"}
    plan = workshop.plan("mlp", objective="memory", accuracy=budget)
    assert plan.formats == {}
    assert plan.accuracy.metric == "strict_metric:exact"
    assert (plan.accuracy.baseline, plan.accuracy.value) == (1.0, 1.0)
    with workshop.quick(), load(pipeline.build(plan, tmp_path / "engine")) as session:
        assert session.run(feeds)["y"].tobytes().hex() == wanted
