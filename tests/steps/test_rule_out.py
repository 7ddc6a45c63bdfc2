"""What is ruled out by arithmetic has no plan: against enumeration of small problems."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.ir.devices import Device, Place
from planner.ir.problem import Latency, Limits, Option, Problem, Setting
from planner.steps.away.rule_out import is_ruled_out

CAPACITY = 100


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Two to four operators with a few options at one or two ranks."""
    degrees = (1, 2)
    ops = tuple(f"o{n}" for n in range(draw(st.integers(2, 4))))
    options = [
        Option(
            f"{op}:{n}:{degree}",
            (op,),
            "f",
            ((Latency(us := float(draw(st.integers(1, 20))), us + 1, us + 2),),),
            weight_size_bytes=draw(st.integers(0, 60)),
            error=draw(st.integers(0, 10)) / 10,
            place=f"x{degree}",
        )
        for op in ops
        for degree in degrees
        for n in range(draw(st.integers(1, 2)))
    ]
    return Problem(
        ops=ops,
        edges=(),
        options=tuple(options),
        settings=(Setting("s", (Latency(0.0, 0.0, 0.0),)),),
        places=tuple(Place(f"x{degree}", "d", degree) for degree in degrees),
        devices=(Device("d", CAPACITY, 2),),
        stages=2,
        limits=Limits(
            latency_us=draw(st.one_of(st.none(), st.integers(1, 60).map(float))),
            error=draw(st.one_of(st.none(), st.integers(1, 20).map(lambda n: n / 10))),
            devices=draw(st.integers(1, 2)),
        ),
    )


def has_plan(problem: Problem) -> bool:
    """Whether some choice keeps pooled memory, error and the lower ends of the latency."""
    limits = problem.limits
    degrees = {place.name: place.degree for place in problem.places}
    by_op = [[o for o in problem.options if op in o.ops] for op in problem.ops]
    for chosen in product(*by_op):
        cells = [o.latency[0][0] for o in chosen]
        low_us = sum(cell.low_us for cell in cells if cell is not None)
        kept = sum(degrees[o.place or ""] * o.weight_size_bytes for o in chosen)
        error = sum(o.error for o in chosen)
        fits = kept <= CAPACITY * (limits.devices or 0)
        precise = limits.error is None or error <= limits.error + 1e-9
        if fits and precise and (limits.latency_us is None or low_us <= limits.latency_us):
            return True
    return False


@settings(max_examples=200, deadline=None)
@given(problems())
def test_nothing_feasible_is_ruled_out(problem: Problem) -> None:
    if is_ruled_out(problem):
        assert not has_plan(problem)


def test_what_cannot_fit_is_ruled_out() -> None:
    latency = ((Latency(1.0, 2.0, 3.0),),)
    problem = Problem(
        ops=("a", "b"),
        edges=(),
        options=tuple(
            Option(name, (name,), "f", latency, weight_size_bytes=80, place="x1")
            for name in ("a", "b")
        ),
        settings=(Setting("s", (Latency(0.0, 0.0, 0.0),)),),
        places=(Place("x1", "d", 1),),
        devices=(Device("d", CAPACITY, 1),),
        limits=Limits(devices=1),
    )
    assert is_ruled_out(problem)
