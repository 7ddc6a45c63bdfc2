"""An independent checker: re-prices and re-verifies a Solution from the Problem alone.

It shares no code with the formulation: plain sums over names (`price`), and a simulated run for
the order, stage after stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from planner.ir.problem import Conversion, Objective, Option, Problem, State
from planner.ir.solution import Solution, Status, Totals
from planner.solve.assign.evaluate import check_assignment
from planner.solve.check_devices import check_devices
from planner.solve.price import price_chosen
from planner.solve.running import Chosen, Names, Running, Violation, look_up

TOLERANCE = 1e-8
"""Relative: above what integer scaling may lose (1e-9), far below any measurement's noise."""


def _exceeds(value: float, limit: float) -> bool:
    return value > limit + TOLERANCE * max(abs(limit), abs(value))


def _differs(a: float, b: float) -> bool:
    return abs(a - b) > TOLERANCE * max(abs(a), abs(b))


def price(
    problem: Problem, options: Sequence[str], conversions: Sequence[str], setting: str
) -> Totals:
    """Totals of a choice, from the problem alone; NaN latencies where something does not exist.

    Raises:
        KeyError: a name the problem does not know.
    """
    answer = Solution(Status.FEASIBLE, tuple(options), tuple(conversions), setting)
    return priced(problem, answer)


def priced(problem: Problem, solution: Solution) -> Totals:
    """Totals of a solution's choice, whatever it claims; as `price`, for problems with places too.

    Raises:
        KeyError: a name the problem does not know.
    """
    chosen = look_up(problem, solution)
    if isinstance(chosen, Violation):
        raise KeyError(chosen.what)
    return price_chosen(problem, chosen)


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


def _check_cover(problem: Problem, chosen: Chosen) -> Iterator[Violation]:
    counts = Counter(name for option in chosen.options for name in option.ops)
    for name in problem.ops:
        if counts[name] != 1 and not (counts[name] and name in problem.repeatable):
            yield Violation(
                "C1", f"operator {name!r} is computed {counts[name]} times", counts[name]
            )
    for stage in chosen.stages:
        parts: tuple[Option | Conversion, ...] = (*stage.options, *stage.conversions)
        for part in parts:
            if any(latency is None for latency in part.latency[chosen.row]):
                name = chosen.setting.name
                yield Violation("C1", f"{part.name!r} does not exist under {name!r}")
            if stage.place is not None and part.place not in (None, stage.place.name):
                what = f"{part.name!r} runs at {stage.place.name!r}, but is made for {part.place!r}"
                yield Violation("C2", what)


def _inputs(part: Option | Conversion) -> tuple[State, ...]:
    return part.needs if isinstance(part, Option) else (part.source,)


def _outputs(part: Option | Conversion) -> tuple[State | str, ...]:
    return (*part.makes, *part.ops) if isinstance(part, Option) else (part.target,)


def _run(
    stage: Running, before: dict[str, list[str]], reached: set[State | str]
) -> list[Option | Conversion]:
    """Runs each part of a stage once it can; those that never can. Adds to what is reached."""
    parts: tuple[Option | Conversion, ...] = (*stage.options, *stage.conversions)
    missing: list[set[State | str]] = []
    waiters: dict[State | str, list[int]] = {}
    for number, part in enumerate(parts):
        ops = part.ops if isinstance(part, Option) else ()
        lacks: set[State | str] = {name for op in ops for name in before[op] if name not in ops}
        lacks.update(_inputs(part))
        lacks -= reached
        missing.append(lacks)
        for atom in lacks:
            waiters.setdefault(atom, []).append(number)
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
    return [part for number, part in enumerate(parts) if number not in ran]


