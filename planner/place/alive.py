"""Activations over a sequence of runs: what passes between runs, and what lives inside one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from planner.graph.analysis import reads
from planner.ir.devices import Hold
from planner.ir.graph import Graph, Op


def activation_holds(
    graph: Graph,
    runs: Sequence[Sequence[str]],
    sizes: Mapping[str, int],
    until: Mapping[str, int] | None = None,
) -> list[tuple[Hold, ...]]:
    """For each run, what it leaves behind for others, and its own peak besides; time points are
    numbers of runs. Inputs and results of the model stay to the end: they are the caller's.

    Args:
        runs: names of operators, all of the graph's in order.
        until: tensors that are let go after the run of that number, whoever reads them later.
    """
    number_of = {op: n for n, run in enumerate(runs) for op in run}
    count = len(runs)
    last: dict[str, int] = {}
    for op in graph.ops:
        last.update(dict.fromkeys(reads(op), number_of[op.name]))
    last.update(dict.fromkeys(graph.outputs, count - 1))
    last.update(until or {})
    by_run: list[list[Op]] = [[] for _ in runs]
    for op in graph.ops:
        by_run[number_of[op.name]].append(op)
    given = sum(sizes.get(name, 0) for name in graph.inputs)
    found = []
    for number, ops in enumerate(by_run):
        made = [name for op in ops for name in op.outputs if name]
        passed = {name: last[name] for name in made if last.get(name, number) > number}
        holds = [Hold(number, end + 1, sizes.get(name, 0)) for name, end in passed.items()]
        holds.append(Hold(number, number + 1, inner_peak_bytes(ops, sizes, passed)))
        if number == 0:
            holds.append(Hold(0, count, given))
        found.append(tuple(hold for hold in holds if hold.size_bytes))
    return found


def inner_peak_bytes(ops: Sequence[Op], sizes: Mapping[str, int], passed: Collection[str]) -> int:
    """Most bytes alive at once of what one run makes and nobody else reads."""
    last = {name: step for step, op in enumerate(ops) for name in reads(op)}
    alive: dict[str, int] = {}
    peak = 0
    for step, op in enumerate(ops):
        own = [name for name in op.outputs if name and name not in passed]
        alive.update({name: sizes.get(name, 0) for name in own})
        peak = max(peak, sum(alive.values()))
        for name in [n for n in alive if last.get(n, step) <= step]:
            del alive[name]
    return peak
