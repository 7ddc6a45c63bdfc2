"""`infopt plan`: what it asks the pipeline, prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from planner.cli.plan import plan
from planner.errors import ModelError
from planner.spec.io import read_plan, write_plan
from planner.spec.plan import Promise
from planner.spec.resolve import FLAGS
from tests.cli.fake_pipeline import FakePipeline, Infopt
from tests.plans import make_plan, timing


def test_every_flag_is_a_yaml_key() -> None:
    not_of_the_plan = {"constraints_file", "as_json", "dry_run", "quiet"}
    options = {parameter.name for parameter in plan.params} - not_of_the_plan
    assert options == {flag.name for flag in FLAGS}


def test_it_writes_the_plan_and_says_what_was_decided(
    infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infopt("plan", "model.onnx", "--slo", "20ms") == 0
    printed = capsys.readouterr()
    assert "1.57x plain ONNX Runtime" in printed.out
    assert "slo.latency.p99 = 20ms  (--slo)" in printed.err
    assert "infopt deploy plan.json" in printed.err
    assert read_plan(Path("plan.json")).shipped == "plan"
    (_, constraints), *_ = pipeline.asked
    assert constraints.slo.latency.limit_us == 20_000


def test_json_is_one_document_on_standard_output(
    infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infopt("plan", "model.onnx", "--json", "-o", "out/p.json") == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["shipped"] == "plan"
    assert printed == Path("out/p.json").read_text()


def test_quiet_says_nothing_but_the_result(
    infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infopt("plan", "model.onnx", "-q", "--slo", "20ms") == 0
    assert capsys.readouterr().err == "wrote plan.json; next: infopt deploy plan.json\n"


def test_a_dry_run_measures_and_writes_nothing(
    infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert infopt("plan", "model.onnx", "--dry-run") == 0
    assert "kernels: 1, variants of them: 2" in capsys.readouterr().out
    assert [name for name, *_ in pipeline.asked] == ["dry_run"]
    assert infopt("plan", "model.onnx", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ops"] == 3
    assert not Path("plan.json").exists()


def test_yaml_drives_it_too(infopt: Infopt, pipeline: FakePipeline) -> None:
    Path("c.yaml").write_text("model: m.onnx\nslo: 5ms\nobjective: memory\n")
    assert infopt("plan", "-c", "c.yaml", "--shapes", "x:1x3", "--shapes", "n:") == 0
    (_, constraints), *_ = pipeline.asked
    assert constraints.objective == "memory"
    assert constraints.workload[0].shapes == {"x": (1, 3), "n": ()}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "no model is given"),
        (
            ["m.onnx", "--slo", "20"],
            "'20' has no unit\n  fix: one of 20us, 20µs, 20ms,",
        ),
        (["m.onnx", "--slo", "0ms"], "--slo: must be greater than 0"),
        (["m.onnx", "-c", "absent.yaml"], "absent.yaml: no such YAML file"),
        (["m.onnx", "--target", "cpu", "--gpus", "2"], "--gpus: gpus 2..2 contradicts device cpu"),
        (["m.onnx", "--max-drop", "0.5pp"], "--max-drop: max_drop cannot be checked"),
        (
            ["m.onnx", "--max-drop", "0.5pp", "--metric", "mse", "--evaluation", "e.npz"],
            "--max-drop: mse is a loss, not a share: 0.5pp of it means nothing\n"
            "  fix: 0.5% of the unchanged model's mse, or a plain number in its own unit",
        ),
        (["m.onnx", "--formats", "fp17"], "--formats: 'fp17' is not allowed"),
        (["m.onnx", "--baseline", "absent.json", "--fail-on", "memory"], "no such plan"),
    ],
)
def test_bad_requests_never_reach_the_pipeline(
    infopt: Infopt,
    pipeline: FakePipeline,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    what: str,
) -> None:
    assert infopt("plan", *arguments) == 2
    assert what in capsys.readouterr().err
    assert pipeline.asked == []


def test_all_reports_are_written(infopt: Infopt, pipeline: FakePipeline) -> None:
    files = ("--html", "r.html", "--junit", "j.xml", "--markdown", "s.md")
    assert infopt("plan", "model.onnx", *files) == 0
    assert "<svg" in Path("r.html").read_text()
    assert ET.parse("j.xml").getroot().get("failures") == "0"
    assert Path("s.md").read_text().startswith("### ✅")


def test_reports_without_rules_show_the_promises(infopt: Infopt, pipeline: FakePipeline) -> None:
    assert infopt("plan", "model.onnx", "--junit", "j.xml") == 0
    cases = {case.get("name") for case in ET.parse("j.xml").iter("testcase")}
    assert cases == {"slo", "accuracy"}


def test_reports_say_why_there_is_no_plan(infopt: Infopt, pipeline: FakePipeline) -> None:
    pipeline.error = ModelError("the file is empty", where="model.onnx", fix="export it again")
    assert infopt("plan", "model.onnx", "--junit", "j.xml", "--markdown", "s.md") == 2
    (failure,) = ET.parse("j.xml").iter("failure")
    assert "the file is empty" in (failure.get("message") or "")
    assert Path("s.md").read_text().startswith("### ❌")
    assert "fix: export it again" in Path("s.md").read_text()


def test_a_regression_is_seven_and_the_reports_say_why(
    infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plan(Path("main.json"), make_plan())
    guard = make_plan().guard
    assert guard is not None
    guard = guard.model_copy(update={"timings": (timing("plan", 300.0),)})
    pipeline.plan_made = make_plan(guard=guard)
    gate = ("--baseline", "main.json", "--fail-on", "latency>5%,memory", "--junit", "j.xml")
    assert infopt("plan", "model.onnx", *gate) == 7
    assert "latency>5%: 255 us -> 300 us (+17.6 %)" in capsys.readouterr().err
    assert ET.parse("j.xml").getroot().get("failures") == "1"
    assert read_plan(Path("plan.json")).shipped == "plan"


def test_the_first_baseline_is_made_with_the_same_file(
    infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    ci = "ci: {baseline: plans/main.json, fail_on: [slo, latency>5%]}\n"
    Path("ci.yaml").write_text(f"schema_version: 1\nmodel: model.onnx\nslo: 20ms\n{ci}")
    assert infopt("plan", "-c", "ci.yaml") == 2
    assert "add --fail-on slo, and keep it as plans/main.json" in capsys.readouterr().err
    assert infopt("plan", "-c", "ci.yaml", "--fail-on", "slo") == 0
    assert "keep plan.json as plans/main.json" in capsys.readouterr().err
    Path("plans").mkdir()
    Path("plan.json").rename("plans/main.json")
    assert infopt("plan", "-c", "ci.yaml") == 0


def test_the_first_baseline_without_an_slo_is_made_with_the_same_file(
    infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    ci = "ci: {baseline: plans/main.json, fail_on: [latency>5%]}\n"
    Path("ci.yaml").write_text(f"schema_version: 1\nmodel: model.onnx\n{ci}")
    assert infopt("plan", "-c", "ci.yaml") == 2
    assert "add --fail-on accuracy, and keep it" in capsys.readouterr().err
    assert infopt("plan", "-c", "ci.yaml", "--fail-on", "accuracy") == 0


def test_a_broken_slo_fails_the_gate(infopt: Infopt, pipeline: FakePipeline) -> None:
    pipeline.plan_made = make_plan(promise=Promise(latency_us=100.0, max_error=1e-3))
    assert infopt("plan", "model.onnx", "--slo", "100us", "--fail-on", "slo") == 7


def test_an_unwritable_place_is_said(
    infopt: Infopt, pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("x")
    assert infopt("plan", "model.onnx", "-o", "file/plan.json") == 2
    assert "cannot be written" in capsys.readouterr().err
    assert infopt("plan", "model.onnx", "--html", "/proc/report.html") == 2
    assert "/proc/report.html: cannot be written" in capsys.readouterr().err
    assert pipeline.asked == []  # before anything is measured
