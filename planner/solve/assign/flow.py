"""What schedules need beyond groups: operators one by one, who waits for whom, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from planner.solve.assign.instance import Groups
from planner.solve.data import BoolArray, FloatArray, IntArray

CHUNK = 256
"""Ideals whose frontiers are found together."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Groups with the operators inside."""

    groups: Groups
    op_time_us: FloatArray
    """[kind, op]"""
    before: tuple[tuple[int, ...], ...]
    """Producers of each operator."""
    sources: IntArray
    """Operators with consumers in other groups."""
    source_group: IntArray
    """Group of each source."""
    cost_us: FloatArray
    """[source]: what it costs to enter or leave a slot."""
    wants: BoolArray
    """[source, group]: has a consumer there."""
    row: dict[int, int]
    """Source operator -> its row."""
    tail_us: FloatArray
    """[source, group]: least time from its result to the end by way of another slot's group."""
    bounded: tuple[int, ...]
    """Kinds whose slots hold one subgraph each."""
    unlimited: tuple[int, ...]
    group_before: tuple[tuple[int, ...], ...]
    order: tuple[tuple[int, int], ...]
    """Edges between operators that contiguity follows."""

    def frontiers(self, members: BoolArray) -> Iterator[list[int]]:
        """Of each ideal [ideal, group]: its operators that are still wanted outside, ascending."""
        wants = csr_matrix(self.wants.astype(np.int32))
        size = self.wants.sum(axis=1)[:, None]
        for start in range(0, len(members), CHUNK):
            part = members[start : start + CHUNK]
            served = wants @ part.T.astype(np.int32)
            wanted = part[:, self.source_group].T & (served < size)
            for ideal in range(len(part)):
                yield self.sources[wanted[:, ideal]].tolist()

    def tails(self, frontier: Sequence[int], member: BoolArray) -> FloatArray:
        """Least time from each frontier operator's result to the end, outside of an ideal."""
        rows = [self.row[op] for op in frontier]
        behind: FloatArray = np.where(member, 0.0, self.tail_us[rows])
        return np.asarray(behind.max(axis=1, initial=0.0), dtype=np.float64)

    def ready(self, member: BoolArray) -> list[int]:
        """Groups outside of an ideal whose predecessors are inside."""
        return [
            group
            for group in np.flatnonzero(~member).tolist()
            if all(member[other] for other in self.group_before[group])
        ]

    def entering(self, frontier: Sequence[int], added: BoolArray) -> BoolArray:
        """[set, frontier operator]: whether a set of groups waits for it."""
        rows = [self.row[op] for op in frontier]
        return (added.astype(np.float32) @ self.wants[rows].T.astype(np.float32)) > 0

    def longest_us(self, member: BoolArray) -> FloatArray:
        """[group]: longest path to each group's end outside of an ideal, all on unlimited slots."""
        result = np.full(self.groups.count, np.inf)
        if not self.unlimited:
            return result
        time = self.op_time_us[list(self.unlimited)].min(axis=0)
        done = np.zeros(len(time))
        for group in np.flatnonzero(~member).tolist():
            last = 0.0
            for op in self.groups.members[group]:
                start = max((done[other] for other in self.before[op]), default=0.0)
                done[op] = start + time[op]
                last = max(last, done[op])
            result[group] = last
        return result


