"""Pairwise choice as arrays: one option per node, node costs, pair costs, memory over time.

Sets        N  nodes        K_i  options of node i        E  edges        H  holds
Data        costs[i][k]         integer, any sign; FORBIDDEN where option k does not exist
            pairs[e][k][l]      integer; FORBIDDEN where k and l exclude each other
            hold_sizes[h][k]    bytes that option k of the hold's node keeps during its span
Variables   x_i in K_i
Minimise    Σ_i costs[i][x_i] + Σ_e pairs[e][x_a][x_b]
Subject to  Σ_{h: start_h <= t < end_h} hold_sizes[h][x_{node(h)}] <= limit      for every t    (C4)

All costs are integers and stay integers: sums are exact up to `LARGEST`.
Ragged tables are flat arrays; `firsts` says where each row begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.errors import UsageError
from planner.solve.data import BoolArray, FloatArray, IntArray

FORBIDDEN = 2**61
"""Cost of what must not be chosen: the sum of two of them still fits 64 bits."""
LARGEST = 2**60
"""No sum of finite costs may reach this."""


def firsts(sizes: IntArray) -> IntArray:
    """Where each row of a flat ragged table begins, and after the last its end: length n + 1."""
    found = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=found[1:])
    return found


def ranges(starts: IntArray, sizes: IntArray) -> IntArray:
    """starts[0], starts[0] + 1, ... (sizes[0] of them), starts[1], ...: all in one array."""
    within = np.arange(int(sizes.sum()), dtype=np.int64) - np.repeat(firsts(sizes)[:-1], sizes)
    return np.repeat(starts, sizes) + within


def distinct(rows: IntArray) -> tuple[IntArray, IntArray]:
    """Different rows in order, and which of them each row is: `np.unique`, several times faster."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    is_new = np.ones(len(rows), dtype=np.bool_)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    which = np.empty(len(rows), dtype=np.int64)
    which[order] = np.cumsum(is_new) - 1
    return ordered[is_new], which


@dataclass(frozen=True, slots=True)
class Pairwise:
    """The problem. Arrays of int64; nobody changes them in place once it is made."""

    sizes: IntArray
    """Options per node: (n,), each at least one."""
    costs: IntArray
    """Node costs, node after node: (Σ sizes,)."""
    edges: IntArray
    """Pairs of different nodes: (m, 2); several edges may join the same two."""
    pairs: IntArray
    """Pair costs, edge after edge, row-major: (Σ_e sizes[a]·sizes[b],)."""
    hold_nodes: IntArray
    """Node of each hold: (h,)."""
    spans: IntArray
    """start <= t < end of each hold: (h, 2)."""
    hold_sizes: IntArray
    """Bytes, hold after hold, one entry an option of its node: (Σ_h sizes[hold_nodes],)."""
    limit: int | None
    """Bytes; None means no limit."""

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return len(self.sizes)

    @property
    def pair_sizes(self) -> IntArray:
        """Entries of each edge's matrix: (m,)."""
        found: IntArray = self.sizes[self.edges[:, 0]] * self.sizes[self.edges[:, 1]]
        return found

    @property
    def hold_counts(self) -> IntArray:
        """Entries of each hold: (h,)."""
        return self.sizes[self.hold_nodes]


@dataclass(frozen=True, slots=True)
class Block:
    """Edges whose matrices have the same shape (rows x columns), stacked."""

    edges: IntArray
    """Their numbers: (b,)."""
    matrices: IntArray
    """(b, rows, columns)."""


def blocks(problem: Pairwise) -> list[Block]:
    """The edges by shape: whole-array work instead of a loop over edges."""
    if not len(problem.edges):
        return []
    shapes = problem.sizes[problem.edges]
    kinds, kind_of = distinct(shapes)
    begins = firsts(problem.pair_sizes)
    order = np.argsort(kind_of, kind="stable")
    ends = np.cumsum(np.bincount(kind_of, minlength=len(kinds)))
    found = []
    for (rows, columns), end, count in zip(
        kinds.tolist(), ends.tolist(), np.diff(ends, prepend=0).tolist(), strict=True
    ):
        members = order[end - count : end]
        entries = begins[members][:, None] + np.arange(rows * columns)
        found.append(Block(members, problem.pairs[entries].reshape(-1, rows, columns)))
    return found


