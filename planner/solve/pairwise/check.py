"""Re-prices a choice from the raw problem in Python's own integers: no solver, no presolve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.solve.pairwise.data import FORBIDDEN, Pairwise


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a choice costs and whether it holds."""

    cost: int
    peak: int
    """Largest memory in use at one time."""
    complaint: str
    """What it breaks; empty when it keeps everything."""


def evaluate(problem: Pairwise, chosen: Sequence[int]) -> Evaluation:
    """Cost and peak of one option per node; O(nodes + edges + holds)."""
    sizes = problem.sizes.tolist()
    if len(chosen) != len(sizes):
        return Evaluation(0, 0, f"{len(chosen)} choices for {len(sizes)} nodes")
    for node, (k, size) in enumerate(zip(chosen, sizes, strict=True)):
        if not 0 <= k < size:
            return Evaluation(0, 0, f"node {node} has no option {k}")
    cost, complaint = _cost(problem, chosen, sizes)
    peak = _peak(problem, chosen, sizes)
    if problem.limit is not None and peak > problem.limit and not complaint:
        complaint = f"C4: {peak} bytes in use, {problem.limit} allowed"
    return Evaluation(cost, peak, complaint)


def _cost(problem: Pairwise, chosen: Sequence[int], sizes: Sequence[int]) -> tuple[int, str]:
    total, complaint, first = 0, "", 0
    costs = problem.costs
    for node, size in enumerate(sizes):
        cost = int(costs[first + chosen[node]])
        first += size
        if cost >= FORBIDDEN:
            complaint = complaint or f"option {chosen[node]} of node {node} is forbidden"
        total += cost
    pairs, first = problem.pairs, 0
    for number, (a, b) in enumerate(problem.edges.tolist()):
        cost = int(pairs[first + chosen[a] * sizes[b] + chosen[b]])
        first += sizes[a] * sizes[b]
        if cost >= FORBIDDEN:
            complaint = complaint or f"edge {number} forbids options {chosen[a]} and {chosen[b]}"
        total += cost
    return total, complaint


def _peak(problem: Pairwise, chosen: Sequence[int], sizes: Sequence[int]) -> int:
    change: dict[int, int] = {}
    first = 0
    for node, (start, end) in zip(problem.hold_nodes.tolist(), problem.spans.tolist(), strict=True):
        size = int(problem.hold_sizes[first + chosen[node]])
        first += sizes[node]
        if start < end:
            change[start] = change.get(start, 0) + size
            change[end] = change.get(end, 0) - size
    peak = now = 0
    for time in sorted(change):
        now += change[time]
        peak = max(peak, now)
    return peak