def flow_of(operators: Groups, groups: Groups) -> Flow:
    """The flow of a problem's operators (`instance.read`) through its groups.

    Groups are numbered topologically, and so are operators: by their group, then by their number.
    """
    group_of = np.zeros(operators.count, dtype=np.int64)
    for group, members in enumerate(groups.members):
        group_of[list(members)] = group
    before: list[list[int]] = [[] for _ in range(operators.count)]
    costs = np.zeros(operators.count)
    wanted: dict[int, set[int]] = {}
    for net in operators.nets:
        costs[net.source] = net.cost_us
        for target in net.targets:
            before[target].append(net.source)
            if group_of[target] != group_of[net.source]:
                wanted.setdefault(net.source, set()).add(int(group_of[target]))
    sources = _sources(operators, group_of)
    wants = np.zeros((len(sources), groups.count), dtype=bool)
    for row, op in enumerate(sources):
        wants[row, sorted(wanted[op])] = True
    group_before: list[set[int]] = [set() for _ in range(groups.count)]
    for a, b in groups.order:
        group_before[b].add(a)
    kinds = range(len(groups.kinds))
    bounded = tuple(k for k in kinds if not groups.kinds[k].is_unlimited)
    unlimited = tuple(k for k in kinds if groups.kinds[k].is_unlimited)
    return Flow(
        groups,
        operators.time_us,
        tuple(tuple(ops) for ops in before),
        np.array(sources, dtype=np.int64),
        group_of[sources] if sources else np.zeros(0, dtype=np.int64),
        costs[sources] if sources else np.zeros(0),
        wants,
        {op: row for row, op in enumerate(sources)},
        _tails(operators, group_of, costs, (bounded, unlimited), wants),
        bounded,
        unlimited,
        tuple(tuple(sorted(others)) for others in group_before),
        operators.order,
    )


def _tails(
    operators: Groups,
    group_of: IntArray,
    costs: FloatArray,
    kinds: tuple[Sequence[int], Sequence[int]],
    wants: BoolArray,
) -> FloatArray:
    """Longest path behind each source, each step at its fastest.

    The first step is taken by another slot: one that pays has the result enter first.
    """
    bounded, unlimited = kinds
    fastest = operators.time_us.min(axis=0)
    paying = [k for k in bounded if operators.kinds[k].pays]
    free = [k for k in (*bounded, *unlimited) if k not in paying]
    slow = np.full(operators.count, np.inf)
    paid = operators.time_us[paying].min(axis=0) if paying else slow
    unpaid = operators.time_us[free].min(axis=0) if free else slow
    behind = np.zeros(operators.count)
    tail = np.zeros(wants.shape)
    targets = {net.source: net.targets for net in operators.nets}
    row = {op: index for index, op in enumerate(_sources(operators, group_of))}
    for op in reversed(range(operators.count)):
        for target in targets.get(op, ()):
            behind[op] = max(behind[op], fastest[target] + behind[target])
            if group_of[target] == group_of[op]:
                continue
            step = min(unpaid[target], paid[target] + costs[op]) + behind[target]
            cell = row[op], group_of[target]
            tail[cell] = max(tail[cell], step)
    return tail


def _sources(operators: Groups, group_of: IntArray) -> list[int]:
    """Operators with consumers in other groups, ascending."""
    return [
        net.source
        for net in operators.nets
        if any(group_of[target] != group_of[net.source] for target in net.targets)
    ]


def torn(flow: Flow) -> list[int]:
    """Groups that plans may have to run in pieces on unlimited slots: not paths through ideals.

    Say o and p share a group, o is wanted by x outside, p waits for y outside, and one slot runs x
    and y: o, then the slot, then p. Ideals of groups cannot say so. Where every such p precedes
    every such o (or is the same), o would wait for itself: nothing is lost.
    """
    after: list[list[int]] = [[] for _ in flow.before]
    for op, others in enumerate(flow.before):
        for other in others:
            after[other].append(op)
    group_of = {op: g for g, ops in enumerate(flow.groups.members) for op in ops}
    found = []
    for group, ops in enumerate(flow.groups.members):
        leaving = {op for op in ops if any(group_of[b] != group for b in after[op])}
        entered = [op for op in ops if any(group_of[a] != group for a in flow.before[op])]
        if any(not leaving <= _reached(op, after, set(ops)) for op in entered):
            found.append(group)
    return found


def _reached(start: int, after: Sequence[Sequence[int]], inside: set[int]) -> set[int]:
    """What an operator leads to within its group, itself included."""
    seen = {start}
    stack = [start]
    while stack:
        for target in after[stack.pop()]:
            if target in inside and target not in seen:
                seen.add(target)
                stack.append(target)
    return seen
