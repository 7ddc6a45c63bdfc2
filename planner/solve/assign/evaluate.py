"""The checker's part for free assignments (C12): loads, memory and schedule from the Problem alone.

Shares nothing with the solvers of this folder: plain sums over names.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from planner.ir.assignment import Assignment, Contiguity
from planner.ir.problem import Option, Problem
from planner.ir.solution import Solution, Totals
from planner.solve.running import Violation

NOTHING = Totals((), (), (), math.nan, 0, math.nan, math.nan, math.nan)
"""What cannot be priced."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An answer, priced."""

    load_us: tuple[float, ...]
    """Of each slot."""
    memory_size_bytes: tuple[int, ...]
    """Of each slot."""
    finish_us: float
    """Of the schedule, or the largest load without one; NaN where slots wait in a cycle."""
    options: tuple[Option, ...]
    """What runs, operator after operator."""

    @property
    def period_us(self) -> float:
        """The largest load."""
        return max(self.load_us, default=0.0)


def options_at(problem: Problem, slot_of: Mapping[str, int]) -> list[Option]:
    """Each operator's option at its slot's place.

    Raises:
        KeyError: it has none there.
    """
    assignment = _assignment(problem)
    found = {(option.ops[0], option.place): option for option in problem.options}
    chosen = []
    for name in problem.ops:
        place = assignment.slots[slot_of[name]].place
        option = found.get((name, place)) or found.get((name, None))
        if option is None:
            raise KeyError(f"operator {name!r} has no option at {place!r}")
        chosen.append(option)
    return chosen


def _assignment(problem: Problem) -> Assignment:
    if problem.assignment is None:
        raise KeyError("the problem has no assignment")
    return problem.assignment


def _time_us(problem: Problem, option: Option) -> float:
    latencies = zip(problem.shape_weights, option.latency[0], strict=True)
    return math.fsum(w * (latency.expected_us if latency else math.nan) for w, latency in latencies)


def place(problem: Problem, slot_of: Mapping[str, int]) -> Placed:
    """Prices an assignment. O(size of the problem).

    Raises:
        KeyError: an operator without a slot, or without an option there.
    """
    assignment = _assignment(problem)
    options = options_at(problem, slot_of)
    times = {option.ops[0]: _time_us(problem, option) for option in options}
    parts: list[list[float]] = [[] for _ in assignment.slots]
    memory = [0] * len(assignment.slots)
    for option in options:
        slot = slot_of[option.ops[0]]
        parts[slot].append(times[option.ops[0]])
        memory[slot] += option.weight_size_bytes + option.cache_size_bytes
    for slot, cost in _crossings(problem, slot_of):
        if assignment.slots[slot].pays_crossings:
            parts[slot].append(cost)
    loads = tuple(math.fsum(values) for values in parts)
    finish = _finish_us(problem, slot_of, times, loads) if assignment.is_scheduled else max(loads)
    fixed = problem.activation_size_bytes + problem.settings[0].size_bytes
    return Placed(loads, tuple(used + fixed for used in memory), finish, tuple(options))


def _crossings(problem: Problem, slot_of: Mapping[str, int]) -> Iterator[tuple[int, float]]:
    """(slot, cost) of everything that leaves or enters: once per producer, slot and direction."""
    costs = {c.op: c.latency_us for c in _assignment(problem).crossings}
    reached: dict[str, set[int]] = {}
    for source, target in problem.edges:
        reached.setdefault(source, set()).add(slot_of[target])
    for source, slots in reached.items():
        outside = slots - {slot_of[source]}
        if outside and source in costs:
            yield slot_of[source], costs[source]
            yield from ((slot, costs[source]) for slot in sorted(outside))


