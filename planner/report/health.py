"""What `infopt doctor` found, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.console import RenderableType
from rich.table import Table

from planner.report.text import safe


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    """As it should be."""
    WARNING = "warning"
    """Works, with a drawback that the hint names."""
    FAILED = "failed"
    """Planning or deploying cannot work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    detail: str
    hint: str = ""


_STYLE = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "red"}


def render(findings: Sequence[Finding]) -> RenderableType:
    """One line a finding, its hint below it."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        mark = f"[{_STYLE[finding.level]}]{finding.level}[/]"
        hint = f"\n-> {safe(finding.hint)}" if finding.hint else ""
        table.add_row(mark, finding.name, safe(finding.detail) + hint)
    return table
