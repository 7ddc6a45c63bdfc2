"""C4: memory of each device. Symbols: `model`."""

from __future__ import annotations

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


def held(m: StageModel, stage: int, time: int) -> Sum:
    """Bytes of activations at one time: Σ holds of options and received copies."""
    found = Sum()
    for (g, p), column in m.x.items():
        if p == stage:
            holds = m.problem.options[g].holds
            found.add(column, sum(h.size_bytes for h in holds if h.start <= time < h.end))
    for key, column in m.f.items():
        if key[2] == stage:
            holds = m.problem.transfers[key[0]].holds
            found.add(column, sum(h.size_bytes for h in holds if h.start <= time < h.end))
    return found


def memory(m: StageModel) -> None:
    """C4: resident(p) + W[p] + Σ_r Z[p,r] + Σ holds at τ <= capacity of p, at every maximal time τ.

    capacity(p) = Σ_k y[k,p]·min(device of k, the user's limit); and <= M where M is minimised.
    """
    problem = m.problem
    parts = [option.holds for option in problem.options]
    parts += [transfer.holds for transfer in problem.transfers]
    times = maximal_times(hold for holds in parts for hold in holds)
    for p, time in product(m.stages, times or [0]):
        used = m.resident(p).plus(held(m, p, time))
        largest = used.upper(m.model)
        limit = problem.limits.memory_size_bytes
        capacity = Sum()
        for k, device in enumerate(m.device_of):
            least = [x for x in (limit, device.memory_size_bytes) if x is not None]
            capacity.add(m.y[k, p], min([*least, largest]))
        at_most(m, f"C4/memory/{p}/{time}", used, capacity)
        if m.memory >= 0:
            at_most(m, f"C4/most/{p}/{time}", used, sum_of([m.memory]))
