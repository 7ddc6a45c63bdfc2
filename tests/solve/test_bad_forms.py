"""Free assignments and pairwise problems that are wrong, odd or cut short: each is refused in words
or answered truthfully. (Pipelines: `test_bad_pipelines`; one device: `test_validate`,
`test_solve`.)"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from planner.errors import UsageError
from planner.ir.assignment import Assignment, Contiguity, Crossing, Slot
from planner.ir.devices import Device, Hold, Place
from planner.ir.problem import Latency, Limits, Objective, Option, Pair, Problem, Setting
from planner.ir.solution import Solution, Status
from planner.solve.check import check
from planner.solve.progress import Progress
from planner.solve.solve import solve
from tests.solve.problems import flat

FREE_SETTING = Setting("any", (Latency(0.0, 0.0, 0.0),))
ASSIGNMENTS = ("chain", "free", "schedule")
FORMS = (*ASSIGNMENTS, "pairwise")


def assigned(form: str, times_us: list[float], edges: list[tuple[int, int]]) -> Problem:
    """Operators on two accelerators that hold two thirds of them each, and a slow CPU."""
    names = [f"o{n}" for n in range(len(times_us))]
    options = [
        Option(f"{name} on {place}", (name,), "plain", flat(us * factor), place=place,
               weight_size_bytes=size)
        for name, us in zip(names, times_us, strict=True)
        for place, factor, size in (("gpu", 1.0, 3), ("cpu", 10.0, 0))
    ]  # fmt: skip
    is_scheduled = form == "schedule"
    cpu = Slot("cpu", "cpu", pays_crossings=False, is_unlimited=is_scheduled)
    return Problem(
        ops=tuple(names),
        edges=tuple((names[a], names[b]) for a, b in edges),
        options=tuple(options),
        settings=(FREE_SETTING,),
        objectives=(Objective.LATENCY if is_scheduled else Objective.PERIOD,),
        places=(Place("gpu", "gpu"), Place("cpu", "cpu")),
        devices=(Device("gpu", 2 * len(names)), Device("cpu")),
        assignment=Assignment(
            (Slot("gpu 0", "gpu"), Slot("gpu 1", "gpu"), cpu),
            tuple(Crossing(names[a], 1.0) for a in sorted({a for a, _ in edges})),
            contiguity=Contiguity.FREE if form == "free" else Contiguity.CHAIN,
            is_scheduled=is_scheduled,
        ),
    )


def paired(times_us: list[float], edges: list[tuple[int, int]]) -> Problem:
    """Two options each; neighbours of one kind cost nothing together, and all first ones do not
    fit."""
    names = [f"o{n}" for n in range(len(times_us))]
    options = [
        Option(f"{name}:{kind}", (name,), kind, flat(us * factor), holds=(Hold(0, 1, size),))
        for name, us in zip(names, times_us, strict=True)
        for kind, factor, size in (("fp16", 1.0, 3), ("int8", 2.0, 1))
    ]
    return Problem(
        ops=tuple(names),
        edges=tuple((names[a], names[b]) for a, b in edges),
        options=tuple(options),
        settings=(FREE_SETTING,),
        objectives=(Objective.LATENCY,),
        limits=Limits(memory_size_bytes=max(2 * len(names), 1)),
        pairs=tuple(Pair(names[a], names[b], (0.0, 1.0, 1.0, 0.0)) for a, b in edges),
    )


def make(form: str, times_us: list[float], edges: list[tuple[int, int]]) -> Problem:
    """A problem of a form."""
    return paired(times_us, edges) if form == "pairwise" else assigned(form, times_us, edges)


CHAIN = [(n, n + 1) for n in range(5)]
TIMES = [4.0, 3.0, 5.0, 2.0, 4.0, 3.0]


def first_changed(problem: Problem, **fields: object) -> Problem:
    """With the first option changed."""
    first = replace(problem.options[0], **fields)  # type: ignore[arg-type]
    return replace(problem, options=(first, *problem.options[1:]))


def without_options(problem: Problem, name: str) -> Problem:
    """With no option for an operator."""
    return replace(problem, options=tuple(o for o in problem.options if name not in o.ops))


def solved(problem: Problem, time_limit_s: float = 20.0) -> Solution:
    """An answer that the checker accepts."""
    found = solve(problem, time_limit_s=time_limit_s, workers=1)
    assert not check(problem, found)
    return found


WRONG: dict[str, Callable[[Problem], Problem]] = {
    "no option": lambda p: without_options(p, "o1"),
    "infinite cost": lambda p: first_changed(p, latency=flat(math.inf)),
    "no number": lambda p: first_changed(p, latency=flat(math.nan)),
    "negative cost": lambda p: first_changed(p, latency=flat(-1.0)),
    "negative weight": lambda p: first_changed(p, weight_size_bytes=-1),
    "cycle": lambda p: replace(p, edges=(("o0", "o1"), ("o1", "o0"))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", sorted(WRONG))
def test_nonsense_is_refused_and_named(form: str, case: str) -> None:
    with pytest.raises(UsageError, match=r"o0|o1"):
        solve(WRONG[case](make(form, TIMES, CHAIN)))


@pytest.mark.parametrize("form", ASSIGNMENTS)
def test_nonsense_about_devices_is_refused_and_named(form: str) -> None:
    problem = assigned(form, TIMES, CHAIN)
    assert problem.assignment is not None
    with pytest.raises(UsageError, match="gpu"):
        solve(replace(problem, devices=(Device("gpu", -1), Device("cpu"))))
    with pytest.raises(UsageError, match="no slot"):
        solve(replace(problem, assignment=replace(problem.assignment, slots=())))
    for us in (math.inf, math.nan, -1.0):
        bad = replace(problem.assignment, crossings=(Crossing("o0", us),))
        with pytest.raises(UsageError, match="o0"):
            solve(replace(problem, assignment=bad))


@pytest.mark.parametrize("us", [math.nan, -1.0])
def test_nonsense_about_pairs_is_refused_and_named(us: float) -> None:
    problem = paired(TIMES, CHAIN)
    pair = replace(problem.pairs[0], latency_us=(us, 0.0, 0.0, 0.0))
    with pytest.raises(UsageError, match="o0"):
        solve(replace(problem, pairs=(pair,)))


def test_negative_memory_of_pairs_is_refused_and_named() -> None:
    problem = paired(TIMES, CHAIN)
    with pytest.raises(UsageError, match="memory_size_bytes"):
        solve(replace(problem, limits=Limits(memory_size_bytes=-1)))
    with pytest.raises(UsageError, match="o0"):
        solve(first_changed(problem, holds=(Hold(0, 1, -3),)))


def test_pairs_that_are_all_forbidden_are_infeasible() -> None:
    problem = paired(TIMES, CHAIN)
    pair = replace(problem.pairs[0], latency_us=(math.inf,) * 4)
    assert solved(replace(problem, pairs=(pair,))).status is Status.INFEASIBLE


@pytest.mark.parametrize("form", FORMS)
def test_one_operator(form: str) -> None:
    found = solved(make(form, [4.0], []))
    assert found.status is Status.OPTIMAL
    # what does not fit on an accelerator of two bytes goes to the CPU; int8 takes twice as long
    assert found.objective[0] == pytest.approx(8.0 if form == "pairwise" else 40.0)


@pytest.mark.parametrize("form", FORMS)
def test_disconnected_graphs(form: str) -> None:
    found = solved(make(form, TIMES, [(0, 1), (2, 3)]))
    assert found.status is Status.OPTIMAL
    assert len(found.chosen) == len(TIMES)


@pytest.mark.parametrize("form", ASSIGNMENTS)
def test_no_device_that_can_run_an_operator_is_infeasible(form: str) -> None:
    """Zero devices of the only type that supports an operator."""
    problem = assigned(form, TIMES, CHAIN)
    assert problem.assignment is not None
    only_gpu = replace(
        problem, options=tuple(o for o in problem.options if o.ops != ("o0",) or o.place == "gpu")
    )
    cpu_alone = replace(problem.assignment, slots=problem.assignment.slots[2:])
    assert solved(replace(only_gpu, assignment=cpu_alone)).status is Status.INFEASIBLE


@pytest.mark.parametrize("form", FORMS)
def test_twelve_orders_of_magnitude(form: str) -> None:
    """One operator costs 1e6 us, the others a millionth of one: what is said to be proved holds."""
    times = [1e6, *(1e-6 * us for us in TIMES)]
    problem = make(form, times, [])
    found = solved(problem)
    least = {"pairwise": 1e6 + 1e-6 * (sum(TIMES) + 2 * 0), "chain": 1e6, "free": 1e6}
    best = least.get(form, 1e6)
    assert found.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert found.bound[0] <= found.objective[0]
    if form == "pairwise":
        # two bytes an operator: every second one is int8, the cheapest of them
        extra = sorted(times)[:4]
        best = sum(times) + sum(extra)
    assert found.objective[0] == pytest.approx(best, rel=1e-9)
    assert found.bound[0] >= best * (1 - max(found.rounding, 1e-8))


@pytest.mark.parametrize("form", FORMS)
def test_no_time_at_all(form: str) -> None:
    times = [float(3 + n * n % 7) for n in range(24)]
    problem = make(form, times, [(n, n + 1) for n in range(23)] + [(n, n + 5) for n in range(19)])
    found = solve(problem, time_limit_s=0.0, workers=1)
    assert found.status in (Status.UNKNOWN, Status.FEASIBLE, Status.OPTIMAL)
    assert found.hit_time_limit or found.status is Status.OPTIMAL
    assert not check(problem, found)


@pytest.mark.parametrize("form", FORMS)
def test_interruption_returns_the_incumbent(form: str) -> None:
    seen: list[float] = []

    def interrupt(progress: Progress) -> None:
        if progress.incumbent is not None:
            seen.append(progress.incumbent)
            raise KeyboardInterrupt

    problem = make(form, TIMES, CHAIN)
    found = solve(problem, time_limit_s=20.0, workers=1, reporter=interrupt)
    assert found.is_interrupted
    assert found.status in (Status.FEASIBLE, Status.OPTIMAL)
    assert found.objective[0] == pytest.approx(seen[0])
    assert not check(problem, found)
