"""What to say of a problem without a solution, in the words of the request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from planner.errors import InfeasibleError
from planner.ir.problem import Limits, Problem
from planner.spec.conflict import MEMORY_KEY, ConflictingLimit, ConflictReport
from planner.spec.constraints import Constraints
from planner.steps.choose import only_shape
from planner.units import format_duration

if TYPE_CHECKING:
    from planner.solve.explain import Conflict


_LIMITS = tuple(item.name for item in fields(Limits))


class ConflictError(InfeasibleError):
    """Proved: no plan meets the limits; `report` says which of them conflict."""

    def __init__(self, report: ConflictReport) -> None:
        self.report = report
        what = f"{report.reason} (proved)"
        if report.fastest_us is not None:
            name = f"p{report.latency_percentile:g}"
            fastest = format_duration(report.fastest_us)
            what += f"; the fastest feasible plan takes {fastest} ({name})"
        places = dict.fromkeys(limit.origin or "constraints" for limit in report.limits)
        super().__init__(what, where=", ".join(places) or report.model, fix=_ways(report.limits))

    def written_at(self, origins: Mapping[str, str]) -> ConflictError:
        """The same, naming the lines and flags that the limits came from."""
        return ConflictError(self.report.written_at(origins))


def conflict_error(
    constraints: Constraints, problem: Problem, *, is_tightened: bool = False
) -> ConflictError:
    """The conflict of an infeasible problem.

    Args:
        is_tightened: the error budget is that of a metric's drop that built plans did not keep.
    """
    found = _conflicts(problem)
    limits = tuple(
        _limit(constraints, problem, name, each.nearest.get(name), is_tightened).model_copy(
            update={
                "conflict": number,
                "shapes": _shapes(constraints, problem, name, each.limits),
                "proved": _proved(constraints, problem, name, each.bounds.get(name)),
                "is_open": name in each.open,
            }
        )
        for number, each in enumerate(found, 1)
        for name in each.limits
    )
    return ConflictError(
        ConflictReport(
            model=str(constraints.model),
            feasible=False,
            limits=limits,
            fastest_us=_common_fastest(found),
            latency_percentile=constraints.promise.latency_percentile,
            reason=_reason(limits, found),
        )
    )


def _conflicts(problem: Problem) -> list[Conflict]:
    """Every conflict: a set of limits, and what the others leave to each of them.

    Sets are disjoint: a conflict that shares a limit with one found before shows when that limit
    has given way.
    """
    from planner.solve.explain import conflict

    rest, sets = problem, [conflict(problem)]
    if not sets[0].limits:
        return sets
    while sets[-1].limits:
        rest = _without(rest, sets[-1].limits)
        sets.append(conflict(rest))
    sets.pop()
    if len(sets) == 1:
        return sets
    others = [[name for each in sets if each is not one for name in each.limits] for one in sets]
    return [conflict(_without(problem, names)) for names in others]


def _without(problem: Problem, names: Iterable[str]) -> Problem:
    return replace(problem, limits=replace(problem.limits, **dict.fromkeys(names, None)))


def _common_fastest(found: Sequence[Conflict]) -> float | None:
    """Only one conflict leaves a latency that keeps every other limit."""
    return found[0].fastest_us if len(found) == 1 else None


def _reason(limits: Sequence[ConflictingLimit], found: Sequence[Conflict]) -> str:
    if not limits:
        return found[0].reason
    sets = [[limit.text for limit in limits if limit.conflict == n + 1] for n in range(len(found))]
    texts = [" and ".join(one) + " together" * (len(one) > 1) for one in sets]
    names = [name for each in found for name in each.limits]
    is_open = {name for each in found for name in each.open}
    keys = [limit.key for limit, name in zip(limits, names, strict=True) if name in is_open]
    late = f" (no feasible value found in time of {', '.join(keys)})" if keys else ""
    part = "" if all(each.is_minimal for each in found) else " (perhaps fewer of them suffice)"
    return f"no plan keeps {', nor '.join(texts)}{part}{late}"


def feasible(constraints: Constraints, problem: Problem) -> ConflictReport:
    """What there is to say of a problem that has a solution."""
    from planner.solve.explain import conflict

    return ConflictReport(
        model=str(constraints.model),
        feasible=True,
        limits=(),
        fastest_us=conflict(problem).fastest_us,
        latency_percentile=constraints.promise.latency_percentile,
        reason="every limit can be kept",
    )


def _ways(limits: Sequence[ConflictingLimit]) -> str | None:
    """What would make it feasible: one limit of each conflict gives way."""
    sets: dict[int, list[str]] = {}
    for limit in limits:
        if limit.nearest_text is not None:
            sets.setdefault(limit.conflict, []).append(limit.nearest_text)
    return " and ".join(", or ".join(texts) for texts in sets.values()) or None


def _limit(
    constraints: Constraints,
    problem: Problem,
    name: str,
    nearest: float | None,
    is_tightened: bool,
) -> ConflictingLimit:
    """One of the solver's limits as the request's own."""
    promise = constraints.promise
    if name == "error":
        return _error_limit(constraints, problem, nearest, is_tightened)
    percentile = f"p{promise.latency_percentile:g}"
    key, value, unit = {
        "latency_us": (f"slo.latency.{percentile}", promise.latency_us, "us"),
        "memory_size_bytes": (MEMORY_KEY, promise.memory_size_bytes, "bytes"),
        "throughput_per_s": ("slo.throughput", promise.throughput_per_s, "1/s"),
    }[name]
    return ConflictingLimit.model_validate(
        {"key": key, "value": value, "nearest": nearest, "unit": unit}
    )


def _proved(
    constraints: Constraints, problem: Problem, name: str, bound: float | None
) -> float | None:
    """What is proved of a limit's nearest value, as the request counts it."""
    allowed, summed = constraints.accuracy.max_error, problem.limits.error
    if bound is None or name != "error":
        return bound
    return bound * allowed / summed if allowed and summed else None


def _shapes(
    constraints: Constraints, problem: Problem, name: str, together: Sequence[str]
) -> tuple[str, ...]:
    """The shapes that cannot keep a latency limit beside the limits that it conflicts with."""
    from planner.solve.explain import conflict

    names = [entry.name for entry in constraints.workload]
    if name != "latency_us" or len(names) == 1:
        return ()
    rest = _without(problem, [other for other in _LIMITS if other not in together])
    alone = [conflict(only_shape(rest, number)) for number in range(len(names))]
    return tuple(shape for shape, found in zip(names, alone, strict=True) if found.limits)


def _error_limit(
    constraints: Constraints, problem: Problem, nearest: float | None, is_tightened: bool
) -> ConflictingLimit:
    """The solver's budget is on a sum of errors; the user's on what is measured of the whole."""
    budget = constraints.accuracy
    if budget.max_drop is not None and (is_tightened or budget.max_error is None):
        return ConflictingLimit(
            key="accuracy.max_drop", value=budget.max_drop.amount, nearest=None, unit="drop"
        )
    allowed, summed = budget.max_error or 0.0, problem.limits.error
    if nearest is not None and summed:
        nearest *= allowed / summed
    return ConflictingLimit(key="accuracy.max_error", value=allowed, nearest=nearest, unit="NMSE")
