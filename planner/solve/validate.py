"""Refuses a Problem that makes no sense, naming the thing; nothing here needs a solver."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

from planner.errors import UsageError
from planner.ir.problem import Latency, Option, Problem, State
from planner.solve.validate_devices import validate_devices

Table = tuple[tuple[Latency | None, ...], ...]
_PARTS = tuple(item.name for item in fields(Problem) if item.name not in ("limits", "objectives"))
_SOUND: list[object] = []
"""Parts of the last problem that was found valid; held, so that no other object takes their
identity. Conflicts, frontiers and prices of limits pose one problem again and again with other
limits and objectives: of large ones looking at every option takes longer than some answers."""


def validate(problem: Problem) -> None:
    """Checks names, numbers, order, convexity and states. O(size of the problem).

    Raises:
        UsageError: names the operator, option, conversion, setting, state or limit that is wrong.
    """
    _check_asked(problem)
    parts = [getattr(problem, name) for name in _PARTS]
    if len(_SOUND) == len(parts) and all(a is b for a, b in zip(_SOUND, parts, strict=True)):
        return
    _check_names(problem)
    _check_settings(problem)
    _check_costs(problem)
    position = {name: number for number, name in enumerate(problem.ops)}
    _check_edges(problem, position)
    _check_options(problem, position)
    _check_groups(problem, position)
    _check_states(problem)
    validate_devices(problem)
    _SOUND[:] = parts


def _refuse_duplicates(names: Iterable[str], what: str) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise UsageError(f"{what} {name!r} is named {times} times", fix="make names unique")


def _check_names(problem: Problem) -> None:
    _refuse_duplicates(problem.ops, "operator")
    _refuse_duplicates((option.name for option in problem.options), "option")
    _refuse_duplicates((c.name for c in problem.conversions), "conversion")
    _refuse_duplicates((setting.name for setting in problem.settings), "setting")


def _refuse_number(value: float, what: str, least: float = 0.0) -> None:
    if not math.isfinite(value) or value < least:
        raise UsageError(f"{what} is {value}", fix=f"a finite number, at least {least:g}")


def _check_settings(problem: Problem) -> None:
    if problem.ops and not problem.settings:
        raise UsageError("the problem has no setting", fix="give at least one plan-wide setting")
    if not problem.shape_weights:
        raise UsageError("the workload has no shape", fix="give at least one shape weight")
    for number, weight in enumerate(problem.shape_weights):
        _refuse_number(weight, f"the weight of workload shape {number}")
    for setting in problem.settings:
        where = f"setting {setting.name!r}"
        _check_shapes(setting.overhead, problem, where)
        _refuse_number(setting.size_bytes, f"size_bytes of {where}")
        _refuse_number(setting.price_per_hour, f"price_per_hour of {where}")
        for field in ("tail_factors", "tail_low_factors"):
            factors = getattr(setting, field)
            if len(factors) not in (0, len(problem.shape_weights)):
                raise UsageError(f"{where} has not one tail factor per workload shape")
            for shape, factor in enumerate(factors):
                _refuse_number(factor, f"{field}[{shape}] of {where}", least=1.0)
        for shape in range(len(problem.shape_weights)):
            if setting.tail(shape, is_low=True) > setting.tail(shape):
                raise UsageError(f"tail_low_factors[{shape}] of {where} is above tail_factors")
    _refuse_number(problem.activation_size_bytes, "activation_size_bytes")


def _check_asked(problem: Problem) -> None:
    """Objectives and limits."""
    if not problem.objectives:
        raise UsageError("the problem has no objective", fix="minimise latency, say")
    _refuse_duplicates((o.value for o in problem.objectives), "objective")
    limits = problem.limits
    named = (
        ("latency_us", limits.latency_us),
        ("memory_size_bytes", limits.memory_size_bytes),
        ("error", limits.error),
        ("devices", limits.devices),
        ("price_per_hour", limits.price_per_hour),
        ("query_cost", limits.query_cost),
        ("energy_j", limits.energy_j),
    )
    for name, value in named:
        if value is not None:
            _refuse_number(value, f"the limit {name}")
    rate = limits.throughput_per_s
    if rate is not None and (not math.isfinite(rate) or rate <= 0):
        raise UsageError(f"the limit throughput_per_s is {rate}", fix="a finite rate above zero")


def _check_shapes(row: Sequence[Latency | None], problem: Problem, where: str) -> None:
    if len(row) != len(problem.shape_weights):
        raise UsageError(
            f"{where} has latencies for {len(row)} workload shapes,"
            f" not {len(problem.shape_weights)}"
        )
    for latency in row:
        if latency is not None:
            _check_latency(latency, where)


def _check_latency(latency: Latency, where: str) -> None:
    low, expected, high = latency.low_us, latency.expected_us, latency.high_us
    if 0.0 <= low <= expected <= high < math.inf:
        return
    raise UsageError(
        f"{where} has the latency {low} / {expected} / {high} us (low / expected / high)",
        fix="finite numbers with 0 <= low <= expected <= high",
    )


def _check_table(table: Table, problem: Problem, where: str) -> None:
    if len(table) != len(problem.settings):
        raise UsageError(
            f"{where} has latencies for {len(table)} settings, not {len(problem.settings)}"
        )
    for row in table:
        _check_shapes(row, problem, where)


def _check_costs(problem: Problem) -> None:
    sound: set[int] = set()
    """Tables by identity: many options of a large problem share one."""
    for option in problem.options:
        if id(option.latency) not in sound:
            _check_table(option.latency, problem, f"option {option.name!r}")
            sound.add(id(option.latency))
        numbers = (
            ("weight_size_bytes", option.weight_size_bytes),
            ("workspace_size_bytes", option.workspace_size_bytes),
            ("error", option.error),
            ("energy_j", option.energy_j),
        )
        for name, number in numbers:
            if not 0.0 <= number < math.inf:
                _refuse_number(number, f"{name} of option {option.name!r}")
    for conversion in problem.conversions:
        if id(conversion.latency) not in sound:
            _check_table(conversion.latency, problem, f"conversion {conversion.name!r}")
            sound.add(id(conversion.latency))


def _check_edges(problem: Problem, position: dict[str, int]) -> None:
    waiting = dict.fromkeys(problem.ops, 0)
    after: dict[str, list[str]] = {name: [] for name in problem.ops}
    for source, target in problem.edges:
        for name in (source, target):
            if name not in position:
                raise UsageError(
                    f"edge {source!r} -> {target!r} names the unknown operator {name!r}"
                )
        waiting[target] += 1
        after[source].append(target)
    ready = [name for name, count in waiting.items() if not count]
    while ready:
        for target in after[ready.pop()]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    stuck = [name for name, count in waiting.items() if count]
    if stuck:
        raise UsageError(
            f"the operators {', '.join(map(repr, stuck[:5]))} wait for a cycle of edges"
        )
    for source, target in problem.edges:
        if position[source] >= position[target]:
            raise UsageError(
                f"operator {target!r} is listed before {source!r}, whose result it reads",
                fix="list operators in topological order",
            )


def _check_options(problem: Problem, position: dict[str, int]) -> None:
    covered: set[str] = set()
    after: dict[str, list[str]] = {name: [] for name in problem.ops}
    for source, target in problem.edges:
        after[source].append(target)
    for option in problem.options:
        if not option.ops:
            raise UsageError(f"option {option.name!r} computes no operator")
        for name in option.ops:
            if name not in position:
                raise UsageError(f"option {option.name!r} covers the unknown operator {name!r}")
        if len(option.ops) > 1:
            _refuse_duplicates(option.ops, f"in option {option.name!r}, operator")
        _check_convex(option, position, after)
        if any(all(latency is not None for latency in row) for row in option.latency):
            covered.update(option.ops)
    for name in problem.ops:
        if name not in covered:
            raise UsageError(
                f"operator {name!r} has no option under any setting",
                fix="offer at least the plain format",
            )


def _check_convex(option: Option, position: dict[str, int], after: dict[str, list[str]]) -> None:
    if len(option.ops) == 1:
        return
    inside = set(option.ops)
    last = max(position[name] for name in inside)
    reached = [target for name in inside for target in after[name] if target not in inside]
    seen = set(reached)
    while reached:
        name = reached.pop()
        for target in after[name]:
            if target in inside:
                raise UsageError(
                    f"option {option.name!r} is not convex: a path leaves it, runs through {name!r}"
                    f" and comes back to {target!r}",
                    fix=f"include {name!r} or split the group",
                )
            if target not in seen and position[target] < last:
                seen.add(target)
                reached.append(target)


def _check_groups(problem: Problem, position: dict[str, int]) -> None:
    for group in problem.tied:
        for name in group:
            if name not in position:
                raise UsageError(f"a tied group names the unknown operator {name!r}")
    options = {option.name for option in problem.options}
    for names in problem.forbidden:
        if not names:
            raise UsageError("a forbidden set is empty: it would forbid every plan")
        for name in sorted(names):
            if name not in options:
                raise UsageError(f"a forbidden set names the unknown option {name!r}")


def _label(state: State) -> str:
    return f"{state.tensor!r} as {state.form!r}"


def _check_states(problem: Problem) -> None:
    for conversion in problem.conversions:
        if conversion.source == conversion.target:
            raise UsageError(f"conversion {conversion.name!r} makes what it reads")
        if conversion.source.tensor != conversion.target.tensor:
            raise UsageError(
                f"conversion {conversion.name!r} turns {_label(conversion.source)} into another"
                f" tensor, {_label(conversion.target)}"
            )
    made = {*problem.given, *(state for option in problem.options for state in option.makes)}
    made.update(conversion.target for conversion in problem.conversions)
    made.update(transfer.target for transfer in problem.transfers)
    for who, state in _reads(problem):
        if state not in made:
            raise UsageError(
                f"{who} {_label(state)}, which nobody makes",
                fix="offer an option or a conversion that makes it",
            )
    for state in problem.wanted:
        if state not in made:
            raise UsageError(f"{_label(state)} is wanted, but nobody makes it")


def _reads(problem: Problem) -> Iterator[tuple[str, State]]:
    for conversion in problem.conversions:
        yield f"conversion {conversion.name!r} reads", conversion.source
    for transfer in problem.transfers:
        yield f"transfer {transfer.name!r} moves", transfer.source
    for option in problem.options:
        for state in option.needs:
            yield f"option {option.name!r} needs", state
