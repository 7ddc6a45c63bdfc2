"""JUnit XML: each gate rule and each check is a test case that any CI system can show."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from planner.report.ci import GateResult
from planner.spec.verdict import Verdict


def of_gate(results: Sequence[GateResult], model: str) -> bytes:
    """One suite `infopt plan`, one case per rule."""
    return _suite("infopt plan", model, [(r.rule, r.passed, r.detail) for r in results])


def of_verdict(verdict: Verdict) -> bytes:
    """One suite `infopt deploy`, one case per check."""
    cases = [(check.name, check.passed, check.detail) for check in verdict.checks]
    return _suite("infopt deploy", verdict.engine, cases)


def _suite(name: str, about: str, cases: Sequence[tuple[str, bool, str]]) -> bytes:
    failed = sum(not passed for _, passed, _ in cases)
    counts = {"tests": str(len(cases)), "failures": str(failed), "errors": "0"}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": name, **counts})
    for case, passed, detail in cases:
        element = ET.SubElement(
            suite, "testcase", {"classname": _printable(about), "name": _printable(case)}
        )
        if not passed:
            ET.SubElement(element, "failure", {"message": _printable(detail)})
        ET.SubElement(element, "system-out").text = _printable(detail)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _printable(text: str) -> str:
    """XML 1.0 has no control characters, and model files may hold any name."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
