"""The graph as a forest: each operator hands one tensor to one consumer, who pays for its form.

Every operator has at most one `next`: the first consumer of the tensor it makes. Conversions and
transfers are charged on these edges only, everything else is free, so that the least cost of the
forest is a lower bound of the least cost of the graph (C5 and C6 relaxed). On a chain, and where
other consumers want what the first one wants, it is the cost itself. Groups of several operators
are kept together along the edges.

One pass in topological order: with W[l] the least cost of an operator and all before it when it
takes label l,
    W_b[l] = c_b[l] + Σ_{a: next(a) = b} min_k (W_a[k] + D_ab[k, l])
Messages are normalised and rounded down to a grid, so that identical blocks in a row have identical
messages: these are computed once. Rounding down keeps the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.solve.data import BoolArray, FloatArray, IntArray
from planner.solve.scale.clock import look_at_clock

GRID = 2.0**-30
"""Grid of messages, relative to the unit of the objective."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What an edge costs between the labels of two kinds."""

    order: IntArray
    """Labels of a, sorted by what they leave."""
    starts: IntArray
    """Where each class of them begins."""
    leaves: IntArray
    """Class of each label of a."""
    wants: IntArray
    """Class of each label of b."""
    costs: FloatArray
    """(metrics, classes of a, classes of b). Metric 0 is the expected time, the others the end of
    C8 of each shape."""
    is_possible: BoolArray
    """(classes of a, classes of b)"""


@dataclass(frozen=True, slots=True)
class Forest:
    """Operators, who hands to whom, and the edges."""

    next: IntArray
    """-1 at roots."""
    edge_of: IntArray
    """Number of the edge to `next`; -1 at roots."""
    edges: Sequence[Edge]
    kind_of: IntArray
    before: list[list[int]]
    """Operators that hand to each."""


@dataclass(frozen=True, slots=True)
class _Node:
    """One operator's computation, shared by all that look the same."""

    values: FloatArray
    """W, without the offsets of what came before."""
    total: FloatArray | None
    """min over classes of a + D, (classes of a, classes of b)."""
    message: int
    offset: float


@dataclass(slots=True)
class Pass:
    """One evaluation: the least cost (infinite where no labels fit), and by which labels."""

    forest: Forest
    least: float
    nodes: list[_Node]

    def labels(self) -> IntArray:
        """A label for every operator that reaches the least cost; any where none is possible."""
        forest = self.forest
        chosen = np.zeros(len(forest.next), dtype=np.int64)
        if not self.nodes:
            return chosen
        for op in range(len(forest.next) - 1, -1, -1):
            after = int(forest.next[op])
            node = self.nodes[op]
            if after < 0 or node.total is None:
                chosen[op] = int(node.values.argmin())
                continue
            edge = forest.edges[int(forest.edge_of[op])]
            left = int(node.total[:, edge.wants[chosen[after]]].argmin())
            first = edge.starts[left]
            last = edge.starts[left + 1] if left + 1 < len(edge.starts) else len(edge.order)
            members = edge.order[first:last]
            chosen[op] = int(members[node.values[members].argmin()])
        return chosen


class Sweep:
    """Evaluates the forest for given costs of labels."""

    def __init__(self, forest: Forest, unit: float) -> None:
        self._forest = forest
        self._grid = GRID * unit

    def run(
        self,
        costs: Sequence[FloatArray],
        weights: FloatArray,
        charges: dict[int, FloatArray] | None = None,
        deadline: float = np.inf,
    ) -> Pass:
        """The least cost of the forest.

        Args:
            costs: of each kind's labels.
            weights: of each metric of the edges' costs.
            charges: added to the labels of single operators.

        Raises:
            OutOfTimeError: the deadline passed.
        """
        charged = charges or {}
        forest = self._forest
        tables = [
            np.where(edge.is_possible, np.tensordot(weights, edge.costs, 1), np.inf)
            for edge in forest.edges
        ]
        ids: dict[bytes, int] = {}
        messages: list[FloatArray] = []
        memo: dict[tuple[int, int, tuple[int, ...]], _Node] = {}
        nodes: list[_Node] = []
        least = 0.0
        for op, before in enumerate(forest.before):
            look_at_clock(op, deadline)
            kind, number = int(forest.kind_of[op]), int(forest.edge_of[op])
            received = tuple(nodes[a].message for a in before)
            key = (kind, number, received)
            node = memo.get(key) if op not in charged else None
            if node is None:
                values = costs[kind] + charged[op] if op in charged else costs[kind]
                for message in received:
                    values = values + messages[message]
                node = self._node(values, number, tables, ids, messages)
                if op not in charged:
                    memo[key] = node
            if node.offset == np.inf:
                return Pass(forest, np.inf, [])
            nodes.append(node)
            least += node.offset
        return Pass(forest, least, nodes)

    def _node(
        self,
        values: FloatArray,
        number: int,
        tables: Sequence[FloatArray],
        ids: dict[bytes, int],
        messages: list[FloatArray],
    ) -> _Node:
        if number < 0:
            return _Node(values, None, -1, float(values.min()))
        edge = self._forest.edges[number]
        best = np.minimum.reduceat(values[edge.order], edge.starts)
        total = best[:, None] + tables[number]
        wanted = total.min(axis=0)
        offset = float(wanted.min())
        if not np.isfinite(offset):
            return _Node(values, None, -1, np.inf)
        rounded = np.floor((wanted - offset) / self._grid) * self._grid
        message = rounded[edge.wants]
        name = message.tobytes()
        if name not in ids:
            ids[name] = len(messages)
            messages.append(message)
        return _Node(values, total, ids[name], offset)
