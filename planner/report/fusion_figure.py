"""The graph coloured by kernel: one row a launch, operators as chips, arcs where data flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from planner.report.fusion import NOTHING_BUILT, Built, launches_of
from planner.report.markup import clean
from planner.spec.fusion import BucketPlan, LaunchPlan, SegmentPlan
from planner.units import format_duration, format_size

_ROW = 30
_TOP = 46
_ARCS = 90
"""Width of the margin that arcs of data are drawn in."""
_CHIPS = 560
_BAR = 190
_WIDTH = _ARCS + _CHIPS + _BAR + 250
_CHARACTER = 7.3
"""Width of a character of the chips' font, pixels (12 px, generous)."""
_GOLDEN_DEGREES = 137.508
"""Hues a golden angle apart stay distinct however many there are."""
_MAX_REACH = 40
"""Rows beyond which an arc grows no wider."""


def figure(
    bucket: BucketPlan, kinds: Mapping[str, str], title: str, built: Built = NOTHING_BUILT
) -> str:
    """An SVG of one bucket.

    Args:
        kinds: operator -> its type.
    """
    lines = [row for segment in bucket.segments for row in _lines(segment)]
    longest = max(
        (max(one.predicted_us, built.measured_us.get(_kernel(one), 0.0)) for one in lines),
        default=1.0,
    )
    hues = _hues([_kernel(one) for one in lines])
    height = _TOP + _ROW * len(lines) + 34
    parts = [_head(title, bucket)]
    parts += [_arc(start, end) for start, end in _flows(lines)]
    for number, one in enumerate(lines):
        parts.append(_row(number, one, kinds, hues[_kernel(one)], longest, built))
    parts.append(_legend(height, built))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="kernels of the model" '
        f'font-family="system-ui, sans-serif" font-size="12">{_STYLE}{"".join(parts)}</svg>'
    )


_STYLE = (
    "<style>.g{fill:#fff}.t{fill:#1b1f24}.s{fill:#57606a}.m{fill:none;stroke:#1b1f24;"
    "stroke-width:1.5}.arc{fill:none;stroke:#8c959f;stroke-opacity:.55}"
    "@media (prefers-color-scheme:dark){.g{fill:#0d1117}.t{fill:#e6edf3}.s{fill:#9198a1}"
    '.m{stroke:#e6edf3}}</style><rect class="g" width="100%" height="100%"/>'
)


def _lines(segment: SegmentPlan) -> Sequence[LaunchPlan | SegmentPlan]:
    return segment.launches or (segment,)


def _kernel(one: LaunchPlan | SegmentPlan) -> str:
    return one.kernel if isinstance(one, LaunchPlan) else "ONNX Runtime"


def _hues(kernels: Sequence[str]) -> dict[str, float | None]:
    """A hue for each kernel, in order of first use; none for ONNX Runtime: grey."""
    distinct = [name for name in dict.fromkeys(kernels) if name != "ONNX Runtime"]
    found: dict[str, float | None] = {
        name: 205 + number * _GOLDEN_DEGREES % 360 for number, name in enumerate(distinct)
    }
    found["ONNX Runtime"] = None
    return found


def _flows(lines: Sequence[LaunchPlan | SegmentPlan]) -> list[tuple[int, int]]:
    """(row that writes, row that reads), once each; the row just before needs no arc."""
    maker: dict[str, int] = {}
    found: dict[tuple[int, int], None] = {}
    for number, one in enumerate(lines):
        for name in _reads(one):
            if name in maker and maker[name] < number - 1:
                found[maker[name], number] = None
        maker.update(dict.fromkeys(_makes(one), number))
    return list(found)


def _reads(one: LaunchPlan | SegmentPlan) -> set[str]:
    if isinstance(one, SegmentPlan):
        return set(one.inputs)
    return {name for stage in one.stages for name in stage.reads}


def _makes(one: LaunchPlan | SegmentPlan) -> set[str]:
    if isinstance(one, SegmentPlan):
        return set(one.outputs)
    return {name for stage in one.stages for name in (stage.root, *stage.also)}


