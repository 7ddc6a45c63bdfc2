"""The checker refuses what is wrong: every promise broken once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.ir.problem import Limits, Problem
from planner.ir.solution import Solution, Status
from planner.solve.check import check, price
from planner.solve.constraints import CONSTRAINTS
from planner.solve.solve import solve
from tests.solve.problems import chain, circular, interleaved

PROBLEM = chain(
    3, Limits(latency_us=100.0, memory_size_bytes=5000, error=1.0, throughput_per_s=1e3)
)
SOLUTION = solve(PROBLEM)
FP32 = ("o0:fp32", "o1:fp32", "o2:fp32")


def plan(chosen: tuple[str, ...], conversions: tuple[str, ...] = ()) -> Solution:
    """A bare choice."""
    return Solution(Status.FEASIBLE, chosen, conversions, "s0")


def limited(limits: Limits) -> Problem:
    """The problem under other limits."""
    return replace(PROBLEM, limits=limits)


BROKEN: list[tuple[str, Problem, Solution]] = [
    ("names", PROBLEM, plan(("o0:fp64",))),
    ("names", PROBLEM, replace(SOLUTION, setting="s9")),
    ("names", PROBLEM, plan((*FP32, "o0:fp32"))),
    ("names", PROBLEM, plan((*FP32, "quantise:x"))),
    ("names", PROBLEM, plan(FP32, ("o0:int8",))),
    ("C1", PROBLEM, plan(FP32[:2])),
    ("C1", PROBLEM, plan((*FP32, "o0:int8"), ("quantise:x",))),
    ("C5", PROBLEM, replace(SOLUTION, conversions=SOLUTION.conversions[:1], totals=None)),
    ("C5", PROBLEM, plan((*FP32[:2], "o2:int8"), ("quantise:t1",))),
    ("C5", interleaved(), plan(("ad", "bc"))),
    ("C5", circular(), plan(("ab", "c"), ("1", "2", "3"))),
    ("C4", limited(Limits(memory_size_bytes=1209)), plan(FP32)),
    ("C8", limited(Limits(latency_us=30.9)), plan(FP32)),
    ("C9", limited(Limits(throughput_per_s=1e6 / 30.9)), plan(FP32)),
    ("C10", limited(Limits(error=0.0029)), SOLUTION),
    (
        "tied",
        replace(PROBLEM, tied=(("o0", "o1"),)),
        plan(("o0:int8", *FP32[1:]), ("quantise:x", "dequantise:t0")),
    ),
    ("cut", replace(PROBLEM, forbidden=(frozenset(FP32),)), plan(FP32)),
    ("C11", limited(Limits(price_per_hour=-1.0)), plan(FP32)),
    ("totals", PROBLEM, replace(SOLUTION, totals=price(PROBLEM, FP32, (), "s0"))),
    ("totals", PROBLEM, replace(SOLUTION, objective=(1.0, SOLUTION.objective[1]))),
    ("totals", PROBLEM, replace(SOLUTION, objective=(1.0,))),
    ("bound", PROBLEM, replace(SOLUTION, bound=(SOLUTION.objective[0] + 1, 0.0))),
    ("status", PROBLEM, replace(SOLUTION, status=Status.INFEASIBLE)),
]


@pytest.mark.parametrize(("constraint", "problem", "solution"), BROKEN)
def test_refuses(constraint: str, problem: Problem, solution: Solution) -> None:
    assert constraint in {violation.constraint for violation in check(problem, solution)}


def test_accepts_what_is_right() -> None:
    assert check(PROBLEM, SOLUTION) == ()
    assert check(PROBLEM, plan(FP32)) == ()
    assert check(limited(Limits(1e9, 1210, 0.0, 1e6 / 31.0)), plan(FP32)) == ()


def test_every_constraint_has_a_broken_case() -> None:
    assert {item.id for item in CONSTRAINTS} <= {constraint for constraint, _, _ in BROKEN}


def test_price_by_hand() -> None:
    totals = price(
        PROBLEM, ("o0:int8", "o1:int8", "o2:fp32"), ("quantise:x", "dequantise:t1"), "s0"
    )
    assert totals.weighted_latency_us == pytest.approx(1 + 4 + 4 + 10 + 2)
    assert totals.memory_size_bytes == 10 + 100 + 100 + 400 + 50
    assert totals.error == pytest.approx(0.002)


def test_price_names_what_is_unknown() -> None:
    with pytest.raises(KeyError, match="o0:fp64"):
        price(PROBLEM, ("o0:fp64",), (), "s0")