def _finish_us(
    problem: Problem,
    slot_of: Mapping[str, int],
    times: Mapping[str, float],
    loads: Sequence[float],
) -> float:
    """The largest finish; subgraphs of one device run in the order of their starts.

    O(edges · log). NaN where slots wait for each other in a cycle.
    """
    slots = _assignment(problem).slots
    unit = {
        name: name if slots[slot_of[name]].is_unlimited else slot_of[name] for name in problem.ops
    }
    before: dict[str | int, set[str | int]] = {value: set() for value in unit.values()}
    for source, target in problem.edges:
        if unit[source] != unit[target]:
            before[unit[target]].add(unit[source])
    after: dict[str | int, list[str | int]] = {value: [] for value in before}
    for value, others in before.items():
        for other in others:
            after[other].append(value)
    rank = {value: index for index, value in enumerate(before)}
    waiting = {value: len(others) for value, others in before.items()}
    device = _devices(_assignment(problem))
    free = dict.fromkeys(device.values(), 0.0)
    finish: dict[str | int, float] = {}
    ready = [(0.0, rank[value], value) for value, count in waiting.items() if not count]
    heapify(ready)
    while ready:
        known, index, current = heappop(ready)
        start = _start(current, before[current], finish, device, free)
        if start > known:  # its device has been taken since
            heappush(ready, (start, index, current))
            continue
        finish[current] = start + (times[current] if isinstance(current, str) else loads[current])
        if isinstance(current, int) and current in device:
            free[device[current]] = finish[current]
        for other in after[current]:
            waiting[other] -= 1
            if not waiting[other]:
                heappush(ready, (finish[current], rank[other], other))
    return max(finish.values(), default=0.0) if len(finish) == len(before) else math.nan


def _start(
    unit: str | int,
    before: set[str | int],
    finish: Mapping[str | int, float],
    device: Mapping[int, int],
    free: Mapping[int, float],
) -> float:
    start = max((finish[other] for other in before), default=0.0)
    shared = isinstance(unit, int) and unit in device
    return max(start, free[device[unit]]) if shared and isinstance(unit, int) else start


def _devices(assignment: Assignment) -> dict[int, int]:
    """Slot -> number of the device that it shares with others."""
    number = {slot.name: index for index, slot in enumerate(assignment.slots)}
    return {number[name]: index for index, group in enumerate(assignment.shared) for name in group}


def totals(problem: Problem, placed: Placed) -> Totals:
    """The price of an answer in the terms of a Solution."""
    assignment = _assignment(problem)
    used = {number for number, load in enumerate(placed.load_us) if load > 0}
    shared = _devices(assignment)
    latency = placed.finish_us + sum(
        weight * overhead.expected_us
        for weight, overhead in zip(
            problem.shape_weights, problem.settings[0].overhead, strict=True
        )
    )
    memory = list(placed.memory_size_bytes)
    for device in set(shared.values()):
        members = [slot for slot, other in shared.items() if other == device]
        together = sum(memory[slot] for slot in members)
        for slot in members:
            memory[slot] = together
    return Totals(
        (latency,) * len(problem.shape_weights),
        (latency,) * len(problem.shape_weights),
        (latency,) * len(problem.shape_weights),
        latency,
        max(memory, default=0),
        math.fsum(option.error for option in placed.options),
        math.fsum(option.energy_j for option in placed.options),
        _price(problem, used),
        devices=len({shared.get(slot, -1 - slot) for slot in used}),
        period_us=placed.period_us,
        stage_us=placed.load_us,
        stage_memory_size_bytes=tuple(memory),
    )


def _price(problem: Problem, used: set[int]) -> float:
    slots = _assignment(problem).slots
    devices = {device.name: device for device in problem.devices}
    places = {place.name: devices[place.device] for place in problem.places}
    prices = (places[slots[slot].place].price_per_hour for slot in sorted(used))
    return problem.settings[0].price_per_hour + math.fsum(prices)


