"""The trade-off curve as files: CSV for a spreadsheet, SVG for a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from planner.report.axis import Axis, tick_text
from planner.report.markup import clean
from planner.spec.pareto import ParetoCurve, ParetoPoint

Read = Callable[[ParetoPoint], float]
WIDTH, HEIGHT, MARGIN = 640, 420, 64
READERS: dict[str, tuple[str, Read]] = {
    "latency": ("p50 latency, ms", lambda point: point.latency_us.expected / 1e3),
    "memory": ("memory, MB", lambda point: point.memory_size_bytes / 1e6),
    "error": ("error, NMSE", lambda point: point.error),
    "cost": ("price per hour", lambda point: point.price_per_hour),
    "query": ("price per query", lambda point: point.price_per_query or 0.0),
    "devices": ("devices", lambda point: float(point.devices)),
}
"""By axis: its title, and its value at a point."""


def to_csv(curve: ParetoCurve) -> str:
    """A header and one line a point, units in the names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        (
            "name",
            "latency_low_us",
            "latency_us",
            "latency_high_us",
            "memory_bytes",
            "error",
            "price_per_hour",
            "price_per_query",
            "devices",
            "layout",
            "status",
            "gap",
            "formats",
        )
    )
    for point in curve.points:
        latency = point.latency_us
        writer.writerow(
            (
                point.name,
                latency.low,
                latency.expected,
                latency.high,
                point.memory_size_bytes,
                point.error,
                point.price_per_hour,
                "" if point.price_per_query is None else point.price_per_query,
                point.devices,
                point.layout or "",
                point.status,
                "" if point.gap is None else point.gap,
                " ".join(f"{name}:{count}" for name, count in point.formats.items()),
            )
        )
    return text.getvalue()


def to_svg(curve: ParetoCurve) -> str:
    """A scatter of the first two axes, the third as the size of the points."""
    (x_title, x), (y_title, y) = (READERS[name] for name in curve.axes[:2])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{MARGIN}" y="24" font-size="15">infopt pareto · {clean(curve.model)}</text>',
    ]
    if curve.points:
        across = Axis.of([x(p) for p in curve.points], MARGIN, WIDTH - MARGIN)
        up = Axis.of([y(p) for p in curve.points], HEIGHT - MARGIN, MARGIN)
        parts += _frame(across, up, x_title, y_title)
        parts += _points(curve, across, up)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _frame(across: Axis, up: Axis, x_title: str, y_title: str) -> list[str]:
    bottom, right = HEIGHT - MARGIN + 12, WIDTH - MARGIN
    parts = []
    for value in across.ticks:
        at = across.pixel(value)
        parts.append(f'<path d="M{at:.1f} {MARGIN}V{bottom}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{tick_text(value)}</text>'
        )
    for value in up.ticks:
        at = up.pixel(value)
        parts.append(f'<path d="M{MARGIN - 12} {at:.1f}H{right}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{MARGIN - 16}" y="{at + 4:.1f}" text-anchor="end">{tick_text(value)}</text>'
        )
    parts.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{clean(x_title)}</text>'
    )
    parts.append(f'<text x="{MARGIN}" y="{MARGIN - 22}">{clean(y_title)}</text>')
    return parts


def _points(curve: ParetoCurve, across: Axis, up: Axis) -> list[str]:
    (_, x), (_, y) = (READERS[name] for name in curve.axes[:2])
    third = READERS[curve.axes[2]] if len(curve.axes) > 2 else None
    sizes = Axis.of([third[1](p) for p in curve.points], 4.0, 14.0) if third else None
    parts = []
    for point in curve.points:
        size = sizes.pixel(third[1](point)) if sizes is not None and third is not None else 5.0
        note = f"{point.name}: {x(point):.6g}, {y(point):.6g}"
        note += f", {third[1](point):.6g}" if third is not None else ""
        parts.append(
            f'<circle cx="{across.pixel(x(point)):.1f}" cy="{up.pixel(y(point)):.1f}" '
            f'r="{size:.1f}" fill="#1f77b4" fill-opacity="0.6"><title>{clean(note)}</title>'
            "</circle>"
        )
    if third is not None:
        parts.append(
            f'<text x="{WIDTH - MARGIN}" y="24" text-anchor="end">size: {clean(third[0])}</text>'
        )
    return parts
