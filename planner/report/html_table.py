"""Tables of the HTML report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_PROSE = ("because", "runner-up would cost", "why it was not offered")
"""Columns of sentences, which get room."""


def table(head: Sequence[str], rows: Iterable[tuple[str, ...]], numbers: Sequence[int] = ()) -> str:
    """Cells are HTML already; the first column may break anywhere."""
    marks = [_mark(index, title, numbers) for index, title in enumerate(head)]
    titles = "".join(f"<th {mark}>{title}</th>" for mark, title in zip(marks, head, strict=True))
    lines = [
        "<tr>"
        + "".join(f"<td {m}>{cell}</td>" for m, cell in zip(marks, row, strict=True))
        + "</tr>"
        for row in rows
    ]
    return f'<div class="scroll"><table><tr>{titles}</tr>\n{chr(10).join(lines)}</table></div>'


def _mark(index: int, title: str, numbers: Sequence[int]) -> str:
    """How a column is set: numbers to the right, names may break, prose gets room."""
    if index in numbers:
        return 'class="n"'
    if index == 0:
        return 'class="name"'
    return 'class="text"' if title in _PROSE else ""
