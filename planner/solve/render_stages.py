"""Prints a pipeline as LP-like text: the very rows and columns that the exact search is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from planner.ir.problem import Problem
from planner.solve.linear import LinearRow
from planner.solve.stages.exact import build
from planner.solve.stages.model import ENDS, HIGH, StageModel
from planner.solve.stages.rules import aim

TERMS_PER_LINE = 6


def _terms(terms: Iterable[tuple[int, float]], m: StageModel) -> str:
    parts = []
    for column, coefficient in terms:
        sign = "-" if coefficient < 0 else "+"
        size = "" if abs(coefficient) == 1 else f"{abs(coefficient):.12g} "
        parts.append(f"{sign} {size}{m.model.columns[column].name}")
    lines = [
        " ".join(parts[at : at + TERMS_PER_LINE]) for at in range(0, len(parts), TERMS_PER_LINE)
    ]
    return "\n      ".join(lines).removeprefix("+ ") or "0"


def _row(row: LinearRow, m: StageModel) -> str:
    sense = "=" if row.is_equality else "<="
    return f"  {row.name}:\n      {_terms(row.terms, m)} {sense} {row.rhs:.12g}"


def _section(m: StageModel) -> Iterator[str]:
    problem = m.problem
    yield f"under {problem.settings[m.row].name}, C8 at {ENDS[m.end].removesuffix('_us')}"
    for number, objective in enumerate(problem.objectives, 1):
        found = aim(m, objective)
        terms = _terms(found.terms.items(), m)
        yield f"  minimise/{number}/{objective.value}:\n      {found.constant:.12g} + {terms}"
    yield "subject to"
    yield from (_row(row, m) for row in m.model.rows)
    columns = m.model.columns
    yield "binary"
    yield f"  {' '.join(c.name for c in columns if c.upper == c.unit == 1.0) or 'none'}"
    yield "bounds"
    amounts = [f"  0 <= {c.name} <= {c.upper:.12g}" for c in columns if c.unit != 1.0]
    yield from amounts or ["  none"]


def render_stages(problem: Problem) -> str:
    """The whole formulation under each setting. O(size of the exact model)."""
    parts = (
        f"{len(problem.ops)} operators",
        f"{len(problem.options)} options",
        f"{len(problem.conversions)} conversions",
        f"{len(problem.transfers)} transfers",
        f"{len(problem.places)} places",
        f"at most {problem.stages} stages",
        f"{len(problem.stores)} stores",
        f"{len(problem.settings)} settings",
    )
    lines = [f"\\ {', '.join(parts)}"]
    for row in range(len(problem.settings)):
        lines += _section(build(problem, row, HIGH))
    return "\n".join(lines) + "\n"
