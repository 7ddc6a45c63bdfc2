"""Contiguous assignment in CP-SAT: cumulative stages, within the windows that a cutoff leaves.

Sets    groups v, stages p = 0..P-1 (one slot each), kinds k, nets n
        g[v,p] = [stage(v) >= p]; y[p,k] = [stage p is a slot of kind k]; z[n,p] = [p cuts n]

    g[v,p+1] -> g[v,p];  g[u,p] -> g[v,p] for every edge (u, v)       chain of ideals
    x[v,p] = g[v,p] - g[v,p+1];  Σ_k y[p,k] = 1;  Σ_p y[p,k] = slots of kind k
    z[n,p] >= |x[source,p] - x[target,p]|                             a net is paid once a stage
    y[p,k] -> Σ_v t_kv·x[v,p] + Σ_n c_n·z[n,p] <= L, Σ_v size_kv·x[v,p] <= capacity_k
    minimise L

Windows: a group's stage lies where its predecessors fit before it and its successors behind it, at
the speed of the fastest slots, with every load below the cutoff.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import monotonic

from planner.solve.assign.glue import is_memory_slack
from planner.solve.assign.incumbent import Incumbent
from planner.solve.assign.instance import Groups
from planner.solve.assign.linear import Cut, slots_of
from planner.solve.assign.program import (
    FALSE,
    TRUE,
    Effort,
    Program,
    fitted_sizes,
    negated,
    search,
    settle,
    whole_units,
)
from planner.solve.assign.windows import windows
from planner.solve.trusted import NAME

PRECISION = 2**-36
"""The unit of time, relative to the cutoff: at most a millionth of a millionth per 16 terms."""
COARSE = 2**-20
"""And for the first search: CP-SAT propagates far better with short coefficients. Rounding only
weakens rows, so what is infeasible with it is infeasible."""
COARSE_SHARE = 0.7
"""Of the time."""
BUILD_S_PER_CELL = 1e-4
"""What a model takes for a group, slot and kind until CP-SAT searches it, in seconds of processor:
with less time than that it is not begun."""


@dataclass(slots=True)
class StageModel:
    """The program with the meaning of its columns."""

    groups: Groups
    cutoff_us: float
    unit_us: float
    program: Program
    reach: list[list[int]]
    """g[v][p], p = 0..P."""
    kind: list[list[int]]
    """y[p][k]"""
    load: int
    """Column of L."""
    loads: Sequence[int] = ()
    """Columns of each stage's load where these are apart."""

    def units(self, time_us: float) -> int:
        """Rounded down."""
        return whole_units(time_us, self.unit_us, self.cutoff_us)

    def inside(self, group: int, stage: int, factor: int) -> Iterator[tuple[int, int]]:
        """Terms of factor·x[v,p]."""
        first, then = self.reach[group][stage], self.reach[group][stage + 1]
        if first == FALSE or then == TRUE:
            return
        yield factor, first
        yield -factor, then

    def read(self, values: list[int]) -> Cut:
        """The chain that a point stands for."""

        def holds(literal: int) -> bool:
            return bool(values[literal]) if literal >= 0 else not values[-1 - literal]

        stage = tuple(sum(map(holds, row[1:])) for row in self.reach)
        kinds = tuple(next(k for k, y in enumerate(row) if holds(y)) for row in self.kind)
        return Cut(values[self.load] * self.unit_us, stage, kinds)


def build(groups: Groups, cutoff_us: float, precision: float = PRECISION) -> StageModel | None:
    """The model of all chains below a finite cutoff; None where a window is empty."""
    stages = groups.slot_count
    room = windows(groups, cutoff_us)
    if any(low > high for low, high in room):
        return None
    unit = cutoff_us * precision
    program = Program()
    reach = [
        [TRUE if p <= low else FALSE if p > high else program.boolean() for p in range(stages + 1)]
        for low, high in room
    ]
    kind = _kinds(program, groups, stages)
    load = program.column(0, math.floor(cutoff_us / unit))
    model = StageModel(groups, cutoff_us, unit, program, reach, kind, load)
    add_rules(model)
    return model


def add_rules(model: StageModel) -> None:
    """Chains of ideals and loads, the largest of which is minimised."""
    _order(model)
    for stage in range(model.groups.slot_count):
        _loads(model, stage)
    model.program.minimise([(1, model.load)])