def _check_order(problem: Problem, chosen: Chosen) -> Iterator[Violation]:
    """C3, C5 and C6: stage after stage, each with what it makes and what it receives."""
    before: dict[str, list[str]] = {name: [] for name in problem.ops}
    for source, target in problem.edges:
        before[target].append(source)
    done: set[State | str] = set()
    states: list[set[State]] = []
    for number, stage in enumerate(chosen.stages):
        reached: set[State | str] = {*problem.given, *done}
        for transfer, sender in stage.transfers:
            if not 0 <= sender < number or transfer.source not in states[sender]:
                yield Violation("C6", f"{transfer.name!r} moves what stage {sender} does not have")
            reached.add(transfer.target)
        for part in _run(stage, before, reached):
            lacking = [state for state in _inputs(part) if state not in reached]
            names = ", ".join(f"{state.tensor!r} as {state.form!r}" for state in lacking)
            what = f"{part.name!r} can never run: {names or 'groups wait for each other'}"
            yield Violation("C5", what)
        done.update(atom for atom in reached if isinstance(atom, str))
        states.append({atom for atom in reached if isinstance(atom, State)})
    there = {*problem.given}.union(*states)
    for state in problem.wanted:
        if state not in there:
            yield Violation("C5", f"{state.tensor!r} as {state.form!r} is wanted, but never made")


def _check_limits(
    problem: Problem, chosen: Chosen, totals: Totals, is_uncertain: bool
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
    if rate is not None and _exceeds(totals.period_us, 1e6 / rate):
        excess = totals.period_us - 1e6 / rate
        yield Violation("C9", f"{totals.period_us} us is slower than {rate}/s", excess)
    counted: tuple[tuple[str, float | None, float], ...] = (
        ("devices", limits.devices, totals.devices),
        ("price_per_hour", limits.price_per_hour, totals.price_per_hour),
        ("query_cost", limits.query_cost, totals.query_cost),
        ("energy_j", limits.energy_j, totals.energy_j),
    )
    for name, limit, used in counted:
        if limit is not None and _exceeds(used, limit):
            yield Violation("C11", f"{name} {used} exceeds {limit}", used - limit)
    if limits.latency_us is None:
        return
    ends = totals.latency_low_us if is_uncertain else totals.latency_high_us
    for shape, end in enumerate(ends):
        tail = chosen.setting.tail(shape, is_low=is_uncertain) * end
        if _exceeds(tail, limits.latency_us):
            what = f"shape {shape}: {tail} us exceeds {limits.latency_us} us"
            yield Violation("C8", what, tail - limits.latency_us)


def _check_formats(problem: Problem, chosen: Chosen) -> Iterator[Violation]:
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
        totals.devices,
        totals.period_us,
        *totals.stage_us,
        *totals.stage_memory_size_bytes,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checker says of a solution."""

    broken: tuple[Violation, ...]
    """Everything promised and not kept."""
    totals: Totals | None = None
    """Of what was chosen; None where nothing is, or where that is no plan at all."""


def check(problem: Problem, solution: Solution) -> tuple[Violation, ...]:
    """Everything a solution promises and does not keep; empty when it holds or chooses nothing.

    The problem must be valid (`validate`). O(size of the problem).
    """
    return judge(problem, solution).broken


def judge(problem: Problem, solution: Solution, names: Names | None = None) -> Verdict:
    """`check`, with the totals that it was made from.

    Args:
        names: the problem's, where many of its plans are judged.
    """
    if solution.status in (Status.INFEASIBLE, Status.UNKNOWN):
        chooses = bool(solution.chosen or solution.conversions)
        status = Violation("status", f"{solution.status} with a choice")
        return Verdict((status,) if chooses else ())
    if not problem.ops and not problem.settings:
        chooses = bool(solution.chosen or solution.conversions or solution.setting)
        empty = Violation("names", "an empty problem with a choice")
        return Verdict((empty,) if chooses else ())
    if problem.assignment is not None:
        assigned, broken = check_assignment(problem, solution)
        return Verdict(broken or tuple(_check_certificate(problem, solution, assigned)), assigned)
    chosen = look_up(problem, solution, names)
    if isinstance(chosen, Violation):
        return Verdict((chosen,))
    covered = tuple(_check_cover(problem, chosen))
    if covered:
        return Verdict(covered)
    totals = price_chosen(problem, chosen)
    found = (
        *_check_order(problem, chosen),
        *check_devices(problem, chosen, totals),
        *_check_limits(problem, chosen, totals, solution.is_uncertain),
        *_check_formats(problem, chosen),
        *_check_certificate(problem, solution, totals),
    )
    return Verdict(found, totals)
