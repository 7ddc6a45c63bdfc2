"""An independent checker: re-prices and re-verifies a Solution from the Problem alone.

It shares no code with the formulation: plain sums over names, and a simulated run for the order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from planner.ir.problem import Conversion, Latency, Objective, Option, Problem, Setting, State
from planner.ir.solution import Solution, Status, Totals

TOLERANCE = 1e-8
"""Relative: above what integer scaling may lose (1e-9), far below any measurement's noise."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: the constraint's id, what, and by how much (in its units)."""

    constraint: str
    what: str
    excess: float = 0.0


@dataclass(frozen=True, slots=True)
class _Chosen:
    options: tuple[Option, ...]
    conversions: tuple[Conversion, ...]
    setting: Setting
    row: int

    @property
    def parts(self) -> tuple[Option | Conversion, ...]:
        """Everything that runs."""
        return (*self.options, *self.conversions)


def _exceeds(value: float, limit: float) -> bool:
    return value > limit + TOLERANCE * max(abs(limit), abs(value))


def _differs(a: float, b: float) -> bool:
    return abs(a - b) > TOLERANCE * max(abs(a), abs(b))


def _look_up(problem: Problem, solution: Solution) -> _Chosen | Violation:
    options = {option.name: option for option in problem.options}
    conversions = {conversion.name: conversion for conversion in problem.conversions}
    rows = {setting.name: row for row, setting in enumerate(problem.settings)}
    if solution.setting not in rows:
        return Violation("names", f"unknown setting {solution.setting!r}")
    for name, times in Counter((*solution.chosen, *solution.conversions)).items():
        if name not in options and name not in conversions:
            return Violation("names", f"unknown option or conversion {name!r}")
        if times > 1 and not (name in options and name in conversions):
            return Violation("names", f"{name!r} is chosen {times} times")
    if any(name not in options for name in solution.chosen):
        return Violation("names", "a conversion is listed among the options")
    if any(name not in conversions for name in solution.conversions):
        return Violation("names", "an option is listed among the conversions")
    row = rows[solution.setting]
    return _Chosen(
        tuple(options[name] for name in solution.chosen),
        tuple(conversions[name] for name in solution.conversions),
        problem.settings[row],
        row,
    )


def _tables(chosen: _Chosen) -> Iterator[tuple[Latency | None, ...]]:
    yield chosen.setting.overhead
    for part in chosen.parts:
        yield part.latency[chosen.row]


def _price(problem: Problem, chosen: _Chosen) -> Totals:
    shapes = range(len(problem.shape_weights))
    cells: list[list[Latency]] = [[] for _ in shapes]
    for table in _tables(chosen):
        for shape in shapes:
            cells[shape].append(table[shape] or Latency(math.nan, math.nan, math.nan))
    expected = tuple(math.fsum(cell.expected_us for cell in row) for row in cells)
    weights = sum(option.weight_size_bytes for option in chosen.options)
    workspace = max((option.workspace_size_bytes for option in chosen.options), default=0)
    weighted = math.fsum(q * us for q, us in zip(problem.shape_weights, expected, strict=True))
    memory = problem.activation_size_bytes + chosen.setting.size_bytes + weights + workspace
    return Totals(
        latency_low_us=tuple(math.fsum(cell.low_us for cell in row) for row in cells),
        latency_expected_us=expected,
        latency_high_us=tuple(math.fsum(cell.high_us for cell in row) for row in cells),
        weighted_latency_us=weighted,
        memory_size_bytes=memory,
        error=math.fsum(option.error for option in chosen.options),
        energy_j=math.fsum(option.energy_j for option in chosen.options),
        price_per_hour=chosen.setting.price_per_hour,
        period_us=weighted,
    )


def price(
    problem: Problem, options: Sequence[str], conversions: Sequence[str], setting: str
) -> Totals:
    """Totals of a choice, from the problem alone; NaN latencies where something does not exist.

    Raises:
        KeyError: a name the problem does not know.
    """
    answer = Solution(Status.FEASIBLE, tuple(options), tuple(conversions), setting)
    chosen = _look_up(problem, answer)
    if isinstance(chosen, Violation):
        raise KeyError(chosen.what)
    return _price(problem, chosen)


def value(totals: Totals, objective: Objective) -> float:
    """One objective's value in a solution's totals."""
    values: dict[Objective, float] = {
        Objective.LATENCY: totals.weighted_latency_us,
        Objective.MEMORY: float(totals.memory_size_bytes),
        Objective.ERROR: totals.error,
        Objective.COST: totals.price_per_hour,
        Objective.ENERGY: totals.energy_j,
        Objective.DEVICES: float(totals.devices),
        Objective.PERIOD: totals.period_us,
        Objective.QUERY_COST: totals.query_cost,
    }
    return values[objective]


def _check_cover(problem: Problem, chosen: _Chosen) -> Iterator[Violation]:
    counts = Counter(name for option in chosen.options for name in option.ops)
    for name in problem.ops:
        if counts[name] != 1:
            yield Violation(
                "C1", f"operator {name!r} is computed {counts[name]} times", counts[name]
            )
    for part in chosen.parts:
        if any(latency is None for latency in part.latency[chosen.row]):
            yield Violation("C1", f"{part.name!r} does not exist under {chosen.setting.name!r}")


def _inputs(part: Option | Conversion) -> tuple[State, ...]:
    return part.needs if isinstance(part, Option) else (part.source,)


def _outputs(part: Option | Conversion) -> tuple[State | str, ...]:
    return (*part.makes, *part.ops) if isinstance(part, Option) else (part.target,)


def _run(problem: Problem, chosen: _Chosen) -> tuple[list[Option | Conversion], set[State | str]]:
    """Runs each part once it can: those that never can, and all that exists in the end."""
    before: dict[str, list[str]] = {name: [] for name in problem.ops}
    for source, target in problem.edges:
        before[target].append(source)
    parts = chosen.parts
    missing: list[set[State | str]] = []
    waiters: dict[State | str, list[int]] = {}
    for number, part in enumerate(parts):
        ops = part.ops if isinstance(part, Option) else ()
        lacks: set[State | str] = {name for op in ops for name in before[op] if name not in ops}
        lacks.update(state for state in _inputs(part) if state not in problem.given)
        missing.append(lacks)
        for atom in lacks:
            waiters.setdefault(atom, []).append(number)
    reached: set[State | str] = set(problem.given)
    ready = [number for number, lacks in enumerate(missing) if not lacks]
    ran = set(ready)
    while ready:
        for atom in _outputs(parts[ready.pop()]):
            if atom in reached:
                continue
            reached.add(atom)
            for number in waiters.get(atom, ()):
                missing[number].discard(atom)
                if not missing[number] and number not in ran:
                    ran.add(number)
                    ready.append(number)
    return [part for number, part in enumerate(parts) if number not in ran], reached


def _check_order(problem: Problem, chosen: _Chosen) -> Iterator[Violation]:
    stuck, reached = _run(problem, chosen)
    for part in stuck:
        missing = [state for state in _inputs(part) if state not in reached]
        names = ", ".join(f"{state.tensor!r} as {state.form!r}" for state in missing)
        yield Violation(
            "C5", f"{part.name!r} can never run: {names or 'groups wait for each other'}"
        )
    for state in problem.wanted:
        if state not in reached:
            yield Violation("C5", f"{state.tensor!r} as {state.form!r} is wanted, but never made")


def _check_limits(
    problem: Problem, chosen: _Chosen, totals: Totals, is_uncertain: bool
) -> Iterator[Violation]:
    limits = problem.limits
    memory = limits.memory_size_bytes
    if memory is not None and _exceeds(totals.memory_size_bytes, memory):
        over = totals.memory_size_bytes - memory
        yield Violation("C4", f"memory {totals.memory_size_bytes} exceeds {memory} bytes", over)
    if limits.error is not None and _exceeds(totals.error, limits.error):
        excess = totals.error - limits.error
        yield Violation("C10", f"error {totals.error} exceeds {limits.error}", excess)
    rate = limits.throughput_per_s
    if rate is not None and _exceeds(totals.weighted_latency_us, 1e6 / rate):
        excess = totals.weighted_latency_us - 1e6 / rate
        yield Violation("C9", f"{totals.weighted_latency_us} us is slower than {rate}/s", excess)
    if limits.latency_us is None:
        return
    ends = totals.latency_low_us if is_uncertain else totals.latency_high_us
    for shape, end in enumerate(ends):
        tail = chosen.setting.tail_factor * end
        if _exceeds(tail, limits.latency_us):
            what = f"shape {shape}: {tail} us exceeds {limits.latency_us} us"
            yield Violation("C8", what, tail - limits.latency_us)


def _check_formats(problem: Problem, chosen: _Chosen) -> Iterator[Violation]:
    formats = {name: option.format for option in chosen.options for name in option.ops}
    for group in problem.tied:
        used = sorted({formats.get(name, "") for name in group})
        if len(used) > 1:
            yield Violation("tied", f"{', '.join(group[:5])} use the formats {', '.join(used)}")
    names = {option.name for option in chosen.options}
    for forbidden in problem.forbidden:
        if forbidden <= names:
            yield Violation("cut", f"{', '.join(sorted(forbidden))} are chosen together")


def _check_certificate(problem: Problem, solution: Solution, totals: Totals) -> Iterator[Violation]:
    if solution.totals is not None and any(
        _differs(a, b) for a, b in zip(_flat(solution.totals), _flat(totals), strict=True)
    ):
        yield Violation("totals", "the totals are not those of the choice")
    values = [value(totals, objective) for objective in problem.objectives]
    if len(solution.objective) not in (0, len(values)):
        yield Violation("totals", "not one value per objective")
        return
    for number, claimed in enumerate(solution.objective):
        if _differs(claimed, values[number]):
            yield Violation("totals", f"objective {number} is {values[number]}, not {claimed}")
    for number, bound in enumerate(solution.bound):
        if _exceeds(bound, values[number]):
            what = f"the bound {bound} of objective {number} lies above its value {values[number]}"
            yield Violation("bound", what, bound - values[number])


def _flat(totals: Totals) -> Iterable[float]:
    return (
        *totals.latency_low_us,
        *totals.latency_expected_us,
        *totals.latency_high_us,
        totals.weighted_latency_us,
        totals.memory_size_bytes,
        totals.error,
        totals.energy_j,
        totals.price_per_hour,
    )


def check(problem: Problem, solution: Solution) -> tuple[Violation, ...]:
    """Everything a solution promises and does not keep; empty when it holds or chooses nothing.

    The problem must be valid (`validate`). O(size of the problem).
    """
    if solution.status in (Status.INFEASIBLE, Status.UNKNOWN):
        chooses = bool(solution.chosen or solution.conversions)
        return (Violation("status", f"{solution.status} with a choice"),) if chooses else ()
    if not problem.ops and not problem.settings:
        chooses = bool(solution.chosen or solution.conversions or solution.setting)
        return (Violation("names", "an empty problem with a choice"),) if chooses else ()
    chosen = _look_up(problem, solution)
    if isinstance(chosen, Violation):
        return (chosen,)
    covered = tuple(_check_cover(problem, chosen))
    if covered:
        return covered
    totals = _price(problem, chosen)
    return (
        *_check_order(problem, chosen),
        *_check_limits(problem, chosen, totals, solution.is_uncertain),
        *_check_formats(problem, chosen),
        *_check_certificate(problem, solution, totals),
    )
