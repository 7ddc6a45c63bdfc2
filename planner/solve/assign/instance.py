"""A free assignment (C12) as arrays, and its contraction to groups that must share a slot.

Sets    ops 0..n-1 (numbers in `Problem.ops`); kinds: slots that are interchangeable
        nets: a producer and its consumers, as a hyperedge that is cut when slots differ
Data    time_us[kind, op], infinite where unsupported; size_bytes[kind, op]; cost_us[op]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.errors import UsageError
from planner.ir.assignment import Assignment, Contiguity
from planner.ir.problem import Option, Problem
from planner.solve.data import FloatArray

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Kind:
    """Slots that nothing tells apart."""

    slots: tuple[int, ...]
    """Numbers in `Assignment.slots`."""
    pays: bool
    is_unlimited: bool
    capacity_bytes: float


@dataclass(frozen=True, slots=True)
class Net:
    """What moves from one group to others: cut where a slot holds some of them but not all."""

    source: int
    targets: tuple[int, ...]
    """Without the source, ascending."""
    cost_us: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What a slot's time and memory are worth, by kind (`rates`)."""

    time: tuple[float, ...]
    size_us_per_byte: tuple[float, ...]
    """0 where memory is not limited."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Operators that share a slot, with everything between them. Also: the operators themselves."""

    kinds: tuple[Kind, ...]
    members: tuple[tuple[int, ...], ...]
    """Operators of each group; groups of an acyclic order are numbered topologically."""
    time_us: FloatArray
    """[kind, group]: sums over the members."""
    size_bytes: FloatArray
    """[kind, group]: whole numbers, exact below 2^53."""
    nets: tuple[Net, ...]
    order: tuple[Edge, ...]
    """Edges that contiguity follows."""
    rates: Rates | None = None
    """What work is counted with (`windows.work`); None: fastest times."""

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.members)

    @property
    def slot_count(self) -> int:
        """Number of slots of all kinds."""
        return sum(len(kind.slots) for kind in self.kinds)


def read(problem: Problem) -> Groups:
    """The problem's operators, each its own group. O(size of the problem).

    Raises:
        UsageError: the problem says something that an assignment cannot heed.
    """
    assignment = problem.assignment
    if assignment is None:
        raise UsageError("the problem has no assignment", fix="use `solve`")
    _refuse_unheeded(problem)
    number = {name: index for index, name in enumerate(problem.ops)}
    kinds = _kinds(problem, assignment)
    costs = {number[c.op]: c.latency_us for c in assignment.crossings}
    edges = [(number[a], number[b]) for a, b in problem.edges]
    targets: dict[int, set[int]] = {}
    for source, target in edges:
        targets.setdefault(source, set()).add(target)
    nets = tuple(Net(s, tuple(sorted(t)), costs.get(s, 0.0)) for s, t in sorted(targets.items()))
    followed = assignment.order
    order = edges if followed is None else [(number[a], number[b]) for a, b in followed]
    time, size = _tables(problem, assignment, kinds)
    members = tuple((index,) for index in range(len(problem.ops)))
    return Groups(kinds, members, time, size, nets, tuple(sorted(set(order))))


def _refuse_unheeded(problem: Problem) -> None:
    limits = problem.limits
    unheeded = {
        "conversions": problem.conversions,
        "pairs": problem.pairs,
        "stores": problem.stores,
        "transfers": problem.transfers,
        "tied operators": problem.tied,
        "forbidden sets": problem.forbidden,
        "repeatable operators": problem.repeatable,
        "limits other than memory": any(
            limit is not None
            for limit in (
                limits.latency_us,
                limits.error,
                limits.throughput_per_s,
                limits.devices,
                limits.price_per_hour,
                limits.query_cost,
                limits.energy_j,
            )
        ),
        "more than one setting": len(problem.settings) > 1,
        "operators computed together": any(len(option.ops) != 1 for option in problem.options),
    }
    for what, is_there in unheeded.items():
        if is_there:
            raise UsageError(
                f"a free assignment (C12) cannot heed {what}", fix="use stages, or leave them out"
            )


