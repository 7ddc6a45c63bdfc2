"""Free assignment (C12): every solver against brute force, priced by the checker."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from planner.errors import UsageError
from planner.ir.assignment import Assignment, Contiguity, Crossing, Slot
from planner.ir.devices import Device, Place
from planner.ir.problem import Latency, Limits, Objective, Option, Problem, Setting
from planner.ir.solution import Solution, Status
from planner.solve.assign import chain, free_model, linear, rates, schedule, walk
from planner.solve.assign import seed as seeding
from planner.solve.assign.anneal import anneal, state_of
from planner.solve.assign.chain_regions import improve_chain
from planner.solve.assign.diagram import Diagram
from planner.solve.assign.dynamic import best_chain
from planner.solve.assign.evaluate import check_assignment, options_at
from planner.solve.assign.families import boundaries, nearby
from planner.solve.assign.flow import flow_of
from planner.solve.assign.glue import glue, least_load_us
from planner.solve.assign.ideals import TooManyError, bands, enumerate_ideals, tabulate
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups, initial, read
from planner.solve.assign.linear import cut, segment_loads, slots_of
from planner.solve.assign.one_slot import raise_by_one_slot
from planner.solve.assign.rates import with_rates
from planner.solve.assign.regions import MOST_WORK, WORK, improve, work_after
from planner.solve.assign.schedule_regions import improve_schedule
from planner.solve.assign.windows import speed
from planner.solve.check import check
from planner.solve.solve import solve
from planner.solve.trusted import NAME


def option(op: int, place: str, time_us: float, size: int = 0) -> Option:
    latency = Latency(time_us, time_us, time_us)
    return Option(
        f"o{op} on {place}",
        (f"o{op}",),
        "plain",
        ((latency,),),
        weight_size_bytes=size,
        place=place,
    )


class Maker:
    """Random assignment problems with every family of constraints, small enough to enumerate."""

    def __init__(self, seed: int, *, scheduled: bool, contiguity: Contiguity) -> None:
        rng = self.rng = random.Random(seed)
        self.count = rng.randint(1, 6)
        pairs = itertools.combinations(range(self.count), 2)
        self.edges = [pair for pair in pairs if rng.random() < 0.45]
        self.scheduled = scheduled
        self.contiguity = contiguity

    def problem(self) -> Problem:
        rng = self.rng
        options = []
        for op in range(self.count):
            options.append(option(op, "cpu", rng.choice((0, rng.randint(1, 40))) / 4))
            if rng.random() < 0.9:
                options.append(option(op, "gpu", rng.randint(0, 12) / 4, rng.randint(0, 5)))
        capacity = rng.choice((None, 8, 14))
        return Problem(
            ops=tuple(f"o{op}" for op in range(self.count)),
            edges=tuple((f"o{a}", f"o{b}") for a, b in self.edges),
            options=tuple(options),
            settings=(Setting("any", (Latency(0.0, 0.0, 0.0),)),),
            objectives=(Objective.LATENCY if self.scheduled else Objective.PERIOD,),
            places=(Place("gpu", "gpu"), Place("cpu", "cpu")),
            devices=(Device("gpu", capacity), Device("cpu")),
            assignment=self.assignment(),
        )

    def assignment(self) -> Assignment:
        rng = self.rng
        slots = [Slot(f"gpu {n}", "gpu") for n in range(rng.randint(1, 2))]
        if self.scheduled:
            slots.append(Slot("cpu", "cpu", pays_crossings=False, is_unlimited=True))
        else:
            slots += [Slot(f"cpu {n}", "cpu", False) for n in range(rng.randint(0, 1))]
        sources = sorted({a for a, _ in self.edges})
        names = [f"o{op}" for op in range(self.count)]
        together = (tuple(rng.sample(names, 2)),) if self.count > 1 and rng.random() < 0.3 else ()
        return Assignment(
            tuple(slots),
            tuple(Crossing(f"o{a}", rng.randint(0, 12) / 4) for a in sources),
            together,
            self.contiguity,
            is_scheduled=self.scheduled,
        )


def answers(problem: Problem) -> Iterator[float]:
    """The value of every assignment that the checker accepts."""
    assert problem.assignment is not None
    slots = problem.assignment.slots
    for chosen in itertools.product(range(len(slots)), repeat=len(problem.ops)):
        slot_of = dict(zip(problem.ops, chosen, strict=True))
        try:
            options = options_at(problem, slot_of)
        except KeyError:
            continue
        named = tuple((op, slots[slot].name) for op, slot in slot_of.items())
        answer = Solution(Status.FEASIBLE, tuple(o.name for o in options), slots=named)
        totals, broken = check_assignment(problem, answer)
        if not broken:
            is_period = problem.objectives[0] is Objective.PERIOD
            yield totals.period_us if is_period else totals.weighted_latency_us


def solved(problem: Problem, seconds: float) -> tuple[Solution, float] | None:
    """A plan that the checker accepts with a bound, and the least value of all, which lies between
    the two; None where no plan is found, because there is none."""
    solution = solve(problem, time_limit_s=seconds, workers=1)
    least = min(answers(problem), default=math.inf)
    if not solution.objective:
        assert math.isinf(least)
        return None
    assert check(problem, solution) == ()
    assert solution.objective[0] >= least - 1e-9
    assert solution.bound[0] <= least + 1e-9
    return solution, least


def compare(problem: Problem) -> None:
    """Solver and enumeration agree, and the certificate says so."""
    solution = solve(problem, time_limit_s=20.0, workers=1)
    least = min(answers(problem), default=math.inf)
    if math.isinf(least):
        assert solution.status is Status.INFEASIBLE
        return
    assert solution.status is Status.OPTIMAL
    assert solution.objective[0] == pytest.approx(least, rel=1e-9, abs=1e-12)
    assert solution.bound[0] == pytest.approx(least, rel=1e-8, abs=1e-12)
    assert check(problem, solution) == ()


@pytest.mark.parametrize("block", range(4))
def test_chains_are_optimal(block: int) -> None:
    for seed in range(60):
        compare(Maker(100 * block + seed, scheduled=False, contiguity=Contiguity.CHAIN).problem())


def test_chains_by_cp_sat_are_optimal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "FEW_IDEALS", 0)
    monkeypatch.setattr(chain, "raise_by_crossings", lambda *_: None)
    for seed in range(40):
        compare(Maker(seed, scheduled=False, contiguity=Contiguity.CHAIN).problem())


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_groups_that_no_slot_can_run_together_refute_the_cutoff() -> None:
    """Below 4 us nobody pays for the edge, and no slot runs both ends of it."""
    problem = replace(
        Maker(0, scheduled=False, contiguity=Contiguity.CHAIN).problem(),
        ops=("o0", "o1", "o2"),
        edges=(("o0", "o1"), ("o1", "o2")),
        options=(option(0, "gpu", 1.0), option(1, "cpu", 1.0), option(2, "cpu", 0.5)),
        devices=(Device("gpu"), Device("cpu")),
        assignment=Assignment(
            (Slot("gpu", "gpu", False), Slot("cpu", "cpu")),
            (Crossing("o0", 3.0),),
            contiguity=Contiguity.CHAIN,
        ),
    )
    compare(problem)


def test_chains_begin_nothing_after_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[str] = []

    def over(best: Incumbent, *_: object) -> None:
        best.deadline = time.monotonic() - 1.0

    def noted(module: ModuleType, name: str, is_late: Callable[[], bool]) -> None:
        real = getattr(module, name)

        def stand_in(*given: object, **named: object) -> object:
            if is_late():
                late.append(name)
            return real(*given, **named)

        monkeypatch.setattr(module, name, stand_in)

    for name, value in (("FEW_IDEALS", 0), ("FEW_CELLS", 0), ("raise_by_crossings", over)):
        monkeypatch.setattr(chain, name, value)
    best = Incumbent(wide_chain(12, 3), time.monotonic() + 20.0, 0, 1, 0.0)
    for module, name in ((chain, "glue"), (walk, "walk"), (seeding, "cut_in_blocks")):
        noted(module, name, lambda: best.remaining_s <= 0)
    chain.solve_chain(best)
    assert best.slots is not None
    assert best.remaining_s <= 0
    assert late == []


def wide_chain(count: int, seed: int) -> Problem:
    """As `wide`, by largest load."""
    problem = wide(count, seed)
    slots = (Slot("gpu 0", "gpu"), Slot("gpu 1", "gpu"), Slot("cpu", "cpu", False))
    crossings = problem.assignment.crossings if problem.assignment else ()
    return replace(
        problem,
        objectives=(Objective.PERIOD,),
        assignment=Assignment(slots, crossings, contiguity=Contiguity.CHAIN),
    )


def test_free_assignments_are_optimal() -> None:
    for seed in range(60):
        compare(Maker(seed, scheduled=False, contiguity=Contiguity.FREE).problem())


@pytest.mark.parametrize("block", range(3))
def test_schedules_are_optimal(block: int) -> None:
    for seed in range(60):
        problem = Maker(100 * block + seed, scheduled=True, contiguity=Contiguity.CHAIN).problem()
        solution = solve(problem, time_limit_s=20.0, workers=1)
        least = min(answers(problem), default=math.inf)
        if math.isinf(least):
            assert solution.status in (Status.INFEASIBLE, Status.UNKNOWN)
            continue
        assert solution.objective[0] >= least - 1e-9
        assert solution.bound[0] <= least + 1e-9
        if solution.status is Status.OPTIMAL:
            assert solution.objective[0] == pytest.approx(least)
        if not problem.assignment or not problem.assignment.together:
            assert solution.status is Status.OPTIMAL


def test_schedules_by_cp_sat_are_optimal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without diagrams: from everything on the unlimited slot to the proof."""
    monkeypatch.setattr(schedule, "FEW_IDEALS", 0)
    monkeypatch.setattr(schedule, "FIRST_ORDERS", 0)
    monkeypatch.setattr(schedule, "ORDERS_SHARE", 0.0)
    monkeypatch.setattr(schedule, "REGIONS_SHARE", 0.0)
    asked = 0
    for seed in range(60):
        problem = Maker(seed, scheduled=True, contiguity=Contiguity.CHAIN).problem()
        solution = solve(problem, time_limit_s=20.0, workers=1)
        least = min(answers(problem), default=math.inf)
        if not solution.objective:
            assert math.isinf(least) or solution.status is Status.UNKNOWN
            continue
        asked += NAME in solution.solver
        assert solution.objective[0] >= least - 1e-9
        assert solution.bound[0] <= least + 1e-9
        if not problem.assignment or not problem.assignment.together:
            assert solution.objective[0] == pytest.approx(least)
            assert solution.status is Status.OPTIMAL
    assert asked >= 10