def _head(title: str, bucket: BucketPlan) -> str:
    launches = launches_of(bucket)
    kept = sum(launch.kept_bytes for launch in launches)
    text = (
        f"{len(launches)} launches of {len({one.kernel for one in launches})} kernels, predicted "
        f"{format_duration(bucket.predicted_us)}, floor {format_duration(bucket.floor.total_us)} "
        f"({bucket.distance:.1f}x); {format_size(kept)} kept on chip, arena "
        f"{format_size(bucket.arena_size_bytes)}"
    )
    return (
        f'<text class="t" x="{_ARCS}" y="16" font-size="14" font-weight="600">{clean(title)}'
        f'</text><text class="s" x="{_ARCS}" y="34">{text}</text>'
    )


def _arc(start: int, end: int) -> str:
    reach = 14 + (_ARCS - 24) * min(end - start, _MAX_REACH) / _MAX_REACH
    top, bottom = _TOP + _ROW * (start + 0.5), _TOP + _ROW * (end + 0.5)
    left = _ARCS - 6 - reach
    edge = _ARCS - 4
    return (
        f'<path class="arc" d="M{edge} {top:.0f}C{left:.0f} {top:.0f} {left:.0f} {bottom:.0f} '
        f'{edge} {bottom:.0f}"/>'
    )


def _row(
    number: int,
    one: LaunchPlan | SegmentPlan,
    kinds: Mapping[str, str],
    hue: float | None,
    longest_us: float,
    built: Built,
) -> str:
    y = _TOP + _ROW * number
    colour = "#8c959f" if hue is None else f"hsl({hue:.0f} 60% 45%)"
    bar_x = _ARCS + _CHIPS + 12
    scale = _BAR / longest_us
    measured = built.measured_us.get(_kernel(one))
    mark = ""
    if measured is not None:
        at = bar_x + measured * scale
        mark = f'<path class="m" d="M{at:.1f} {y + 4}V{y + _ROW - 4}"/>'
    return (
        f"<g>{_tip(one)}{_chips(one, kinds, y, colour)}"
        f'<rect x="{bar_x}" y="{y + 8}" width="{one.predicted_us * scale:.1f}" height="{_ROW - 16}"'
        f' rx="2" fill="{colour}"/>{mark}'
        f'<text class="s" x="{bar_x + _BAR + 10}" y="{y + 19}">{clean(_notes(one))}</text></g>'
    )


def _tip(one: LaunchPlan | SegmentPlan) -> str:
    return f"<title>{clean(', '.join(one.ops))}</title>"


def _chips(one: LaunchPlan | SegmentPlan, kinds: Mapping[str, str], y: float, colour: str) -> str:
    """Operators of a row by type, as many as there is room for."""
    counted = Counter(kinds.get(op, "?") for op in one.ops)
    found, x, left = [], float(_ARCS), sum(counted.values())
    for kind, count in counted.items():
        text = kind if count == 1 else f"{kind} x{count}"
        width = _CHARACTER * len(text) + 12
        if x + width > _ARCS + _CHIPS - 40:
            found.append(f'<text class="s" x="{x + 2:.0f}" y="{y + 19}">+{left}</text>')
            break
        found.append(
            f'<rect x="{x:.0f}" y="{y + 4}" width="{width:.0f}" height="{_ROW - 8}" rx="5" '
            f'fill="{colour}"/><text x="{x + 6:.0f}" y="{y + 19}" fill="#fff">{clean(text)}</text>'
        )
        x += width + 4
        left -= count
    return "".join(found)


def _notes(one: LaunchPlan | SegmentPlan) -> str:
    if isinstance(one, SegmentPlan):
        return f"{format_duration(one.predicted_us)}  by ONNX Runtime"
    kept = f", {format_size(one.kept_bytes)} on chip" if one.kept_bytes else ""
    beside = f", {len(one.stages)} side by side" if len(one.stages) > 1 else ""
    late = f", {one.edge}" if one.edge in ("graph node", "loop") else ""
    return f"{format_duration(one.predicted_us)}{kept}{beside}{late}"


def _legend(height: float, built: Built) -> str:
    mark = "; black line: measured" if built.measured_us else ""
    return (
        f'<text class="s" x="{_ARCS}" y="{height - 12}">colour: kernel (equal launches share one); '
        f"bar: predicted time{mark}; arcs: data from earlier launches; each row is one boundary or "
        f"a step of a loop inside a kernel</text>"
    )
