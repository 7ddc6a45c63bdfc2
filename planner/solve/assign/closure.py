"""The cheapest chain of ideals: a minimum cut (Picard, "Maximal closure of a graph and applications
to combinatorial problems", Management Science 22, 1976; nets as hyperedges with two nodes each,
Lawler, Networks 3, 1973; a copy of every group for each boundary, Ishikawa, PAMI 25, 2003).

    min  Σ_p ( Σ_{v in I_p} a_pv + Σ_n f_np·[I_p cuts n] )    over ideals I_1 ⊆ I_2 ⊆ ...

A group that the slot between two boundaries cannot run lies before both or behind both: its copies
there hold each other.
Costs are rounded down to whole numbers for the flow, so that its value is a lower bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from planner.solve.assign.instance import Groups
from planner.solve.data import BoolArray, FloatArray, IntArray

SOURCE, SINK = 0, 1
MOST = 2**28
"""All costs together, in units of the flow: SciPy's has 32 bits."""
UNCUT = 2**29
"""An edge that no cut takes."""


@dataclass(frozen=True, slots=True)
class Nets:
    """The nets as arrays, with what the order says."""

    members: csr_matrix
    """[net, group]: 1 for the source and each target."""
    size: IntArray
    source: IntArray
    is_forward: BoolArray
    """Every target follows the source in the order."""
    order: IntArray
    """[edge, 2]"""
    cost_us: FloatArray

    def cut_by(self, member: BoolArray) -> BoolArray:
        """The nets that an ideal holds some of, not all."""
        count: IntArray = np.asarray(self.members @ member.astype(np.int64))
        return (count > 0) & (count < self.size)


def nets_of(groups: Groups) -> Nets:
    """The nets of some groups."""
    members = members_of(groups)
    follows = set(groups.order)
    return Nets(
        members,
        np.asarray(members.sum(axis=1)).ravel(),
        np.array([net.source for net in groups.nets], dtype=np.int64),
        np.array(
            [all((net.source, t) in follows for t in net.targets) for net in groups.nets],
            dtype=np.bool_,
        ),
        np.array(groups.order, dtype=np.int64).reshape(-1, 2),
        np.array([net.cost_us for net in groups.nets]),
    )


def members_of(groups: Groups, dtype: type[np.signedinteger[Any]] = np.int64) -> csr_matrix:
    """[net, group]: 1 for the source and each target; nearly all groups are outside of nearly all
    nets."""
    rows = [n for n, net in enumerate(groups.nets) for _ in (net.source, *net.targets)]
    columns = [v for net in groups.nets for v in (net.source, *net.targets)]
    shape = (len(groups.nets), groups.count)
    return csr_matrix((np.ones(len(rows), dtype=dtype), (rows, columns)), shape=shape)


@dataclass(frozen=True, slots=True)
class Between:
    """Ideals that hold some groups and not others, and the nets that cost when they are cut."""

    inside: BoolArray
    outside: BoolArray
    charged: BoolArray
    """By net."""


