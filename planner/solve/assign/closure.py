"""The cheapest ideal between two others: a minimum cut (Picard, "Maximal closure of a graph and
applications to combinatorial problems", Management Science 22, 1976; nets as hyperedges with two
nodes each, Lawler, Networks 3, 1973).

Costs are rounded down to whole numbers for the flow, so that its value is a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass

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
ROUNDS = 8
"""Prices of work that are tried."""


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


def nets_of(groups: Groups) -> Nets:
    """The nets of some groups."""
    rows = [n for n, net in enumerate(groups.nets) for _ in (net.source, *net.targets)]
    columns = [v for net in groups.nets for v in (net.source, *net.targets)]
    shape = (len(groups.nets), groups.count)
    members = csr_matrix((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=shape)
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
    )


@dataclass(frozen=True, slots=True)
class Between:
    """Ideals that hold some groups and not others, what each net costs that they cut, and the work
    that they may hold."""

    inside: BoolArray
    outside: BoolArray
    charge: FloatArray
    """By net."""
    low: float
    high: float


def cheapest(nets: Nets, work: FloatArray, asked: Between) -> tuple[float, BoolArray]:
    """A lower bound of what such an ideal costs, and the cheapest one that was met, which may hold
    too much or too little work.

    Where the cheapest holds too little, work is priced: with a price m on it every ideal of at
    least `low` costs min (cost - m·work) + m·low, for the m that says most of a few.
    """
    network = _network(nets, asked)
    bound, member = network.solve(work, 0.0)
    done = float(work[member].sum())
    if asked.low <= done <= asked.high:
        return bound, member
    is_short = done < asked.low
    target = asked.low if is_short else asked.high
    end = ~asked.outside if is_short else asked.inside
    near, far = (done, network.cost(member)), (float(work[end].sum()), network.cost(end))
    best, found = bound, member
    for _ in range(ROUNDS):
        if far[0] == near[0]:
            break
        price = (far[1] - near[1]) / (far[0] - near[0])
        value, member = network.solve(work, price)
        done = float(work[member].sum())
        if value + price * target > best:
            best = value + price * target
        point = done, network.cost(member)
        if asked.low <= done <= asked.high:
            found = member
        line = near[1] - price * near[0]
        if point[1] - price * point[0] >= line - 1e-9 * max(abs(line), abs(far[1]), 1e-300):
            break
        if (done < target) is is_short:
            near = point
        else:
            far = point
    return best, found


@dataclass(frozen=True, slots=True)
class _Network:
    """Edges (from, to, cost) between the groups that are free, and what is cut whatever they do."""

    nets: Nets
    asked: Between
    free: IntArray
    tails: list[int]
    heads: list[int]
    costs: list[float]
    """Infinite where nothing may be cut."""
    nodes: int
    fixed: float

    def cost(self, member: BoolArray) -> float:
        """Of an ideal."""
        count = self.nets.members @ member.astype(np.int64)
        is_cut = (count > 0) & (count < self.nets.size)
        return float(self.asked.charge[is_cut].sum())

    def solve(self, work: FloatArray, price: float) -> tuple[float, BoolArray]:
        """min cost - price·work over the ideals, rounded down, and an ideal that reaches it."""
        here = work[self.free] * abs(price)
        numbers = 2 + np.arange(len(self.free))
        ends = np.full(len(self.free), SOURCE if price > 0 else SINK)
        tails = np.concatenate((self.tails, ends if price > 0 else numbers))
        heads = np.concatenate((self.heads, numbers if price > 0 else ends))
        costs = np.concatenate((self.costs, here))
        is_cut = np.isfinite(costs)
        unit = max(float(costs[is_cut].sum()), 1e-300) / MOST
        scaled = np.where(is_cut, np.floor(np.where(is_cut, costs, 0.0) / unit), UNCUT)
        shape = (self.nodes, self.nodes)
        kept = scaled > 0
        edges = (scaled[kept].astype(np.int32), (tails[kept].astype(int), heads[kept].astype(int)))
        graph = csr_matrix(edges, shape=shape, dtype=np.int32)
        flow = maximum_flow(graph, SOURCE, SINK)
        left = graph - flow.flow
        left.data = np.maximum(left.data, 0)
        left.eliminate_zeros()
        reached = breadth_first_order(left, SOURCE, return_predecessors=False)
        member = self.asked.inside.copy()
        mine = reached[(reached >= 2) & (reached < 2 + len(self.free))]
        member[self.free[mine - 2]] = True
        value = self.fixed + float(flow.flow_value) * unit
        # outside: price·work is paid where it could be gained; inside: where it is held
        value -= price * float(work[self.asked.inside].sum())
        value -= max(price, 0.0) * float(work[self.free].sum())
        return value, member


def _network(nets: Nets, asked: Between) -> _Network:
    is_free = ~(asked.inside | asked.outside)
    free = np.flatnonzero(is_free)
    number = np.where(asked.outside, SINK, SOURCE)
    number[free] = 2 + np.arange(len(free))
    inner = is_free[nets.order].all(axis=1) if len(nets.order) else np.zeros(0, dtype=np.bool_)
    tails = number[nets.order[inner, 1]].tolist()
    heads = number[nets.order[inner, 0]].tolist()
    found = _Network(nets, asked, free, tails, heads, [np.inf] * len(tails), 0, 0.0)
    nodes, fixed = 2 + len(free), 0.0
    starts, indices = nets.members.indptr, nets.members.indices
    for net in np.flatnonzero(asked.charge > 0).tolist():
        members = set(number[indices[starts[net] : starts[net + 1]]].tolist())
        cost = float(asked.charge[net])
        first = int(number[nets.source[net]])
        if SOURCE in members and SINK in members:
            fixed += cost
            continue
        if nets.is_forward[net]:
            members.discard(first)
            tail, others = first, members
        else:
            tail, others = SOURCE, members
            if SOURCE not in members:
                tail, nodes = nodes, nodes + 1
                tails += members - {SINK}
                heads += [tail] * len(members - {SINK})
                found.costs.extend([np.inf] * len(members - {SINK}))
        head = SINK
        if SINK not in others:
            others = others - {SOURCE}
            if len(others) == 1:
                head = next(iter(others))
            else:
                head, nodes = nodes, nodes + 1
                tails += [head] * len(others)
                heads += others
                found.costs.extend([np.inf] * len(others))
        tails.append(tail)
        heads.append(head)
        found.costs.append(cost)
    return _Network(nets, asked, free, tails, heads, found.costs, nodes, fixed)