def test_neighbourhoods_of_schedules_keep_the_rules() -> None:
    improved = 0
    for seed in range(40):
        problem = Maker(seed, scheduled=True, contiguity=Contiguity.CHAIN).problem()
        flow = flow_of(read(problem), initial(problem))
        best = Incumbent(problem, time.monotonic() + 20.0, seed, 1, 0.0)
        if not np.isfinite(flow.op_time_us[-1]).all():
            continue
        best.offer([len(problem.assignment.slots) - 1] * len(problem.ops), "one slot")  # type: ignore[union-attr]
        before = best.value_us
        improve_schedule(best, flow, random.Random(seed), time.monotonic() + 0.05)
        assert best.value_us >= min(answers(problem)) - 1e-9
        improved += best.value_us < before
    assert improved >= 10


def test_what_is_torn_apart_is_not_called_proved() -> None:
    """One slot waits for o0 and is waited for by o3; o0 and o3 share the unlimited slot."""
    fast = {1: 1.0, 2: 1.0}
    problem = Problem(
        ops=("o0", "o1", "o2", "o3"),
        edges=(("o0", "o1"), ("o2", "o3")),
        options=(
            *(option(op, "cpu", {**dict.fromkeys(fast, 50.0)}.get(op, 1.0)) for op in range(4)),
            *(option(op, "gpu", time_us) for op, time_us in fast.items()),
        ),
        settings=(Setting("any", (Latency(0.0, 0.0, 0.0),)),),
        objectives=(Objective.LATENCY,),
        places=(Place("gpu", "gpu"), Place("cpu", "cpu")),
        devices=(Device("gpu"), Device("cpu")),
        assignment=Assignment(
            (Slot("gpu", "gpu"), Slot("cpu", "cpu", False, True)),
            together=(("o0", "o3"),),
            contiguity=Contiguity.CHAIN,
            is_scheduled=True,
        ),
    )
    assert min(answers(problem)) == 4.0
    assert solve(problem, time_limit_s=1.0).bound[0] <= 4.0