@dataclass(slots=True)
class Chains:
    """The network of all chains of ideals within bounds; what is held stays held later on, in the
    bounds too."""

    nets: Nets
    asked: Sequence[Between]
    barred: Sequence[BoolArray] = ()
    """Of each two boundaries in a row: groups that do not lie between them; those that are free at
    one of the two are free at both."""
    _nodes: int = 2
    _bounds: list[tuple[IntArray, IntArray]] = field(default_factory=list)
    """Of each boundary: the groups that are free there, their nodes."""
    _uncut: list[tuple[int, int]] = field(default_factory=list)
    """Edges (from, to) that no cut takes."""
    _cut: list[list[tuple[int, int, int]]] = field(default_factory=list)
    """Of each boundary: edges (from, to, net)."""
    _always: list[IntArray] = field(default_factory=list)
    """Of each boundary: nets that are cut whatever is free does."""

    def __post_init__(self) -> None:
        before: IntArray | None = None
        for p, between in enumerate(self.asked):
            is_free = ~(between.inside | between.outside)
            free = np.flatnonzero(is_free)
            number = np.where(between.outside, SINK, SOURCE)
            number[free] = self._nodes + np.arange(len(free))
            self._nodes += len(free)
            self._bounds.append((free, number[free]))
            edges = self.nets.order
            inner = edges[is_free[edges].all(axis=1)]
            self._uncut += zip(
                number[inner[:, 1]].tolist(), number[inner[:, 0]].tolist(), strict=True
            )
            if before is not None:
                both = np.flatnonzero((before > SINK) & (number > SINK))
                self._uncut += zip(before[both].tolist(), number[both].tolist(), strict=True)
                tied = both[self.barred[p - 1][both]] if self.barred else both[:0]
                self._uncut += zip(number[tied].tolist(), before[tied].tolist(), strict=True)
            before = number
            self._add_nets(between, number)

    def _add_nets(self, between: Between, number: IntArray) -> None:
        starts, indices = self.nets.members.indptr, self.nets.members.indices
        cut: list[tuple[int, int, int]] = []
        always: list[int] = []
        for net in np.flatnonzero(between.charged).tolist():
            members = set(number[indices[starts[net] : starts[net + 1]]].tolist())
            if SOURCE in members and SINK in members:
                always.append(net)
            elif len(members) > 1:
                source = int(number[self.nets.source[net]])
                cut.append((*self._ends(net, source, members), net))
        self._cut.append(cut)
        self._always.append(np.array(always, dtype=np.int64))

    def _ends(self, net: int, source: int, members: set[int]) -> tuple[int, int]:
        """The edge that is cut where a net is: from what is reached with one of its members, to
        what is reached only if all are."""
        tail = source
        if self.nets.is_forward[net]:
            members = members - {source}
        elif SOURCE in members:
            tail = SOURCE
        else:
            tail = self._node()
            self._uncut += [(member, tail) for member in sorted(members - {SINK})]
        if SINK in members:
            return tail, SINK
        members = members - {SOURCE}
        if len(members) == 1:
            return tail, next(iter(members))
        head = self._node()
        self._uncut += [(head, member) for member in sorted(members)]
        return tail, head

    def _node(self) -> int:
        self._nodes += 1
        return self._nodes - 1

    def cheapest(
        self, weights: Sequence[FloatArray], charges: Sequence[FloatArray]
    ) -> tuple[float, list[BoolArray]]:
        """The least cost, rounded down, and a chain that reaches it, but for rounding.

        Args:
            weights: a_pv, by boundary and group.
            charges: f_np >= 0, by boundary and net.
        """
        tails, heads, costs = [], [], []
        fixed = 0.0
        parts = zip(
            self.asked, self._bounds, self._cut, self._always, weights, charges, strict=True
        )
        for between, (free, nodes), cut, always, weight, charge in parts:
            edges = np.array(cut, dtype=np.int64).reshape(-1, 3)
            gains = weight[free] < 0
            tails += [edges[:, 0], np.where(gains, SOURCE, nodes)]
            heads += [edges[:, 1], np.where(gains, nodes, SINK)]
            costs += [charge[edges[:, 2]], np.abs(weight[free])]
            fixed += float(charge[always].sum() + weight[between.inside].sum())
            fixed += float(weight[free][gains].sum())
        if not tails:
            return 0.0, []
        graph, unit = self._graph(*map(np.concatenate, (tails, heads, costs)))
        flow = maximum_flow(graph, SOURCE, SINK)
        left = graph - flow.flow
        left.data = np.maximum(left.data, 0)
        left.eliminate_zeros()
        is_reached = np.zeros(self._nodes, dtype=np.bool_)
        is_reached[breadth_first_order(left, SOURCE, return_predecessors=False)] = True
        chain = []
        for between, (free, nodes) in zip(self.asked, self._bounds, strict=True):
            member = between.inside.copy()
            member[free] = is_reached[nodes]
            chain.append(member)
        return fixed + float(flow.flow_value) * unit, chain

    def _graph(
        self, tails: IntArray, heads: IntArray, costs: FloatArray
    ) -> tuple[csr_matrix, float]:
        """Capacities, and how much one unit of them is."""
        unit = max(float(costs.sum()), 1e-300) / MOST
        whole = np.floor(costs / unit).astype(np.int32)
        uncut = np.array(self._uncut, dtype=np.int64).reshape(-1, 2)
        data = np.concatenate((whole, np.full(len(uncut), UNCUT, dtype=np.int32)))
        ends = (np.concatenate((tails, uncut[:, 0])), np.concatenate((heads, uncut[:, 1])))
        kept = data > 0
        shape = (self._nodes, self._nodes)
        edges = (data[kept], (ends[0][kept], ends[1][kept]))
        return csr_matrix(edges, shape=shape, dtype=np.int32), unit
