"""The nearest feasible value of one limit with all others kept, and what is proved of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

from planner.ir.problem import Latency, Objective, Problem, Setting
from planner.ir.solution import Solution, Status
from planner.solve.large import is_refuted
from planner.solve.limits import used, with_limit
from planner.solve.rivals import GAP
from planner.solve.solve import solve

BISECTIONS = 10
"""Steps towards the least latency of several shapes at once: 0.1 % of the first interval."""
LARGE_GAP = 1e-2
"""Relative gap of what is minimised of a large pipeline."""
FIRST_SHARE = 0.75
"""Share of the time of one limit of a large pipeline until there must be some plan."""
RAYS_SHARE = 0.15
"""of it, for what rays prove of the value."""
AIMS = {
    "latency_us": Objective.LATENCY,
    "memory_size_bytes": Objective.MEMORY,
    "error": Objective.ERROR,
    "throughput_per_s": Objective.PERIOD,
    "devices": Objective.DEVICES,
    "price_per_hour": Objective.COST,
    "query_cost": Objective.QUERY_COST,
    "energy_j": Objective.ENERGY,
}
"""What to minimise for the nearest feasible value of a limit."""


@dataclass(frozen=True, slots=True)
class Near:
    """What is known of one limit, all others kept."""

    value: float | None = None
    """Feasible: that of a plan."""
    bound: float | None = None
    """Nothing short of this is feasible, even where latencies keep to their lower ends: proved.
    None: nothing is."""
    plan: Solution | None = None
    """Keeps all other limits."""
    is_impossible: bool = False
    """Without the limit nothing is feasible either: proved."""


NOTHING = Near()


@dataclass(frozen=True, slots=True)
class Ways:
    """Ways out, under one clock."""

    until: float
    time_limit_s: float
    """Of one re-solve."""
    seed: int
    workers: int
    is_large: bool

    def nearest(self, problem: Problem, name: str, parts: int) -> Near:
        """The nearest feasible value of a limit, within a part of the time that is left."""
        share_s = max(0.0, (self.until - monotonic()) / parts)
        if self.is_large:
            return self._large(problem, name, share_s) if share_s > 0 else NOTHING
        limit_s = min(self.time_limit_s, share_s)
        if name == "latency_us":
            return self._latency(problem, limit_s)
        free = replace(with_limit(problem, name, None), objectives=(AIMS[name],))
        return _near(free, self._solve(free, limit_s, GAP), name)

    def any_plan(self, problem: Problem, parts: int) -> Solution | None:
        """A plan that keeps a problem's limits, whatever it takes, within a part of the time."""
        share_s = max(0.0, (self.until - monotonic()) / parts)
        if share_s <= 0:
            return None
        posed = replace(problem, objectives=(Objective.LATENCY,))
        found = self._solve(posed, min(share_s, self.time_limit_s), 1.0)
        return found if found.totals is not None else None

    def _solve(
        self, problem: Problem, limit_s: float, gap: float, known: tuple[Solution, ...] = ()
    ) -> Solution:
        return solve(
            problem,
            time_limit_s=limit_s,
            gap=gap,
            seed=self.seed,
            workers=self.workers,
            known=known,
        )

    def _large(self, problem: Problem, name: str, share_s: float) -> Near:
        """Any plan without the limit first, then better ones while there is time."""
        end = monotonic() + share_s
        free = replace(with_limit(problem, name, None), objectives=(Objective.LATENCY,))
        first = self._solve(free, FIRST_SHARE * share_s, 1.0)
        if first.totals is None:
            return Near(is_impossible=first.status is Status.INFEASIBLE)
        if name == "devices":
            return self._fewest(problem, first, end)
        aimed = replace(free, objectives=(AIMS[name],))
        by_rays = min(end, monotonic() + RAYS_SHARE * share_s)
        known = self._bounded(problem, name, _near(free, first, name), by_rays)
        best = self._solve(aimed, max(0.0, end - monotonic()), LARGE_GAP, (first,))
        found = _near(aimed, best if best.totals is not None else first, name)
        bounds = [each.bound for each in (known, found) if each.bound is not None]
        return replace(found, bound=farthest(problem, name, found.value, bounds))

    def _bounded(self, problem: Problem, name: str, found: Near, end: float) -> Near:
        """A value with what rays prove: no plan at values from what was asked for up to a bound."""
        asked = getattr(problem.limits, name)
        if found.value is None or asked is None:
            return found
        plain = replace(problem, objectives=(Objective.LATENCY,))
        low, high = float(asked), found.value
        for _ in range(BISECTIONS):
            if monotonic() >= end:
                break
            middle = (low + high) / 2
            if is_refuted(with_limit(plain, name, middle), end):
                low = middle
            else:
                high = middle
        return found if low == asked else replace(found, bound=low)

    def _fewest(self, problem: Problem, known: Solution, end: float) -> Near:
        """The fewest devices with which a plan was found. Rays refute counts one by one; between
        those and the plan's own, plans are looked for by bisection on a logarithmic scale."""
        assert known.totals is not None
        plain = replace(problem, objectives=(Objective.LATENCY,))
        fewest, refuted = known.totals.devices, problem.limits.devices or 0
        while refuted + 1 < fewest and monotonic() < end:
            if not is_refuted(with_limit(plain, "devices", refuted + 1), end):
                break
            refuted += 1
        low = refuted
        while low + 1 < fewest and monotonic() < end:
            count = max(low + 1, math.isqrt((low + 1) * (fewest - 1)))
            tried = with_limit(plain, "devices", count)
            answer = self._solve(tried, end - monotonic(), 1.0)
            if answer.totals is None:
                low = count
            else:
                fewest, known = answer.totals.devices, answer
        return Near(float(fewest), float(refuted + 1), known)

    def _latency(self, problem: Problem, limit_s: float) -> Near:
        """Least upper-end latency at the SLO's percentile over all shapes, the other limits kept.

        With one shape and no throughput limit it is linear and solved exactly; otherwise by
        bisection over the limit, each step ending at a plan's own value. It bounds what certain
        plans take: proved of all plans only where no latency is an interval.
        """
        free = replace(with_limit(problem, "latency_us", None), objectives=(Objective.LATENCY,))
        if len(problem.shape_weights) == 1 and problem.limits.throughput_per_s is None:
            tails = _tails(free)
            best = self._solve(tails, limit_s, GAP)
            found = _near(tails, best, "latency_us")
            is_proved = bool(best.bound) and not _is_wide(free)
            bound = best.bound[0] if is_proved else None
            return replace(found, bound=bound)
        best = self._solve(free, limit_s, 1e-3)
        if best.totals is None:
            return Near(is_impossible=best.status is Status.INFEASIBLE)
        low, high = 0.0, used(free, best, "latency_us")
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            tried = with_limit(free, "latency_us", middle)
            answer = self._solve(tried, limit_s, 1.0)
            if answer.totals is None or answer.is_uncertain:
                low = middle
            else:
                high, best = used(tried, answer, "latency_us"), answer
        return Near(high, None, best)


