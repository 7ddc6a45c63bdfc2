"""Counts of alike groups bound every plan from below, and what they plan keeps every limit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.ir.devices import Device, Hold, Link, Place
from planner.ir.problem import (
    Conversion,
    Latency,
    Limits,
    Objective,
    Option,
    Problem,
    Setting,
    State,
    Transfer,
)
from planner.ir.solution import Solution, Status
from planner.solve.alike.kinds import Rows, is_countable, kinds
from planner.solve.alike.layout import Layouts, orders
from planner.solve.alike.solve import counted, improved
from planner.solve.check import check
from planner.solve.solve import solve

WHOLE, SUMMAND = "r", "p"
PLACES = (Place("x1", "d", 1), Place("x2", "d", 2))


def around(us: float) -> Latency:
    return Latency(us * 0.9, us, us * 1.2)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """A chain of two kinds of groups: resident or streamed, in two formats, on one or two ranks."""
    count = draw(st.integers(2, 5))
    looks = []
    for _ in range(2):
        look = []
        for place in PLACES:
            size, us = draw(st.integers(5, 40)), float(draw(st.integers(5, 40)))
            form = draw(st.sampled_from((WHOLE, SUMMAND))) if place.degree > 1 else WHOLE
            for name, error, share in (("fp16", 0.0, 1.0), ("int8", 0.01, 0.5)):
                kept = int(size * share / place.degree)
                scratch = draw(st.integers(0, 4))
                look.append((place, name, us * share + 1, kept, 0, scratch, error, form))
                slow = us * share + 1 + draw(st.integers(1, 30))
                look.append((place, name, slow, 0, kept, scratch, error, form))
        looks.append(look)
    options = [
        Option(
            f"o{n}:{number}", (f"o{n}",), name, ((around(us),),),
            (State(f"t{n - 1}", WHOLE),) if n else (),
            (State(f"t{n}", form),),
            kept, scratch, error, 0.0, place.name,
            (Hold(max(n - 1, 0), n + 1, slot),) if slot else (),
        )
        for n in range(count)
        for number, (place, name, us, kept, slot, scratch, error, form) in enumerate(looks[n % 2])
    ]  # fmt: skip
    tensors = [f"t{n}" for n in range(count)]
    summed = {s.tensor for option in options for s in option.makes if s.form == SUMMAND}
    gather = ((around(float(draw(st.integers(1, 9)))),),)
    return Problem(
        ops=tuple(f"o{n}" for n in range(count)),
        edges=tuple((f"o{n}", f"o{n + 1}") for n in range(count - 1)),
        options=tuple(options),
        settings=(Setting("s", (Latency(0.0, 0.0, 0.0),)),),
        conversions=tuple(
            Conversion(f"{t}@x2", State(t, SUMMAND), State(t, WHOLE), gather, "x2")
            for t in tensors
            if t in summed
        ),
        wanted=(State(tensors[-1], WHOLE),),
        places=PLACES,
        devices=(Device("d", draw(st.integers(20, 120)), 2, 1.0),),
        links=(Link("d", "d", 1.0, 1.0),),
        stages=2,
        transfers=tuple(
            Transfer(f"{t}>", State(t, WHOLE), State(t, WHOLE), (2,)) for t in tensors[:-1]
        ),
        limits=Limits(
            latency_us=draw(st.one_of(st.none(), st.integers(10, 150).map(float))),
            error=draw(st.one_of(st.none(), st.integers(1, 4).map(lambda n: n / 100))),
            devices=draw(st.integers(1, 2)),
        ),
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems())
def test_no_plan_is_better_than_counts_allow(problem: Problem) -> None:
    best = solve(problem, time_limit_s=20)
    found = counted(problem, gap=0.0, time_limit_s=10)
    assert found is not None
    if found.status is Status.INFEASIBLE:
        assert best.status is Status.INFEASIBLE
        return
    if best.totals is not None and best.is_uncertain == found.is_uncertain:
        assert found.bound[0] <= best.objective[0] * (1 + 1e-6)
    if found.totals is not None:
        assert not check(problem, found)
        assert best.totals is not None
        if best.is_uncertain == found.is_uncertain:
            assert found.objective[0] >= best.objective[0] * (1 - 1e-6)
    after = improved(problem, best, found, 5.0)
    assert not check(problem, after)
    assert after.totals is None or after.objective[0] <= best.objective[0] * (1 + 1e-9)


def many(blocks: int, capacity: int) -> Problem:
    """Equal groups on one device: 10 bytes resident, or streamed in 30 us instead of 10."""
    options = []
    for n in range(blocks):
        needs = (State(f"t{n - 1}", WHOLE),) if n else ()
        makes = (State(f"t{n}", WHOLE),)
        slot = (Hold(max(n - 1, 0), n + 1, 10),)
        options += [
            Option(f"o{n}:d", (f"o{n}",), "f", ((around(10.0),),), needs, makes, 10, place="x1"),
            Option(
                f"o{n}:h", (f"o{n}",), "f", ((around(30.0),),), needs, makes, place="x1", holds=slot
            ),
        ]
    return Problem(
        ops=tuple(f"o{n}" for n in range(blocks)),
        edges=tuple((f"o{n}", f"o{n + 1}") for n in range(blocks - 1)),
        options=tuple(options),
        settings=(Setting("s", (Latency(0.0, 0.0, 0.0),)),),
        places=PLACES[:1],
        devices=(Device("d", capacity, 1),),
        limits=Limits(devices=1),
    )


def test_many_equal_groups_are_proved_at_once() -> None:
    """85 bytes: eight of ten would fit, but a buffer must fit beside them. 7 stay, 3 stream."""
    problem = many(10, 85)
    found = counted(problem, gap=0.0, time_limit_s=5)
    assert found is not None
    assert found.objective[0] == pytest.approx(7 * 10 + 3 * 30)
    assert found.bound[0] == pytest.approx(found.objective[0], rel=1e-3)
    assert solve(problem, time_limit_s=20).objective[0] == pytest.approx(found.objective[0])


def test_equal_groups_are_one_kind() -> None:
    problem = many(10, 85)
    (kind,) = kinds(problem, Rows(problem, charged=True))
    assert len(kind.ops) == 10
    assert len(kind.rows) == 2


def test_a_conversion_that_every_reader_needs_is_charged_to_the_maker() -> None:
    problem = many(2, 100)
    way = Conversion("c", State("t0", SUMMAND), State("t0", WHOLE), ((around(5.0),),), "x1")
    first = replace(problem.options[0], makes=(State("t0", SUMMAND),))
    charged = replace(problem, options=(first, *problem.options[1:]), conversions=(way,))
    cost = Rows(charged, charged=True).of(first)[4] - Rows(charged, charged=False).of(first)[4]
    assert cost == pytest.approx(5.0)


def test_other_problems_are_left_alone() -> None:
    problem = many(3, 100)
    assert is_countable(problem)
    assert counted(replace(problem, objectives=(Objective.MEMORY,)), gap=0, time_limit_s=1) is None
    hopeless = replace(problem, objectives=(Objective.MEMORY,), limits=Limits(1.0, devices=1))
    found = counted(hopeless, gap=0.0, time_limit_s=1)
    assert found is not None
    assert found.status is Status.INFEASIBLE
    tied = replace(problem, tied=(("o0", "o1"),))
    assert counted(tied, gap=0.0, time_limit_s=1) is None


def test_stages_hold_whole_groups() -> None:
    """Seven groups of 10 bytes and 75 bytes in three devices of 25: one room holds all of them, but
    each stage only two, so that one must stream, and needs a stage with room for its buffer."""
    problem = many(7, 25)
    moves = tuple(
        Transfer(f"t{n}>", State(f"t{n}", WHOLE), State(f"t{n}", WHOLE), (1,)) for n in range(6)
    )
    spread = replace(
        problem,
        places=PLACES[:1],
        devices=(Device("d", 25, 3, 1.0),),
        links=(Link("d", "d", 1.0, 1.0),),
        stages=3,
        transfers=moves,
        limits=Limits(devices=3),
    )
    found = counted(spread, gap=0.0, time_limit_s=10)
    assert found is not None
    assert found.bound[0] > 7 * 10 + 1, "one room for all would hold all seven"
    best = solve(spread, time_limit_s=20)
    assert best.objective[0] >= found.bound[0] * (1 - 1e-6)
    assert found.totals is not None
    assert not check(spread, found)
    assert found.objective[0] >= best.objective[0] * (1 - 1e-6)


def test_every_order_of_stages_comes_once() -> None:
    """Of four and four, 70 of 8! differ: half of them begin with the second place."""
    stages = [PLACES[0]] * 4 + [PLACES[1]] * 4
    found = list(orders(stages))
    assert len(found) == len(set(found)) == 70
    assert sum(order[0] == PLACES[1] for order in found) == 35
    assert all(sorted(order, key=PLACES.index) == stages for order in found)


def laid(problem: Problem, stages: tuple[Place, ...]) -> Solution | None:
    """On these stages; the first takes what the others do not."""
    return Layouts.of(problem, Rows(problem, charged=True), stages).plan(stages, 0)


def test_stages_that_stay_empty_are_left_out() -> None:
    """Counts may set up more than are needed: they cost nothing there."""
    plan = laid(many(3, 100), PLACES[:1] * 2)
    assert plan is not None
    assert [stage.chosen for stage in plan.stages] == [("o0:d", "o1:d", "o2:d")]


def test_a_place_that_some_operator_cannot_run_at_has_no_layout() -> None:
    assert laid(replace(many(3, 100), places=PLACES), PLACES) is None


def test_operators_without_weights_take_what_is_fastest() -> None:
    problem = many(2, 100)
    slow, fast = (
        Option("o1:" + name, ("o1",), "f", ((around(us),),), (State("t0", WHOLE),), place="x1")
        for name, us in (("slow", 30.0), ("fast", 10.0))
    )
    plan = laid(replace(problem, options=(*problem.options[:2], slow, fast)), PLACES[:1])
    assert plan is not None
    assert plan.chosen == ("o0:d", "o1:fast")