def wide(count: int, seed: int) -> Problem:
    """Layers of operators that all read the layer before: more than a handful of ideals."""
    rng = random.Random(seed)
    edges = [
        (a, b)
        for b in range(count)
        for a in range(max(0, 3 * (b // 3) - 3), 3 * (b // 3))
        if rng.random() < 0.7
    ]
    maker = Maker(seed, scheduled=True, contiguity=Contiguity.CHAIN)
    maker.count, maker.edges = count, edges
    return maker.problem()


def test_narrow_diagrams_bracket_the_exact_one() -> None:
    for seed in range(25):
        problem = wide(9, seed)
        groups = initial(problem)
        flow = flow_of(read(problem), groups)
        ideals = enumerate_ideals(groups, 10_000)
        later = time.monotonic() + 60
        values = {}
        for name, width, is_relaxed in (
            ("exact", 10**6, False),
            ("up", 2, False),
            ("low", 2, True),
        ):
            values[name] = Diagram(flow, ideals, math.inf, width, is_relaxed, later).run()
        assert values["low"] <= values["exact"] <= values["up"]


@pytest.mark.parametrize("is_rated", [False, True])
def test_merging_and_bounds_keep_the_optimum(
    is_rated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "GAIN", -1.0)  # rates even where fastest times say as much
    for seed in range(60):
        problem = Maker(seed, scheduled=False, contiguity=Contiguity.CHAIN).problem()
        least = min(answers(problem), default=math.inf)
        groups = initial(problem)
        groups = with_rates(groups) if is_rated else groups
        assert least_load_us(groups) <= least + 1e-9
        if math.isinf(least):
            continue
        cutoff = least + 1e-6
        glued = glue(groups, cutoff, is_acyclic=True)
        later = time.monotonic() + 60
        ideals = enumerate_ideals(glued, 10_000, bands(glued, cutoff))
        found = best_chain(glued, cutoff, ideals, later)
        assert found is not None
        assert found.value_us == pytest.approx(least)
        ideals = enumerate_ideals(glued, 10_000, bands(glued, least - 1e-6))
        assert best_chain(glued, least - 1e-6, ideals, later) is None


def test_rates_say_more_where_memory_or_slow_slots_bind() -> None:
    gains = 0
    for seed in range(150):
        problem = Maker(seed, scheduled=False, contiguity=Contiguity.FREE).problem()
        least = min(answers(problem), default=math.inf)
        plain = initial(problem)
        rated = with_rates(plain)
        assert least_load_us(rated) <= least + 1e-9
        gains += least_load_us(rated) > least_load_us(plain) * 1.01
    assert gains > 1


def test_every_ideal_of_a_band_is_listed_once() -> None:
    for seed in range(40):
        groups = initial(Maker(seed, scheduled=False, contiguity=Contiguity.CHAIN).problem())
        work = groups.time_us.min(axis=0)
        if not np.isfinite(work).all():
            continue
        low, high = sorted(random.Random(seed).uniform(0, 1.2) * work.sum() for _ in range(2))
        subsets = (set(chosen) for chosen in powerset(range(groups.count)))
        ideals = [s for s in subsets if all(a in s or b not in s for a, b in groups.order)]
        inside = [s for s in ideals if low <= sum(work[v] for v in sorted(s)) <= high]
        found = enumerate_ideals(groups, 1_000, [(low, high)]).member
        assert sorted(map(sorted, inside)) == sorted(np.flatnonzero(row).tolist() for row in found)


def test_frontiers_are_what_is_wanted_outside() -> None:
    for seed in range(40):
        problem = Maker(seed, scheduled=True, contiguity=Contiguity.CHAIN).problem()
        groups = initial(problem)
        flow = flow_of(read(problem), groups)
        members = enumerate_ideals(groups, 1_000).member
        for member, found in zip(members, flow.frontiers(members), strict=True):
            rows = zip(flow.sources, flow.source_group, flow.wants, strict=True)
            assert found == [
                op for op, group, wants in rows if member[group] and wants[~member].any()
            ]


def powerset(items: range) -> Iterator[tuple[int, ...]]:
    for size in range(len(items) + 1):
        yield from itertools.combinations(items, size)


def test_low_cutoffs_first_find_the_same_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(60):
        groups = initial(Maker(seed, scheduled=False, contiguity=Contiguity.CHAIN).problem())
        order = list(range(groups.count))
        monkeypatch.setattr(linear, "SHORT", 1_000)
        whole = cut(groups, order)
        monkeypatch.setattr(linear, "SHORT", 0)
        stepwise = cut(groups, order)
        assert (whole and whole.value_us) == (stepwise and stepwise.value_us)
        if whole is not None:
            assert cut(groups, order, whole.value_us) is None
            assert cut(groups, order, whole.value_us * (1 + 1e-9) + 1e-9) is not None


def test_segment_loads_are_those_of_the_checker() -> None:
    for seed in range(30):
        problem = Maker(seed, scheduled=False, contiguity=Contiguity.FREE).problem()
        groups = read(problem)
        if not all(math.isfinite(value) for value in groups.time_us[0]):
            continue
        loads = segment_loads(groups, list(range(groups.count)))[0]
        slots = 2 * groups.count
        assert problem.assignment is not None
        many = tuple(Slot(f"gpu {n}", "gpu") for n in range(slots))
        roomy = replace(
            problem,
            assignment=replace(problem.assignment, slots=many, together=()),
            devices=(Device("gpu"), Device("cpu")),
        )
        for start, end in itertools.combinations(range(groups.count + 1), 2):
            slot_of = {op: 0 if start <= n < end else n + 1 for n, op in enumerate(roomy.ops)}
            named = tuple((op, f"gpu {slot}") for op, slot in slot_of.items())
            chosen = tuple(o.name for o in options_at(roomy, slot_of))
            totals, _ = check_assignment(roomy, Solution(Status.FEASIBLE, chosen, slots=named))
            assert loads[start, end] in (pytest.approx(totals.stage_us[0]), math.inf)


def test_annealing_keeps_its_books() -> None:
    problem = replace(wide(12, 1), objectives=(Objective.PERIOD,))
    assert problem.assignment is not None
    free = replace(problem.assignment, is_scheduled=False, contiguity=Contiguity.FREE, together=())
    groups = initial(replace(problem, assignment=free))
    start = [len(free.slots) - 1] * groups.count
    found = anneal(groups, start, 4000, random.Random(0), lambda done: done)
    assert state_of(groups, found).largest < state_of(groups, start).largest
    state = state_of(groups, found)
    for group, target in ((0, 0), (3, 1), (5, 0)):
        if state.slot_of[group] != target and math.isfinite(
            groups.time_us[state.slots[target][1], group]
        ):
            state.move(group, target, state.deltas(group, target))
    fresh = state_of(groups, [state.slots[d][0] for d in state.slot_of])
    assert state.load == pytest.approx(fresh.load)


def free(seed: int, count: int) -> Problem:
    """Any assignment of layers of operators."""
    problem = replace(wide(count, seed), objectives=(Objective.PERIOD,))
    assert problem.assignment is not None
    slots = tuple(replace(slot, is_unlimited=False) for slot in problem.assignment.slots)
    return replace(
        problem,
        assignment=replace(
            problem.assignment, slots=slots, is_scheduled=False, contiguity=Contiguity.FREE
        ),
    )


def test_one_slot_bounds_the_optimum() -> None:
    raised = 0
    for seed in range(40):
        problem = free(seed, 7)
        least = min(answers(problem), default=math.inf)
        if math.isinf(least):
            continue
        later = time.monotonic() + 20
        best = Incumbent(problem, later, seed, 1, 0.0)
        best.value_us = math.inf
        groups = glue(initial(problem), least + 1e-6, is_acyclic=False)
        best.raise_bound(least_load_us(initial(problem)), "load")
        before = best.bound_us
        raise_by_one_slot(best, groups, least + 1e-6, later)
        assert best.bound_us <= least + 1e-6
        raised += best.bound_us > before
    assert raised


def test_neighbourhoods_find_the_optimum() -> None:
    """From everything on the CPU, which always fits."""
    for seed in range(8):
        problem = free(seed, 7)
        least = min(answers(problem))
        later = time.monotonic() + 20
        best = Incumbent(problem, later, seed, 1, 0.0)
        cpu = max(kind.slots[0] for kind in read(problem).kinds)
        assert best.offer([cpu] * len(problem.ops), "start")
        best.raise_bound(least, "known")
        improve(best, initial(problem), random.Random(seed), later)
        assert best.value_us == pytest.approx(least)


def test_neighbourhoods_of_chains_are_chains() -> None:
    """What they find is a plan of the enumeration, often the best where a cut is not."""
    improved, optimal = 0, 0
    for seed in range(60):
        problem = Maker(seed, scheduled=False, contiguity=Contiguity.CHAIN).problem()
        values, groups = np.array(list(answers(problem))), initial(problem)
        start = cut(groups, list(range(groups.count)))
        if start is None or start.value_us <= values.min() + 1e-9:
            continue
        best = Incumbent(problem, time.monotonic() + 20, seed, 1, 0.0)
        assert best.offer(slots_of(groups, start), "start")
        best.raise_bound(values.min(), "known")
        improve_chain(best, groups, random.Random(seed), time.monotonic() + 0.15, 1)
        assert np.abs(values - best.value_us).min() < 1e-9
        improved += best.value_us < start.value_us - 1e-9
        optimal += best.is_proved
    assert improved >= 5
    assert optimal >= 3


@pytest.mark.parametrize("seed", range(6))
def test_chains_near_a_plan_are_plans(seed: int) -> None:
    """Families of ideals where all are too many: never better than the optimum, often as good."""
    maker = Maker(seed, scheduled=False, contiguity=Contiguity.CHAIN)
    maker.count = 6
    problem = maker.problem()
    least = min(answers(problem), default=math.inf)
    groups = initial(problem)
    found = cut(groups, list(range(groups.count)))
    if found is None:
        return
    slots = slots_of(groups, found)
    plan = [slots[members[0]] for members in groups.members]
    cutoff = found.value_us + 1e-6
    masks = nearby(groups, plan, 20, random.Random(seed))
    assert set(boundaries(groups, plan)) <= set(masks)
    better = best_chain(groups, cutoff, tabulate(groups, masks), time.monotonic() + 20)
    assert better is not None
    assert least - 1e-9 <= better.value_us <= found.value_us + 1e-9


def test_few_ideals_and_few_pairs_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "FEW_PAIRS", 0)
    for seed in range(30):
        compare(Maker(seed, scheduled=False, contiguity=Contiguity.CHAIN).problem())


def test_same_seed_same_answer() -> None:
    problem = wide(10, 3)
    first, second = (solve(problem, time_limit_s=60.0, seed=7, workers=1) for _ in range(2))
    assert first.slots == second.slots


def test_too_many_ideals_are_said() -> None:
    with pytest.raises(TooManyError):
        enumerate_ideals(initial(wide(12, 0)), 3)


def test_many_ideals_still_get_a_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "FEW_IDEALS", 20)
    solution = solve(wide(12, 0), time_limit_s=0.5, workers=1)
    assert solution.status in (Status.FEASIBLE, Status.OPTIMAL)
    assert solution.gap is not None


def test_order_follows_what_is_asked() -> None:
    """Backward operators beside their forward ones: only the forward edges count."""
    problem = Problem(
        ops=("o0", "o1", "o2", "o3"),
        edges=(("o0", "o1"), ("o1", "o2"), ("o2", "o3")),
        options=tuple(option(op, "gpu", 1.0) for op in range(4)),
        settings=(Setting("any", (Latency(0.0, 0.0, 0.0),)),),
        objectives=(Objective.PERIOD,),
        places=(Place("gpu", "gpu"),),
        devices=(Device("gpu"),),
        assignment=Assignment(
            (Slot("a", "gpu"), Slot("b", "gpu")),
            together=(("o0", "o3"), ("o1", "o2")),
            contiguity=Contiguity.CHAIN,
            order=(("o0", "o1"),),
        ),
    )
    solution = solve(problem)
    assert solution.objective == (2.0,)
    assert problem.assignment is not None
    strict = replace(problem, assignment=replace(problem.assignment, order=None))
    assert solve(strict).objective == (4.0,)


def test_a_limit_that_cannot_be_heeded_is_refused() -> None:
    problem = Maker(0, scheduled=False, contiguity=Contiguity.CHAIN).problem()
    with pytest.raises(UsageError, match="cannot heed"):
        solve(replace(problem, limits=Limits(error=0.1)))
    with pytest.raises(UsageError, match="one objective"):
        solve(replace(problem, objectives=(Objective.PERIOD, Objective.LATENCY)))


def test_broken_answers_are_found() -> None:
    problem = next(
        found
        for seed in range(100)
        if (found := Maker(seed, scheduled=False, contiguity=Contiguity.CHAIN).problem()).edges
        and solve(found).status is Status.OPTIMAL
    )
    solution = solve(problem)
    assert check(problem, replace(solution, slots=solution.slots[1:]))[0].constraint == "C12"
    elsewhere = tuple((op, "nowhere") for op, _ in solution.slots)
    assert check(problem, replace(solution, slots=elsewhere))[0].constraint == "names"
    dearer = replace(solution, objective=(solution.objective[0] + 1.0,))
    assert {v.constraint for v in check(problem, dearer)} == {"totals"}


def test_one_order_can_be_cut() -> None:
    problem = wide(6, 2)
    groups = initial(problem)
    found = cut(groups, list(range(groups.count)))
    assert found is not None
    assert len(found.kinds) == max(found.stage) + 1


def test_walks_without_end_do_not_overflow() -> None:
    assert work_after(0) == work_after(1) == WORK
    assert work_after(2) == 2 * WORK
    assert work_after(10_000) == MOST_WORK


def test_the_speed_of_a_kind_is_worked_out_once_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once a term: a model has a term for each group on each slot."""
    groups = initial(free(1, 12))
    asked: list[int] = []

    def counted(groups: Groups, kind: int) -> float:
        asked.append(kind)
        return speed(groups, kind)

    monkeypatch.setattr(free_model, "speed", counted)
    cutoff_us = 2 * float(groups.time_us[np.isfinite(groups.time_us)].sum())
    assert free_model.build_free(groups, cutoff_us, together_us=cutoff_us) is not None
    assert sorted(asked) == list(range(len(groups.kinds)))
