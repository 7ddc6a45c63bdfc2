"""Exact reductions: what decides something else takes it along.

    arc consistency   an option without a partner on some edge cannot be chosen
    separable edges   M[k][l] = r[k] + c[l]: the sums belong to the nodes
    followers         an edge that leaves one node no choice (each of its options has exactly one
                      partner) merges it into the other; sharding problems are mostly such edges
    fixed nodes       one option left: all of them together are one node
None of them loses a solution: every choice of the original that keeps the edges survives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic

import numpy as np

from planner.solve.data import BoolArray, IntArray
from planner.solve.pairwise.data import (
    FORBIDDEN,
    Block,
    Pairwise,
    allowed,
    blocks,
    distinct,
    firsts,
    options_of,
)
from planner.solve.pairwise.rebuild import Lift, rebuild, restriction


@dataclass(frozen=True, slots=True)
class Contracted:
    """A smaller problem with the same solutions."""

    problem: Pairwise
    lifts: tuple[Lift, ...]
    """The ways back, in the order in which the changes were made."""
    is_feasible: bool = True
    """False: some node has no option left."""


def contract(problem: Pairwise, deadline: float = math.inf) -> Contracted:
    """All reductions, until nothing changes or the time is over. O(entries) each round."""
    lifts: list[Lift] = []
    while monotonic() < deadline:
        kept = consistent(problem)
        if not _has_options(problem, kept):
            return Contracted(problem, tuple(lifts), is_feasible=False)
        if not kept.all() or _has_parallel_edges(problem):
            lifts.append(restriction(problem, kept))
            problem = rebuild(problem, lifts[-1])
            continue  # edges that were added up may forbid more than each alone
        problem = separated(problem)
        lift = _followers(problem)
        if lift is None:
            return Contracted(problem, tuple(lifts))
        lifts.append(lift)
        problem = rebuild(problem, lift)
    return Contracted(problem, tuple(lifts))


def consistent(problem: Pairwise) -> BoolArray:
    """Options that have a partner on every edge, repeatedly: flat table."""
    kept = allowed(problem.costs)
    groups = [(block, allowed(block.matrices)) for block in blocks(problem)]
    groups = [(block, finite) for block, finite in groups if not finite.all()]
    while True:
        before = int(kept.sum())
        for block, finite in groups:
            _, rows, columns = finite.shape
            a = options_of(problem, problem.edges[block.edges, 0], rows)
            b = options_of(problem, problem.edges[block.edges, 1], columns)
            is_open = finite & kept[a][:, :, None] & kept[b][:, None, :]
            kept[a[~is_open.any(axis=2)]] = False
            kept[b[~is_open.any(axis=1)]] = False
        if int(kept.sum()) == before:
            return kept


def _has_parallel_edges(problem: Pairwise) -> bool:
    return len(distinct(np.sort(problem.edges, axis=1))[0]) < len(problem.edges)


def _has_options(problem: Pairwise, kept: BoolArray) -> bool:
    if not problem.nodes:
        return True
    return bool(np.logical_or.reduceat(kept, firsts(problem.sizes)[:-1]).all())


def separated(problem: Pairwise) -> Pairwise:
    """Edges that are sums of a row and a column cost become node costs. Needs arc consistency."""
    costs = problem.costs.copy()
    is_left = np.ones(len(problem.edges), dtype=np.bool_)
    for block in blocks(problem):
        matrices = block.matrices
        row = matrices[:, :, :1] - matrices[:, :1, :1]
        column = matrices[:, :1, :]
        is_sum = (matrices == row + column).all(axis=(1, 2)) & allowed(matrices).all(axis=(1, 2))
        members = block.edges[is_sum]
        if not len(members):
            continue
        _, rows, columns = matrices.shape
        a = options_of(problem, problem.edges[members, 0], rows)
        b = options_of(problem, problem.edges[members, 1], columns)
        _add(costs, a, row[is_sum, :, 0])
        _add(costs, b, column[is_sum, 0, :])
        is_left[members] = False
    if is_left.all():
        return problem
    entries = np.repeat(is_left, problem.pair_sizes)
    return Pairwise(
        problem.sizes,
        costs,
        problem.edges[is_left],
        problem.pairs[entries],
        problem.hold_nodes,
        problem.spans,
        problem.hold_sizes,
        problem.limit,
    )


def _add(costs: IntArray, options: IntArray, values: IntArray) -> None:
    np.add.at(costs, options.ravel(), values.ravel())
    costs[costs > FORBIDDEN] = FORBIDDEN


def _followers(problem: Pairwise) -> Lift | None:
    """Merges classes of nodes that decide each other, else followers with whom they follow."""
    groups = blocks(problem)
    lift = _equivalent(problem, groups)
    if lift is not None:
        return lift
    lift = _one_sided(problem, groups)
    if lift is not None:
        return lift
    return _fixed(problem)


def _equivalent(problem: Pairwise, groups: list[Block]) -> Lift | None:
    """Classes of nodes joined by matrices with one entry in each row and each column."""
    partners = _bijections(problem, groups)
    if not partners:
        return None
    near: list[list[int]] = [[] for _ in range(problem.nodes)]
    for a, b in partners:
        near[a].append(b)
    label = [-1] * problem.nodes
    roots: list[int] = []
    found: list[IntArray] = [np.arange(size) for size in problem.sizes.tolist()]
    for root in range(problem.nodes):
        if label[root] >= 0:
            continue
        label[root] = len(roots)
        queue = [root]
        for node in queue:
            for other in near[node]:
                if label[other] < 0:
                    label[other] = len(roots)
                    found[other] = partners[node, other][found[node]]
                    queue.append(other)
        roots.append(root)
    owner = np.array(label, dtype=np.int64)
    return Lift(owner, np.concatenate(found), problem.sizes[roots])


def _bijections(problem: Pairwise, groups: list[Block]) -> dict[tuple[int, int], IntArray]:
    """(node, node it decides) -> the option it takes for each option of the first; both ways."""
    found: dict[tuple[int, int], IntArray] = {}
    for block in groups:
        finite = allowed(block.matrices)
        _, rows, columns = finite.shape
        if rows != columns:
            continue
        single = (finite.sum(axis=1) == 1).all(axis=1) & (finite.sum(axis=2) == 1).all(axis=1)
        ends = problem.edges[block.edges[single]].tolist()
        there, back = finite[single].argmax(axis=2), finite[single].argmax(axis=1)
        for (a, b), forward, backward in zip(ends, there, back, strict=True):
            found[a, b], found[b, a] = forward, backward
    return found


def _one_sided(problem: Pairwise, groups: list[Block]) -> Lift | None:
    """Followers merge into the node they follow; a node takes part in one merge a round."""
    leader = np.full(problem.nodes, -1, dtype=np.int64)
    is_taken = np.zeros(problem.nodes, dtype=np.bool_)
    taken: dict[int, IntArray] = {}
    for block in groups:
        finite = allowed(block.matrices)
        for axis in (2, 1):
            decides = (finite.sum(axis=axis) == 1).all(axis=1)
            partner = finite.argmax(axis=axis)
            for number in np.flatnonzero(decides).tolist():
                a, b = problem.edges[block.edges[number]].tolist()
                leads, follows = (a, b) if axis == 2 else (b, a)
                if is_taken[leads] or is_taken[follows]:
                    continue
                is_taken[[leads, follows]] = True
                leader[follows] = leads
                taken[follows] = partner[number]
    if not taken:
        return None
    stays = np.flatnonzero(leader < 0)
    number_of = np.cumsum(leader < 0) - 1
    owner = number_of[np.where(leader < 0, np.arange(problem.nodes), leader)]
    parts = [taken.get(node, np.arange(size)) for node, size in enumerate(problem.sizes.tolist())]
    return Lift(owner.astype(np.int64), np.concatenate(parts), problem.sizes[stays])


def _fixed(problem: Pairwise) -> Lift | None:
    """All nodes of one option become one node: they have no edges left, being separable."""
    is_fixed = problem.sizes == 1
    if int(is_fixed.sum()) < 2:
        return None
    first = int(np.argmax(is_fixed))
    stays = ~is_fixed
    stays[first] = True
    number_of = np.cumsum(stays) - 1
    owner = np.where(is_fixed, number_of[first], number_of).astype(np.int64)
    counts = problem.sizes
    options = np.arange(int(counts.sum())) - np.repeat(firsts(counts)[:-1], counts)
    return Lift(owner, options, problem.sizes[stays])
