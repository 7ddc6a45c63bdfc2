"""Reports as files: offline HTML, JUnit that parses, Markdown that cannot break out."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from planner.report import ci, html, junit, markdown, pareto_files, svg
from planner.report.diff import compare
from planner.spec.ci import FailRule
from planner.spec.pareto import ParetoCurve
from planner.spec.plan import Rejected
from planner.spec.verdict import Check, Verdict
from tests.plans import DECISIONS, make_plan
from tests.report.test_text_reports import CURVE, HOSTILE, moved_plan

VOID = {"meta", "line", "circle", "rect", "br"}


class Outline(HTMLParser):
    """Tags in order, text, and whether every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def outline(text: str) -> Outline:
    parsed = Outline()
    parsed.feed(text)
    parsed.close()
    assert parsed.open == []
    return parsed


def test_html_holds_the_verdict_the_figures_and_the_command() -> None:
    found = outline(html.of_plan(make_plan(), "infopt plan model.onnx --slo 20ms"))
    for text in (
        "p99 332 us of the 20 ms promised, 1.57x as fast",
        "Predicted and measured",
        "int8_wo: +42 us",
        "only MatMul and Gemm",
        "infopt plan model.onnx --slo 20ms",
        "optimal, gap 0.00 %",
    ):
        assert text in found.text
    assert found.tags.count("svg") >= 2


def test_html_loads_nothing_and_runs_nothing() -> None:
    text = html.of_plan(make_plan(), "infopt plan")
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<img|<iframe| on\w+=", text)
    assert "default-src 'none'" in text


def test_html_survives_hostile_names() -> None:
    hostile = DECISIONS[0].model_copy(update={"op": HOSTILE, "reason": HOSTILE})
    plan = make_plan(
        decisions=(hostile,),
        warnings=(HOSTILE,),
        rejected=(Rejected(op=HOSTILE, format="x", reason=HOSTILE),),
    )
    text = html.of_plan(plan, HOSTILE)
    assert "script" not in outline(text).tags
    assert "\x1b" not in text


def test_figures_survive_hostile_names() -> None:
    curve = ParetoCurve(model=HOSTILE, axes=("latency", "error"), points=())
    for figure in (
        svg.spans([svg.Span(HOSTILE, 90.0, 100.0, 110.0, "measured")]),
        pareto_files.to_svg(curve),
    ):
        assert "script" not in [element.tag for element in ET.fromstring(figure).iter()]


def test_every_point_of_a_curve_is_drawn_inside_its_frame() -> None:
    traded = CURVE.model_copy(update={"axes": ("latency", "error")})
    root = ET.fromstring(pareto_files.to_svg(traded))
    points = [each for each in root.iter() if each.tag.endswith("circle")]
    assert len(points) == len(CURVE.points)
    for point in points:
        assert 64 <= float(point.attrib["cx"]) <= 640 - 64
        assert 64 <= float(point.attrib["cy"]) <= 420 - 64
    texts = {each.text for each in root.iter() if each.tag.endswith("text")}
    assert {"p50 latency, ms", "error, NMSE", "0.2", "0.4", "1.0e-6", "0.01"} <= texts


def test_html_without_timings_promise_or_rejections() -> None:
    promise = make_plan().promise.model_copy(update={"latency_us": None})
    plan = make_plan(guard=None, rejected=(), promise=promise)
    found = outline(html.of_plan(plan, "x"))
    assert "Alternatives" not in found.text
    assert "Not offered" not in found.text
    assert "Ships the optimised plan." in found.text


def test_a_limit_in_sight_is_drawn_and_a_far_one_is_not() -> None:
    rows = [svg.Span("plan", 90.0, 100.0, 110.0, "measured")]
    assert "limit 200 us" in svg.spans(rows, 200.0)
    assert "limit" not in svg.spans(rows, 20_000.0)
    assert svg.spans([]).endswith("</svg>")


def test_junit_counts_what_failed() -> None:
    results = (ci.GateResult("slo", True, "kept"), ci.GateResult("latency>5%", False, "slower\x00"))
    root = ET.fromstring(junit.of_gate(results, HOSTILE))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "slower�"


def test_markdown_of_a_plan_its_gate_and_its_difference() -> None:
    before, after = make_plan(), moved_plan()
    results = ci.gate(after, before, (FailRule(quantity="latency", tolerance=0.05),))
    text = markdown.of_plan(after, results, compare(before, after))
    assert text.startswith("### ✅ infopt plan: `model.onnx`")
    assert "| latency>5% | ✅ | 255 us -> 210 us (-17.6 %)" in text
    assert "| head/MatMul | fp32 | int8_dynamic | budget allows it |" in text


def test_markdown_cells_stay_cells() -> None:
    cell = markdown.cell("a|b\n<img>`c`")
    assert cell == "a\\|b &lt;img>'c'"
    check = Check(name="a|b", passed=False, detail="<script>")
    verdict = Verdict(engine="e", passed=False, checks=(check,), warnings=("w",))
    assert "| a\\|b | ❌ | &lt;script> |" in markdown.of_verdict(verdict)


@pytest.mark.parametrize("count", [3, 2000])
def test_html_of_large_models_stays_small(count: int) -> None:
    decisions = tuple(DECISIONS[0].model_copy(update={"op": f"op{i}"}) for i in range(count))
    text = html.of_plan(make_plan(decisions=decisions), "infopt plan")
    assert len(text) < 20_000 + 900 * count