def _kinds(problem: Problem, assignment: Assignment) -> tuple[Kind, ...]:
    """Slots of one place that pay alike; a slot that shares its device is a kind of its own."""
    places = {place.name: place for place in problem.places}
    devices = {device.name: device for device in problem.devices}
    alone = {name for group in assignment.shared for name in group}
    classes: dict[tuple[str, bool, bool, str], list[int]] = {}
    for index, slot in enumerate(assignment.slots):
        own = slot.name if slot.name in alone else ""
        key = (slot.place, slot.pays_crossings, slot.is_unlimited, own)
        classes.setdefault(key, []).append(index)
    kinds = []
    for (place, pays, unlimited, _), slots in classes.items():
        limits = (devices[places[place].device].memory_size_bytes, problem.limits.memory_size_bytes)
        capacity = min((float(limit) for limit in limits if limit is not None), default=np.inf)
        fixed = problem.activation_size_bytes + problem.settings[0].size_bytes
        kinds.append(Kind(tuple(slots), pays, unlimited, capacity - fixed))
    return tuple(kinds)


def _tables(
    problem: Problem, assignment: Assignment, kinds: Sequence[Kind]
) -> tuple[FloatArray, FloatArray]:
    time = np.full((len(kinds), len(problem.ops)), np.inf)
    size = np.zeros((len(kinds), len(problem.ops)))
    number = {name: index for index, name in enumerate(problem.ops)}
    for row, kind in enumerate(kinds):
        place = assignment.slots[kind.slots[0]].place
        for option in problem.options:
            if option.place not in (None, place):
                continue
            column = number[option.ops[0]]
            if np.isfinite(time[row, column]):
                raise UsageError(
                    f"operator {option.ops[0]!r} has two options at {place!r}",
                    fix="a free assignment (C12) needs one option an operator and place",
                )
            time[row, column] = expected_us(option, problem)
            size[row, column] = option.weight_size_bytes + option.cache_size_bytes
    return time, size


def expected_us(option: Option, problem: Problem) -> float:
    """Weighted expected latency over the workload; infinite where the option does not exist."""
    total = 0.0
    for weight, latency in zip(problem.shape_weights, option.latency[0], strict=True):
        if latency is None:
            return float("inf")
        total += weight * latency.expected_us
    return total


def merge(groups: Groups, pairs: Iterable[Edge], *, is_acyclic: bool) -> Groups:
    """Groups joined along pairs; with `is_acyclic` also whatever then waits for itself.

    A chain of ideals cannot split a strongly connected component of its order, so merging it loses
    nothing. Producers with the same consumers move together: their costs add up.
    """
    label = _united(groups.count, pairs)
    if is_acyclic:
        edges = {(label[a], label[b]) for a, b in groups.order if label[a] != label[b]}
        component = components(groups.count, edges)
        label = [component[index] for index in label]
        edges = {(component[a], component[b]) for a, b in edges}
        labels = topological(sorted(set(label)), {(a, b) for a, b in edges if a != b})
    else:
        labels = sorted(set(label))
    position = {value: index for index, value in enumerate(labels)}
    of = [position[value] for value in label]
    return quotient(groups, of, len(labels))


def regrouped(operators: Groups, groups: Groups) -> Groups:
    """The groups again, of operators that have changed since."""
    of = [0] * operators.count
    for group, members in enumerate(groups.members):
        for op in members:
            of[op] = group
    return replace(quotient(operators, of, groups.count), rates=groups.rates)