def check_assignment(problem: Problem, solution: Solution) -> tuple[Totals, tuple[Violation, ...]]:
    """What an answer costs, and every promise of C12 that it breaks."""
    assignment = _assignment(problem)
    if [name for name, _ in solution.slots] != list(problem.ops):
        return NOTHING, (Violation("C12", "not every operator has one slot, in order"),)
    number = {slot.name: index for index, slot in enumerate(assignment.slots)}
    unknown = sorted({slot for _, slot in solution.slots} - set(number))
    if unknown:
        return NOTHING, (Violation("names", f"unknown slot {unknown[0]!r}"),)
    slot_of = {name: number[slot] for name, slot in solution.slots}
    try:
        placed = place(problem, slot_of)
    except KeyError as error:
        return NOTHING, (Violation("C12", str(error.args[0])),)
    priced = totals(problem, placed)
    broken = [
        *over_memory(problem, priced),
        *_together(assignment, slot_of),
        *_contiguous(problem, slot_of),
    ]
    if not math.isfinite(placed.finish_us):
        broken.append(Violation("C12", "slots wait for each other in a cycle"))
    if solution.chosen != tuple(option.name for option in placed.options):
        broken.append(Violation("C1", "`chosen` is not what the slots run"))
    return priced, tuple(broken)


def over_memory(problem: Problem, priced: Totals) -> Iterator[Violation]:
    """Slots that hold more than their device has, or than the limits allow (C4)."""
    devices = {device.name: device for device in problem.devices}
    places = {place.name: devices[place.device] for place in problem.places}
    slots = _assignment(problem).slots
    for slot, used in zip(slots, priced.stage_memory_size_bytes, strict=True):
        limits = (places[slot.place].memory_size_bytes, problem.limits.memory_size_bytes)
        room = min((limit for limit in limits if limit is not None), default=used)
        if used > room:
            what = f"slot {slot.name!r} needs {used} of {room} bytes"
            yield Violation("C4", what, used - room)


def _together(assignment: Assignment, slot_of: Mapping[str, int]) -> Iterator[Violation]:
    for group in assignment.together:
        if len({slot_of[name] for name in group}) > 1:
            yield Violation("C12", f"{', '.join(group[:5])} are torn apart")


def _contiguous(problem: Problem, slot_of: Mapping[str, int]) -> Iterator[Violation]:
    """Convex: no walk along the order leaves a slot and comes back. Chain: slots in an order."""
    assignment = _assignment(problem)
    edges = problem.edges if assignment.order is None else assignment.order
    slots = range(len(assignment.slots))
    bound = [s for s in slots if not assignment.slots[s].is_unlimited]
    if assignment.contiguity is Contiguity.CONVEX:
        for slot in bound:
            if _comes_back(edges, slot_of, slot):
                name = assignment.slots[slot].name
                yield Violation("C12", f"the operators of {name!r} are not convex")
    if assignment.contiguity is Contiguity.CHAIN:
        unit = {
            name: name if assignment.slots[slot].is_unlimited else slot
            for name, slot in slot_of.items()
        }
        if not _is_acyclic({(unit[a], unit[b]) for a, b in edges if unit[a] != unit[b]}):
            yield Violation("C12", "no order of the slots makes every edge go forward")


def _comes_back(edges: Sequence[tuple[str, str]], slot_of: Mapping[str, int], slot: int) -> bool:
    after: dict[str, list[str]] = {}
    for a, b in edges:
        after.setdefault(a, []).append(b)
    stack = [b for a, b in edges if slot_of[a] == slot and slot_of[b] != slot]
    seen = set(stack)
    while stack:
        for target in after.get(stack.pop(), ()):
            if slot_of[target] == slot:
                return True
            if target not in seen:
                seen.add(target)
                stack.append(target)
    return False


def _is_acyclic(edges: set[tuple[str | int, str | int]]) -> bool:
    waiting: Counter[str | int] = Counter(b for _, b in edges)
    after: dict[str | int, list[str | int]] = {}
    for a, b in edges:
        after.setdefault(a, []).append(b)
    nodes = {node for edge in edges for node in edge}
    ready = [node for node in nodes if not waiting[node]]
    done = 0
    while ready:
        done += 1
        for target in after.get(ready.pop(), ()):
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return done == len(nodes)
