"""The fewest devices that keep the limits, and the alternatives that people ask about.

The one Problem is solved at numbers of devices in ascending order: what is proved infeasible below
proves that the first feasible number is the least. Around it: one device, the fastest with all
devices, all devices without compression, and the cheapest without the latency promise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic

from planner.ir.problem import Option, Problem
from planner.ir.solution import Solution, Status
from planner.place.variant import HOST
from planner.progress import Reporter
from planner.spec.constraints import Constraints
from planner.steps.away.inherited import inherited
from planner.steps.away.offers import Posed
from planner.steps.away.solving import Solving
from planner.steps.away.target import Away

STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
"""Numbers of devices tried first."""
_MAIN, _OTHER = 0.2, 0.12
"""Shares of the time limit for one solve of the request, and of an alternative."""
_MAIN_GAP, _OTHER_GAP = 0.01, 0.03
"""Gaps at which a solve may stop where less is asked: alternatives are there to be compared."""
_LEAST = 0.05
"""Share of the time limit that a solve gets where it has ended."""


@dataclass(frozen=True, slots=True)
class Found:
    """One solve."""

    name: str
    devices: int
    """At most."""
    problem: Problem
    solution: Solution
    has_slo: bool = True

    @property
    def is_plan(self) -> bool:
        """Whether there is one."""
        return self.solution.totals is not None


@dataclass
class Search:
    """All solves of one request."""

    constraints: Constraints
    posed: Posed
    away: Away
    reporter: Reporter
    tried: list[Found] = field(default_factory=list)

    def run(self) -> tuple[Found | None, list[Found]]:
        """The answer, None where there is none; and the alternatives."""
        solver = self.constraints.solver
        self._until = monotonic() + solver.time_limit_s
        self._solving = Solving(self.constraints, self.posed, self.away, self.reporter)
        self.reporter.stage("choose")
        best = self._fewest() if self.constraints.objective == "cost" else self._at_most()
        others = [self._improved(one) for one in self._alternatives(best)]
        if best is not None:
            return self._improved(best), others
        best = next((one for one in others if one.is_plan and one.has_slo), None)
        return best, [one for one in others if one is not best]

    def _improved(self, found: Found) -> Found:
        """With the plan of a search that came later, allows less and found a better one."""
        plans = [
            plan
            for plan in self._plans_within(found.devices, has_slo=found.has_slo)
            if not found.is_plan or plan.objective < found.solution.objective
        ]
        if not plans:
            return found
        return replace(found, solution=inherited(found.problem, found.solution, plans))

    def _plans_within(self, devices: int, *, has_slo: bool) -> list[Solution]:
        """Plans known so far of as many devices or fewer, and of as much promised or more."""
        known = [one for one in self.tried if one.is_plan and one.devices <= devices]
        return [one.solution for one in known if one.has_slo or not has_slo]

    def _at_most(self) -> Found | None:
        found = self._solve("all devices", self.away.machine.gpus, _MAIN * 2)
        return found if found.is_plan else None

    def _fewest(self) -> Found | None:
        """Ascending numbers; then those between the last infeasible and the first feasible."""
        most = self.away.machine.gpus
        least = self.constraints.target.gpus.minimum if self.constraints.target.gpus else 1
        steps = [n for n in STEPS if least < n < most]
        uncertain: Found | None = None
        below = least - 1
        for count in dict.fromkeys((least, *steps, most)):
            found = self._solve(_devices(count), count, _MAIN)
            if not found.is_plan:
                below = count
                continue
            if found.solution.is_uncertain and count < most:
                uncertain = uncertain or found
                below = count
                continue
            if found.solution.is_uncertain and uncertain is not None:
                return uncertain
            return self._between(below, found)
        return uncertain

    def _between(self, below: int, found: Found) -> Found:
        """The least number between one that is not enough and one that is."""
        best = found
        while best.devices - below > 1:
            middle = (below + best.devices) // 2
            tried = self._solve(_devices(middle), middle, _OTHER)
            if tried.is_plan and not tried.solution.is_uncertain:
                best = tried
            else:
                below = middle
        return best

    def _alternatives(self, best: Found | None) -> list[Found]:
        """What people ask: one device, all devices, without compression, without the promise."""
        most = self.away.machine.gpus
        found = [one for one in self.tried if one is not best]
        known = {(one.devices, one.has_slo) for one in self.tried}
        plain = self.posed.offer.base
        if (1, True) not in known:
            found.append(self._solve(_devices(1), 1, _OTHER))
        narrower = []
        if most > 1:  # first, for what it finds is a plan of the wider problem as well
            name = f"up to {most} GPUs, all {plain}, nothing streamed"
            keep = lambda each: each.format == plain and not _streams(each)  # noqa: E731
            narrower = [self._solve(name, most, _OTHER, keep)]
        if (most, True) not in known:
            found.append(self._solve(_devices(most), most, _OTHER))
        found += narrower
        has_slo = self.posed.problem.limits.latency_us is not None
        one = next((f for f in (best, *found) if f and f.devices == 1 and f.has_slo), None)
        if has_slo and (one is None or not one.is_plan):
            found.append(self._solve("1 GPU, however slow", 1, _OTHER, has_slo=False))
        if has_slo and best is None and most > 1:
            name = f"{_devices(most)}, however slow"
            found.append(self._solve(name, most, _OTHER, has_slo=False))
        return found

    def _solve(
        self,
        name: str,
        devices: int,
        share: float,
        keep: Callable[[Option], bool] | None = None,
        *,
        has_slo: bool = True,
    ) -> Found:
        limits = replace(self.posed.problem.limits, devices=devices)
        if not has_slo:
            limits = replace(limits, latency_us=None)
        problem = self._solving.at_most(devices, limits, keep)
        if keep is not None:
            problem = replace(problem, stores=())
        self.reporter.progress(len(self.tried), len(self.tried) + 2, name)
        plans = [] if keep else self._plans_within(devices, has_slo=has_slo)
        limit_s = self.constraints.solver.time_limit_s
        left_s = max(self._until - monotonic(), _LEAST * limit_s)
        gap = _MAIN_GAP if share >= _MAIN else _OTHER_GAP
        seconds = min(share * limit_s, left_s)
        solution = self._solving.solve(problem, seconds, gap, plans)
        found = Found(name, devices, problem, solution, has_slo)
        self.tried.append(found)
        return found


def _streams(option: Option) -> bool:
    return option.name.endswith(f"@{HOST}")


def _devices(count: int) -> str:
    return "1 GPU" if count == 1 else f"up to {count} GPUs"


def is_proved_below(tried: Sequence[Found], devices: int) -> bool:
    """Whether every smaller number of devices was proved to be too few."""
    below = [one for one in tried if one.has_slo and one.devices == devices - 1]
    return devices == 1 or any(one.solution.status is Status.INFEASIBLE for one in below)
