"""Small inline figures for the HTML report: no library, no network, readable as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.report.markup import clean
from planner.units import format_duration

WIDTH = 760
_LABEL = 190
_ROW = 26
_RIGHT = 90


@dataclass(frozen=True, slots=True)
class Span:
    """One row: a value with its interval, microseconds; `kind` is `predicted` or `measured`."""

    label: str
    low_us: float
    expected_us: float
    high_us: float
    kind: str


def spans(rows: Sequence[Span], limit_us: float | None = None) -> str:
    """Intervals on one axis from zero, the limit as a dashed line where it is in sight.

    Why a limit far away is not drawn: it would squeeze what the reader came to compare.
    """
    longest = max((row.high_us for row in rows), default=0.0)
    shows_limit = limit_us is not None and limit_us <= 3 * longest
    top = max(longest, limit_us or 0.0) if shows_limit else longest
    scale = (WIDTH - _LABEL - _RIGHT) / top if top else 0.0
    height = _ROW * len(rows) + 24
    parts = [_row(row, index, scale) for index, row in enumerate(rows)]
    parts.append(f'<line class="axis" x1="{_LABEL}" y1="0" x2="{_LABEL}" y2="{_ROW * len(rows)}"/>')
    if shows_limit and limit_us is not None:
        parts.append(_limit(limit_us, scale, _ROW * len(rows)))
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" '
        f'aria-label="latencies with their intervals">{"".join(parts)}</svg>'
    )


def _row(row: Span, index: int, scale: float) -> str:
    y = _ROW * index + _ROW / 2
    low, mid, high = (
        _LABEL + value * scale for value in (row.low_us, row.expected_us, row.high_us)
    )
    label = row.label if len(row.label) <= 27 else f"{row.label[:26]}…"
    return (
        f'<text x="{_LABEL - 10}" y="{y + 4:.1f}" text-anchor="end">{clean(label)}</text>'
        f'<line class="{row.kind}" x1="{low:.1f}" y1="{y:.1f}" x2="{high:.1f}" y2="{y:.1f}" '
        f'stroke-width="6" stroke-linecap="round" opacity=".35"/>'
        f'<circle class="{row.kind}" cx="{mid:.1f}" cy="{y:.1f}" r="5"/>'
        f'<text x="{high + 12:.1f}" y="{y + 4:.1f}">{format_duration(row.expected_us)}</text>'
    )


def _limit(limit_us: float, scale: float, bottom: float) -> str:
    x = _LABEL + limit_us * scale
    return (
        f'<line class="limit" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{bottom}"/>'
        f'<text class="soft" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">'
        f"limit {format_duration(limit_us)}</text>"
    )


def bar(share: float, width: int = 120) -> str:
    """A share of the whole as a bar."""
    filled = max(0.0, min(1.0, share)) * width
    return (
        f'<svg viewBox="0 0 {width} 10" width="{width}" height="10" aria-hidden="true">'
        f'<rect class="measured" width="{filled:.1f}" height="10" rx="2" opacity=".7"/></svg>'
    )
