"""Problems as text: the golden, and a row of every constraint."""

from __future__ import annotations

from collections.abc import Callable

from planner.ir.problem import Problem
from planner.solve.constraints import CONSTRAINTS
from planner.solve.render import render
from tests.solve.problems import chain, every_family


def test_golden(golden: Callable[[str, str], None]) -> None:
    golden("problem/every_family.txt", render(every_family()))


def test_golden_chain(golden: Callable[[str, str], None]) -> None:
    golden("problem/chain.txt", render(chain(2)))


def test_every_constraint_is_rendered_and_documented() -> None:
    text = render(every_family())
    for item in CONSTRAINTS:
        assert f"  {item.id}/" in text
        doc = item.rows.__doc__ or ""
        assert doc.startswith(f"{item.id}: ")


def test_an_empty_problem_renders() -> None:
    assert "none" in render(Problem((), (), (), ()))
