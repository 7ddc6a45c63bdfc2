"""C4: memory of each device. Symbols: `model`."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import product

from planner.solve.stages.model import StageModel, Sum
from planner.solve.stages.sums import at_most, sum_of
from planner.solve.times import maximal_times


def workspace(m: StageModel) -> None:
    """C4: Σ_{g∋o} μ[g]·x[g,p] <= W[p] for every operator o."""
    options = m.problem.options
    for (op, members), (p, column) in product(m.covering().items(), m.workspace.items()):
        groups = [members] if op not in m.problem.repeatable else [[g] for g in members]
        for inside in groups:
            used = Sum(
                {m.x[g, p]: float(options[g].workspace_size_bytes) for g in inside if (g, p) in m.x}
            )
            if any(used.terms.values()):
                at_most(m, f"C4/workspace/{op}/{p}", used, sum_of([column]))


def held(m: StageModel, times: Sequence[int]) -> dict[tuple[int, int], Sum]:
    """Bytes of activations by stage and time: Σ holds of options and received copies."""
    found = {(p, time): Sum() for p, time in product(m.stages, times)}
    parts = [(p, m.problem.options[g].holds, column) for (g, p), column in m.x.items()]
    parts += [(key[2], m.problem.transfers[key[0]].holds, col) for key, col in m.f.items()]
    for p, holds, column in parts:
        for hold in holds:
            first, last = bisect_left(times, hold.start), bisect_left(times, hold.end)
            for time in times[first:last]:
                found[p, time].add(column, hold.size_bytes)
    return found


def memory(m: StageModel) -> None:
    """C4: resident(p) + W[p] + Σ_r Z[p,r] + Σ holds at τ <= capacity of p, at every maximal time τ.

    capacity(p) = Σ_k y[k,p]·min(device of k, the user's limit); and <= M where M is minimised.
    Where there are several times, resident + W + Z <= B[p] keeps their rows short.
    """
    problem = m.problem
    parts = [option.holds for option in problem.options]
    parts += [transfer.holds for transfer in problem.transfers]
    times = maximal_times(hold for holds in parts for hold in holds) or [0]
    activations = held(m, times)
    for p in m.stages:
        resident = m.resident_bytes(p)
        if p in m.resident:
            at_most(m, f"C4/resident/{p}", resident, sum_of([m.resident[p]]))
            resident = sum_of([m.resident[p]])
        for time in times:
            _fits(m, p, time, resident.plus(activations[p, time]))


def _fits(m: StageModel, p: int, time: int, used: Sum) -> None:
    largest, limit = used.upper(m.model), m.problem.limits.memory_size_bytes
    capacity = Sum()
    for k in m.places_at(p):
        least = [x for x in (limit, m.device_of[k].memory_size_bytes) if x is not None]
        # amounts are multiples of their units: rounding up must cut off no plan
        units = (m.model.columns[column].unit for column in used.terms)
        slack = math.fsum(unit for unit in units if unit > 1.0)
        capacity.add(m.y[k, p], min([*least, largest]) + slack)
    at_most(m, f"C4/memory/{p}/{time}", used, capacity)
    if m.memory >= 0:
        at_most(m, f"C4/most/{p}/{time}", used, sum_of([m.memory]))
