"""One exact change of a problem: nodes merge into classes, options drop out or follow others.

Every old node has an owner among the new nodes and, for each option of its owner, the option that
it takes itself. Dropping options, merging nodes and fixing nodes are all of this form, so there
is one way to build the smaller problem and one way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.data import IntArray
from planner.solve.pairwise.data import FORBIDDEN, Pairwise, distinct, firsts, ranges


@dataclass(frozen=True, slots=True)
class Lift:
    """The way back from a smaller problem."""

    owner: IntArray
    """New node of each old node: (old nodes,)."""
    options: IntArray
    """For each old node, the option it takes for each option of its owner; flat."""
    sizes: IntArray
    """Options of each new node: (new nodes,)."""

    def __call__(self, chosen: IntArray) -> IntArray:
        """A choice for the old nodes from one for the new nodes."""
        begins = firsts(self.sizes[self.owner])[:-1]
        found: IntArray = self.options[begins + chosen[self.owner]]
        return found


def lifted(lifts: Sequence[Lift], chosen: IntArray) -> IntArray:
    """All the way back, through changes made in this order."""
    for lift in reversed(lifts):
        chosen = lift(chosen)
    return chosen


def restriction(problem: Pairwise, kept: np.ndarray) -> Lift:
    """Keeps some options of each node, at least one: `kept` is a flat boolean table."""
    flat = np.flatnonzero(kept)
    begins = firsts(problem.sizes)
    nodes = np.searchsorted(begins, flat, side="right") - 1
    sizes = np.bincount(nodes, minlength=problem.nodes).astype(np.int64)
    return Lift(np.arange(problem.nodes, dtype=np.int64), flat - begins[nodes], sizes)


def rebuild(problem: Pairwise, lift: Lift) -> Pairwise:
    """The problem of the new nodes: same costs and memory for every choice it can lift."""
    counts = lift.sizes[lift.owner]
    costs, is_bad = _node_sums(problem, lift, counts)
    edges, pairs = _edges(problem, lift, counts, costs, is_bad)
    costs[is_bad] = FORBIDDEN
    hold_nodes, spans, hold_sizes = _holds(problem, lift, counts)
    return Pairwise(lift.sizes, costs, edges, pairs, hold_nodes, spans, hold_sizes, problem.limit)


def _node_sums(problem: Pairwise, lift: Lift, counts: IntArray) -> tuple[IntArray, np.ndarray]:
    """Σ of the members' costs for each new option, and which of them are forbidden."""
    old = np.repeat(firsts(problem.sizes)[:-1], counts) + lift.options
    new = ranges(firsts(lift.sizes)[lift.owner], counts)
    total = int(lift.sizes.sum())
    values = problem.costs[old]
    is_bad = np.zeros(total, dtype=np.bool_)
    is_bad[new[values >= FORBIDDEN]] = True
    costs = np.zeros(total, dtype=np.int64)
    np.add.at(costs, new, np.where(values >= FORBIDDEN, 0, values))
    return costs, is_bad


def _edges(
    problem: Pairwise, lift: Lift, counts: IntArray, costs: IntArray, is_bad: np.ndarray
) -> tuple[IntArray, IntArray]:
    """Matrices between new nodes, parallel ones added up; edges inside a node join its costs."""
    if not len(problem.edges):
        return problem.edges, problem.pairs
    tail, head = problem.edges[:, 0], problem.edges[:, 1]
    new_tail, new_head = lift.owner[tail], lift.owner[head]
    _fold_inner(problem, lift, counts, np.flatnonzero(new_tail == new_head), costs, is_bad)
    outer = np.flatnonzero(new_tail != new_head)
    ends = np.sort(np.stack([new_tail[outer], new_head[outer]], axis=1), axis=1)
    edges, target = distinct(ends)
    sizes = lift.sizes[edges[:, 0]] * lift.sizes[edges[:, 1]]
    begins = firsts(sizes)
    pairs = np.zeros(int(sizes.sum()), dtype=np.int64)
    is_barred = np.zeros(len(pairs), dtype=np.bool_)
    old_begins, lift_begins = firsts(problem.pair_sizes), firsts(counts)
    shapes = np.stack([counts[tail[outer]], counts[head[outer]]], axis=1)
    kinds, kind_of = distinct(shapes)
    for kind, (rows, columns) in enumerate(kinds.tolist()):
        members = np.flatnonzero(kind_of == kind)
        e = outer[members]
        row = lift.options[lift_begins[tail[e]][:, None] + np.arange(rows)]
        column = lift.options[lift_begins[head[e]][:, None] + np.arange(columns)]
        width = problem.sizes[head[e]][:, None, None]
        entry = old_begins[e][:, None, None] + row[:, :, None] * width + column[:, None, :]
        values = problem.pairs[entry]
        place = _places(begins[target[members]], new_tail[e] < new_head[e], rows, columns)
        is_barred[place[values >= FORBIDDEN]] = True
        np.add.at(pairs, place.ravel(), np.where(values >= FORBIDDEN, 0, values).ravel())
    pairs[is_barred] = FORBIDDEN
    return edges, pairs


def _places(begins: IntArray, is_forward: np.ndarray, rows: int, columns: int) -> IntArray:
    """Where matrices (b, rows, columns) go in the new flat table, transposed where not forward."""
    r, c = np.arange(rows)[:, None], np.arange(columns)
    within = np.where(is_forward[:, None, None], r * columns + c, c * rows + r)
    found: IntArray = begins[:, None, None] + within
    return found


def _fold_inner(
    problem: Pairwise,
    lift: Lift,
    counts: IntArray,
    inner: IntArray,
    costs: IntArray,
    is_bad: np.ndarray,
) -> None:
    """Edges whose ends share a class cost what their diagonal says."""
    if not len(inner):
        return
    tail, head = problem.edges[inner, 0], problem.edges[inner, 1]
    begins, count = firsts(counts), counts[tail]
    row = lift.options[ranges(begins[tail], count)]
    column = lift.options[ranges(begins[head], count)]
    width = np.repeat(problem.sizes[head], count)
    values = problem.pairs[
        np.repeat(firsts(problem.pair_sizes)[inner], count) + row * width + column
    ]
    new = ranges(firsts(lift.sizes)[lift.owner[tail]], count)
    is_bad[new[values >= FORBIDDEN]] = True
    np.add.at(costs, new, np.where(values >= FORBIDDEN, 0, values))


def _holds(problem: Pairwise, lift: Lift, counts: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Holds of the new nodes; those of one node with the same span become one."""
    if not len(problem.hold_nodes):
        return problem.hold_nodes, problem.spans, problem.hold_sizes
    old_nodes = problem.hold_nodes
    count = counts[old_nodes]
    option = lift.options[ranges(firsts(counts)[old_nodes], count)]
    values = problem.hold_sizes[np.repeat(firsts(problem.hold_counts)[:-1], count) + option]
    keys = np.column_stack([lift.owner[old_nodes], problem.spans])
    kinds, target = distinct(keys)
    sizes = lift.sizes[kinds[:, 0]]
    found = np.zeros(int(sizes.sum()), dtype=np.int64)
    np.add.at(found, ranges(firsts(sizes)[target], count), values)
    return kinds[:, 0].copy(), kinds[:, 1:].copy(), found