def _kinds(program: Program, groups: Groups, stages: int) -> list[list[int]]:
    if len(groups.kinds) == 1:
        return [[TRUE] for _ in range(stages)]
    kind = [[program.boolean() for _ in groups.kinds] for _ in range(stages)]
    for row in kind:
        program.exactly_one(row)
    for k, slots in enumerate(groups.kinds):
        count = len(slots.slots)
        program.row(((1, row[k]) for row in kind), count, count)
    return kind


def _order(model: StageModel) -> None:
    """Cumulative stages, and edges that go forward."""
    for row in model.reach:
        for first, then in pairwise(row):
            if first != TRUE and then != FALSE:
                model.program.implies(then, first)
    for a, b in model.groups.order:
        for first, then in zip(model.reach[a], model.reach[b], strict=True):
            if first != FALSE and then != TRUE:
                model.program.implies(first, then)


def _loads(model: StageModel, stage: int) -> None:
    groups, program = model.groups, model.program
    crossing = list(_crossings(model, stage))
    for k, kind in enumerate(groups.kinds):
        here = [model.kind[stage][k]]
        terms: list[tuple[int, int]] = []
        for v in range(groups.count):
            time = groups.time_us[k, v]
            if not math.isfinite(time):
                unable = [negated(here[0]), negated(model.reach[v][stage])]
                program.clause(*unable, model.reach[v][stage + 1])
            elif time > 0:
                terms += model.inside(v, stage, model.units(time))
        paid = crossing if kind.pays else []
        most = model.loads[stage] if model.loads else model.load
        program.row([*terms, *paid, (-1, most)], None, 0, here)
        if math.isfinite(kind.capacity_bytes) and not is_memory_slack(groups, k):
            sizes, capacity = fitted_sizes(groups, k)
            held = [t for v, size in enumerate(sizes) for t in model.inside(v, stage, size)]
            program.row(held, None, capacity, here)


def _crossings(model: StageModel, stage: int) -> Iterator[tuple[int, int]]:
    """Terms of the nets that a stage may cut."""
    program = model.program
    for net in model.groups.nets:
        members = (net.source, *net.targets)
        here = [list(model.inside(v, stage, 1)) for v in members]
        if not any(here) or all(terms == [(1, TRUE), (-1, FALSE)] for terms in here):
            continue
        is_cut = program.boolean()
        source = here[0]
        for target in here[1:]:
            back = [(-c, literal) for c, literal in source]
            program.row([*target, *back, (-1, is_cut)], None, 0)
            back = [(-c, literal) for c, literal in target]
            program.row([*source, *back, (-1, is_cut)], None, 0)
        yield model.units(net.cost_us), is_cut


def prove_by_stages(best: Incumbent, groups: Groups, cutoff_us: float, share: float = 1.0) -> None:
    """Searches below a finite cutoff until proof, or for a share of the time."""
    left_s = share * best.remaining_s
    until = monotonic() + left_s
    _search(best, groups, cutoff_us, COARSE, monotonic() + COARSE_SHARE * left_s)
    if best.is_proved or best.is_interrupted or best.is_infeasible or monotonic() >= until:
        return
    best.hit_time_limit = False
    _search(best, groups, min(cutoff_us, best.cutoff_us), PRECISION, until)


def _search(
    best: Incumbent, groups: Groups, cutoff_us: float, precision: float, until: float
) -> None:
    """CP-SAT below a cutoff; nothing where building its model would take all the time."""
    cells = groups.count * groups.slot_count * len(groups.kinds)
    if monotonic() + BUILD_S_PER_CELL * cells > until:
        best.is_clocked = True
        return
    model = build(groups, cutoff_us, precision)
    if model is None:
        _proved(best, cutoff_us)
        return

    def on_point(values: list[int], bound: int) -> None:
        best.offer(slots_of(groups, model.read(values)), NAME)
        best.raise_bound(bound * model.unit_us, NAME)

    effort = Effort(until - monotonic(), best.seed, best.workers, best.gap)
    found = search(model.program, effort, on_point)
    settle(best, found, cutoff_us, model.unit_us)
    if precision == PRECISION:
        best.rounding = PRECISION * (groups.count + len(groups.nets))


def _proved(best: Incumbent, cutoff_us: float) -> None:
    best.is_infeasible = math.isinf(best.value_us)
    best.raise_bound(cutoff_us, NAME)
