"""Prints any Problem as LP-like text: rows named `C4/memory/...`, one section per setting.

Problems on one device are printed here, pipelines in `render_stages`, free assignments in
`render_assignment`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.ir.problem import Problem
from planner.solve.constraints import setting_rows, structural_rows
from planner.solve.data import Data, index
from planner.solve.formulation import Formulation, Linear, Row
from planner.solve.render_assignment import render_assignment
from planner.solve.render_stages import render_stages

TERMS_PER_LINE = 6


def _names(data: Data) -> list[str]:
    options = [f"x[{option.name}]" for option in data.problem.options]
    conversions = [f"c[{conversion.name}]" for conversion in data.problem.conversions]
    levels = [f"m[{level:.0f}]" for level in data.workspace_levels]
    return [*options, *conversions, *levels]


def _terms(coefficients: Sequence[float], columns: Sequence[int], names: Sequence[str]) -> str:
    parts = []
    for coefficient, column in zip(coefficients, columns, strict=True):
        sign = "-" if coefficient < 0 else "+"
        size = "" if abs(coefficient) == 1 else f"{abs(coefficient):.12g} "
        parts.append(f"{sign} {size}{names[column]}")
    lines = [
        " ".join(parts[at : at + TERMS_PER_LINE]) for at in range(0, len(parts), TERMS_PER_LINE)
    ]
    return "\n      ".join(lines).removeprefix("+ ") or "0"


def _row(row: Row, names: Sequence[str]) -> str:
    sense = "=" if row.is_equality else "<="
    terms = _terms(row.coefficients, row.columns, names)
    return f"  {row.name}:\n      {terms} {sense} {row.rhs:.12g}"


def _objective(label: str, linear: Linear, names: Sequence[str]) -> str:
    used = [column for column, value in enumerate(linear.coefficients) if value]
    terms = _terms([float(linear.coefficients[column]) for column in used], used, names)
    return f"  {label}:\n      {linear.constant:.12g} + {terms}"


def _section(formulation: Formulation, names: Sequence[str]) -> Iterator[str]:
    yield f"under {formulation.name}"
    for number, objective in enumerate(formulation.data.problem.objectives, 1):
        linear = formulation.objective(objective)
        yield _objective(f"minimise/{number}/{objective.value}", linear, names)
    yield from (_row(row, names) for row in setting_rows(formulation))
    missing = [name for name, exists in zip(names, formulation.exists(), strict=True) if not exists]
    if missing:
        yield f"  missing: {' '.join(missing)}"


def render(problem: Problem) -> str:
    """The whole formulation of a valid problem as text, stable across runs. O(problem size)."""
    if problem.assignment is not None:
        return render_assignment(problem)
    if problem.places:
        return render_stages(problem)
    data = index(problem)
    names = _names(data)
    count = f"{len(problem.ops)} operators, {len(problem.options)} options"
    lines = [
        f"\\ {count}, {len(problem.conversions)} conversions, {len(problem.settings)} settings",
        "subject to",
    ]
    if problem.settings:
        lines += [_row(row, names) for row in structural_rows(data)]
    for setting in range(len(problem.settings)):
        lines += _section(Formulation(data, setting), names)
    lines.append("binary")
    lines += [f"  {' '.join(names)}" if names else "  none"]
    return "\n".join(lines) + "\n"