def farthest(
    problem: Problem, name: str, value: float | None, bounds: Sequence[float]
) -> float | None:
    """The bound nearest to a feasible value; None where none says more than that what was asked for
    is not feasible."""
    asked = getattr(problem.limits, name)
    if value is None or asked is None:
        return max(bounds, default=None)
    sign = 1.0 if value >= asked else -1.0
    beyond = [bound for bound in bounds if sign * (bound - asked) > 0]
    return max(beyond, key=lambda bound: sign * bound, default=None)


def _near(problem: Problem, found: Solution, name: str) -> Near:
    """What a solution that was minimised for a limit says of it.

    Where a latency is limited, a search holds the upper ends of its intervals to it first, so its
    bound holds for certain plans only: others are feasible too, and may need less.
    """
    if found.totals is None:
        return Near(is_impossible=found.status is Status.INFEASIBLE)
    value = used(problem, found, name)
    is_aimed = problem.objectives[0] is AIMS[name] and name != "latency_us"
    is_for_certain_plans = problem.limits.latency_us is not None and _is_wide(problem)
    if not found.bound or not is_aimed or is_for_certain_plans:
        return Near(value, None, found)
    bound = found.bound[0]
    return Near(value, 1e6 / max(bound, 1e-9) if name == "throughput_per_s" else bound, found)


def _is_wide(problem: Problem) -> bool:
    """Whether some latency is an interval: then a plan may be feasible without being certain."""
    tables = [option.latency for option in problem.options]
    tables += [conversion.latency for conversion in problem.conversions]
    tables.append(tuple(setting.overhead for setting in problem.settings))
    cells = (cell for table in tables for row in table for cell in row if cell is not None)
    shapes = range(len(problem.shape_weights))
    return any(cell.low_us < cell.high_us for cell in cells) or any(
        setting.tail(shape, is_low=True) < setting.tail(shape)
        for setting in problem.settings
        for shape in shapes
    )


def _tails(problem: Problem) -> Problem:
    """The problem, of one shape, with every latency replaced by its upper end at the SLO's
    percentile."""

    def tailed(cell: Latency | None, setting: Setting) -> Latency | None:
        if cell is None:
            return None
        high = cell.high_us * setting.tail(0)
        return Latency(high, high, high)

    def table(
        rows: tuple[tuple[Latency | None, ...], ...],
    ) -> tuple[tuple[Latency | None, ...], ...]:
        pairs = zip(rows, problem.settings, strict=True)
        return tuple(tuple(tailed(cell, setting) for cell in row) for row, setting in pairs)

    settings = tuple(
        replace(
            setting,
            overhead=tuple(cell for o in setting.overhead if (cell := tailed(o, setting))),
            tail_factors=(),
            tail_low_factors=(),
        )
        for setting in problem.settings
    )
    return replace(
        problem,
        options=tuple(replace(o, latency=table(o.latency)) for o in problem.options),
        conversions=tuple(replace(c, latency=table(c.latency)) for c in problem.conversions),
        settings=settings,
        shape_weights=(1.0,),
    )