def quotient(groups: Groups, of: Sequence[int], count: int) -> Groups:
    """Groups joined where `of` says the same number below a count."""
    members: list[list[int]] = [[] for _ in range(count)]
    time = np.zeros((len(groups.kinds), count))
    size = np.zeros((len(groups.kinds), count))
    for group, label in enumerate(of):
        members[label].extend(groups.members[group])
    np.add.at(time.T, list(of), groups.time_us.T)
    np.add.at(size.T, list(of), groups.size_bytes.T)
    costs: dict[tuple[int, tuple[int, ...]], float] = {}
    for net in groups.nets:
        source = of[net.source]
        targets = tuple(sorted({of[t] for t in net.targets} - {source}))
        if targets and net.cost_us > 0:
            costs[source, targets] = costs.get((source, targets), 0.0) + net.cost_us
    nets = tuple(Net(source, targets, cost) for (source, targets), cost in sorted(costs.items()))
    order = sorted({(of[a], of[b]) for a, b in groups.order if of[a] != of[b]})
    named = tuple(tuple(sorted(group)) for group in members)
    return Groups(groups.kinds, named, time, size, nets, tuple(order), groups.rates)


def _united(count: int, pairs: Iterable[Edge]) -> list[int]:
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for a, b in pairs:
        parent[root(a)] = root(b)
    return [root(node) for node in range(count)]


def components(count: int, edges: Iterable[Edge]) -> list[int]:
    """A label per node: strongly connected components (Kosaraju), named by a member."""
    after: list[list[int]] = [[] for _ in range(count)]
    before: list[list[int]] = [[] for _ in range(count)]
    for a, b in sorted(edges):
        after[a].append(b)
        before[b].append(a)
    finished: list[int] = []
    seen = [False] * count
    for start in range(count):
        if not seen[start]:
            seen[start] = True
            finished.extend(_postorder(start, after, seen))
    label = [-1] * count
    for start in reversed(finished):
        stack = [start] if label[start] < 0 else []
        while stack:
            node = stack.pop()
            if label[node] < 0:
                label[node] = start
                stack.extend(before[node])
    return label


def _postorder(start: int, after: Sequence[Sequence[int]], seen: list[bool]) -> list[int]:
    done: list[int] = []
    stack = [(start, iter(after[start]))]
    while stack:
        node, children = stack[-1]
        child = next((c for c in children if not seen[c]), None)
        if child is None:
            done.append(node)
            stack.pop()
            continue
        seen[child] = True
        stack.append((child, iter(after[child])))
    return done


def topological(nodes: Sequence[int], edges: Iterable[Edge]) -> list[int]:
    """Nodes in an order that every edge follows: depth first, so that neighbours stay close."""
    waiting = dict.fromkeys(nodes, 0)
    after: dict[int, list[int]] = {node: [] for node in nodes}
    for a, b in sorted(edges):
        waiting[b] += 1
        after[a].append(b)
    ready = [node for node in reversed(nodes) if not waiting[node]]
    done = []
    while ready:
        node = ready.pop()
        done.append(node)
        for target in after[node]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return done


def together(problem: Problem) -> Groups:
    """Operators joined by `together`, and by nothing else."""
    groups = read(problem)
    number = {name: index for index, name in enumerate(problem.ops)}
    joined = problem.assignment.together if problem.assignment is not None else ()
    pairs = [(number[first], number[other]) for first, *rest in joined for other in rest]
    return merge(groups, pairs, is_acyclic=False)


def initial(problem: Problem) -> Groups:
    """Operators that share a slot in every plan; in chains, with all that waits for itself.

    Groups of schedules are acyclic too: only unlimited slots could tear a component apart.
    """
    groups = together(problem)
    assignment = problem.assignment
    if assignment is None or (
        assignment.contiguity is not Contiguity.CHAIN and not assignment.is_scheduled
    ):
        return groups
    return merge(groups, (), is_acyclic=True)


def spread(groups: Groups, slots: Sequence[int]) -> list[int]:
    """From groups to their operators."""
    count = sum(len(members) for members in groups.members)
    result = [0] * count
    for members, slot in zip(groups.members, slots, strict=True):
        for op in members:
            result[op] = slot
    return result
