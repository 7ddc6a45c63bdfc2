"""Makes the columns of a pipeline's model: everything that may be chosen, and the amounts."""

from __future__ import annotations

from itertools import product

from planner.ir.devices import Hold
from planner.ir.problem import Objective, Problem
from planner.solve.stages.model import EXPECTED, Homes, StageModel, may_store
from planner.solve.times import maximal_times


def columns(
    problem: Problem,
    row: int,
    end: int,
    sequence: tuple[int, ...] | None = None,
    homes: Homes | None = None,
) -> StageModel:
    """All columns under one setting, or those of stages at given places and operators at home."""
    found = StageModel(problem, row, end, sequence, homes)
    _choices(found)
    _transfers(found)
    _stores(found)
    _pairs(found)
    _amounts(found)
    return found


def _choices(found: StageModel) -> None:
    problem, model = found.problem, found.model
    for p in found.stages:
        for k in found.places_at(p):
            found.y[k, p] = model.choice(f"y[{problem.places[k].name},{p}]")
        for g, option in enumerate(problem.options):
            if found.may_run(g, p) and found.cells(option.latency):
                found.x[g, p] = model.choice(f"x[{option.name},{p}]")
    for p, (v, conversion) in product(found.stages, enumerate(problem.conversions)):
        if found.places_of(conversion.place, p) and found.cells(conversion.latency):
            found.c[v, p] = model.choice(f"c[{conversion.name},{p}]")


def _transfers(found: StageModel) -> None:
    devices = [sorted({found.device_of[k].name for k in found.places_at(p)}) for p in found.stages]
    links = found.links()
    for t, transfer in enumerate(found.problem.transfers):
        for q, p in _ordered(found):
            for a, b in product(devices[q], devices[p]):
                if (a, b) in links:
                    name = f"f[{transfer.name},{q},{p},{a},{b}]"
                    found.f[t, q, p, a, b] = found.model.choice(name)


def _ordered(found: StageModel) -> list[tuple[int, int]]:
    return [(q, p) for p in found.stages for q in range(p)]


def _stores(found: StageModel) -> None:
    problem, devices = found.problem, found.device_of
    for (g, p), (r, store) in product(found.x, enumerate(problem.stores)):
        option = problem.options[g]
        for k in found.places_of(option.place, p):
            if may_store(option, store, devices[k]):
                name = f"u[{option.name},{p},{problem.places[k].name},{store.name}]"
                found.u[g, p, k, r] = found.model.choice(name)
    for r, store in enumerate(problem.stores):
        found.used[r] = found.model.choice(f"used[{store.name}]")


def _pairs(found: StageModel) -> None:
    covering = found.covering()
    for number, pair in enumerate(found.problem.pairs):
        firsts, seconds = covering[pair.first], covering[pair.second]
        for i, j, p in product(range(len(firsts)), range(len(seconds)), found.stages):
            is_finite = pair.latency_us[i * len(seconds) + j] < float("inf")
            if is_finite and (seconds[j], p) in found.x:
                found.e[number, i, j, p] = found.model.choice(f"e[{number},{i},{j},{p}]")


def _amounts(found: StageModel) -> None:
    problem, model = found.problem, found.model
    ends = {EXPECTED} | ({found.end} if problem.limits.latency_us is not None else set())
    largest = max((option.workspace_size_bytes for option in problem.options), default=0)
    weights = sum(option.weight_size_bytes for option in problem.options)
    times = maximal_times(_holds(problem))
    for p in found.stages:
        if largest:
            found.workspace[p] = model.amount(f"W[{p}]", float(largest))
        if problem.stores:
            for r, store in enumerate(problem.stores):
                found.slots[p, r] = model.amount(f"Z[{p},{store.name}]", float(weights))
            for shape, end in product(found.shapes, sorted(ends)):
                horizon = _horizon(found, p, shape, end)
                found.finish[p, shape, end] = model.amount(f"F[{p},{shape},{end}]", horizon)
        if len(times) > 1:
            upper = found.resident_bytes(p).upper(model)
            found.resident[p] = model.amount(f"B[{p}]", upper)
    _aims(found)


def _holds(problem: Problem) -> list[Hold]:
    parts = [option.holds for option in problem.options]
    parts += [transfer.holds for transfer in problem.transfers]
    return [hold for holds in parts for hold in holds]


def _horizon(found: StageModel, stage: int, shape: int, end: int) -> float:
    """Everything one after another: no finish is later."""
    fetches: dict[int, float] = {}
    for key in found.u:
        if key[1] == stage:
            fetches[key[0]] = max(fetches.get(key[0], 0.0), found.fetch_us(key))
    return found.options_us(stage, shape, end).upper(found.model) + sum(fetches.values()) + 1.0


def _aims(found: StageModel) -> None:
    """Period, memory and query cost, where somebody asks for them."""
    problem, model = found.problem, found.model
    asked = set(problem.objectives)
    if problem.limits.query_cost is not None:
        asked.add(Objective.QUERY_COST)
    longest = max(
        found.weighted([found.stage_us(p, w, EXPECTED) for w in found.shapes]).upper(model)
        for p in found.stages
    )
    overhead = sum(
        q * cell.expected_us
        for q, cell in zip(problem.shape_weights, problem.settings[found.row].overhead, strict=True)
    )
    shared = sum(q for q in problem.shape_weights) * sum(map(found.fetch_us, found.u))
    longest += overhead + shared + 1.0
    if asked & {Objective.PERIOD, Objective.QUERY_COST}:
        found.period = model.amount("R", longest)
    if Objective.QUERY_COST in asked:
        found.query = model.amount("Q", (found.price().upper(model) + 1.0) * longest)
    if Objective.MEMORY in asked:
        held = max(found.resident_bytes(p).upper(model) for p in found.stages)
        holds = sum(hold.size_bytes for hold in _holds(problem))
        found.memory = model.amount("M", held + holds + 1.0)