def options_of(problem: Pairwise, nodes: IntArray, count: int) -> IntArray:
    """Flat numbers of all options of nodes with `count` options each: (len(nodes), count)."""
    found: IntArray = firsts(problem.sizes)[nodes][:, None] + np.arange(count)
    return found


def validate(problem: Pairwise) -> None:
    """Refuses what makes no sense. O(size of the problem).

    Raises:
        UsageError: names the node, edge or hold that is wrong.
    """
    _check_sizes(problem)
    _check_edges(problem)
    _check_holds(problem)
    _check_costs(problem)


def _refuse(is_wrong: NDArray[np.bool_], what: str, fix: str) -> None:
    wrong = np.flatnonzero(is_wrong)
    if len(wrong):
        raise UsageError(what.format(int(wrong[0])), fix=fix)


def _check_sizes(problem: Pairwise) -> None:
    _refuse(problem.sizes < 1, "node {} has no option", "give every node at least one option")
    wanted = int(problem.sizes.sum())
    if len(problem.costs) != wanted:
        raise UsageError(f"{len(problem.costs)} node costs for {wanted} options")


def _check_edges(problem: Pairwise) -> None:
    edges = problem.edges
    outside = np.any((edges < 0) | (edges >= problem.nodes), axis=1)
    _refuse(outside, "edge {} names a node that does not exist", "number nodes from 0")
    _refuse(
        edges[:, 0] == edges[:, 1],
        "edge {} joins a node with itself",
        "add its diagonal to the node's costs",
    )
    wanted = int(problem.pair_sizes.sum())
    if len(problem.pairs) != wanted:
        raise UsageError(f"{len(problem.pairs)} pair costs, not {wanted}")


def _check_holds(problem: Pairwise) -> None:
    nodes = problem.hold_nodes
    outside = (nodes < 0) | (nodes >= problem.nodes)
    _refuse(outside, "hold {} names a node that does not exist", "number nodes from 0")
    wanted = int(problem.hold_counts.sum())
    if len(problem.hold_sizes) != wanted:
        raise UsageError(f"{len(problem.hold_sizes)} sizes of holds, not {wanted}")
    owner = np.repeat(np.arange(len(nodes)), problem.hold_counts)
    negative = np.zeros(len(nodes), dtype=np.bool_)
    negative[owner[problem.hold_sizes < 0]] = True
    _refuse(negative, "hold {} has a negative size", "bytes are at least 0")
    if _largest(problem.hold_sizes, problem.hold_counts) >= LARGEST:
        raise UsageError("the sizes of all holds add up to 2^60 or more", fix="a coarser unit")


def _check_costs(problem: Pairwise) -> None:
    sums = _largest(problem.costs, problem.sizes), _largest(problem.pairs, problem.pair_sizes)
    if sum(sums) >= LARGEST:
        raise UsageError(
            "the largest finite costs add up to 2^60 or more",
            fix="a coarser unit, so that sums stay exact in 64 bits",
        )


def _largest(values: IntArray, sizes: IntArray) -> int:
    """Σ over rows of a ragged table of the largest finite magnitude, exactly."""
    if not len(values):
        return 0
    kept = np.where(values >= FORBIDDEN, 0, np.abs(values))
    filled = np.flatnonzero(sizes > 0)
    return sum(np.maximum.reduceat(kept, firsts(sizes)[:-1][filled]).tolist())


def allowed(costs: IntArray) -> BoolArray:
    """Which costs are finite."""
    found: BoolArray = costs < FORBIDDEN
    return found


def finite_or_infinite(costs: IntArray) -> FloatArray:
    """As floating point: what is forbidden is infinite."""
    found: FloatArray = np.where(costs >= FORBIDDEN, np.inf, costs.astype(np.float64))
    return found
