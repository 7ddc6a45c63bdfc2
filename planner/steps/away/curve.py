"""The trade-off curve of one model on devices that are not here."""

from __future__ import annotations

from collections.abc import Sequence

from planner.errors import InfoptError, NoPlanInTimeError, UsageError
from planner.graph.skeleton import load_skeleton
from planner.report.pareto_files import READERS
from planner.spec.constraints import Constraints
from planner.spec.pareto import ParetoCurve, ParetoPoint
from planner.steps.away.answer import Answer, layout, per_query
from planner.steps.away.dispatch import may_fuse
from planner.steps.away.frontier import AXES, Frontier, words
from planner.steps.away.infeasible import refusal
from planner.steps.away.offers import pose_away
from planner.steps.away.search import Found
from planner.steps.away.solving import Solving
from planner.steps.away.target import Away, find_target
from planner.steps.frontier import check_axes
from planner.steps.workspace import Workspace

_SAME = 1e-9
"""Relative: values closer than this are equal."""


def curve_elsewhere(
    constraints: Constraints, work: Workspace, axes: Sequence[str] | None, points: int
) -> ParetoCurve:
    """The efficient plans for a profile, every limit of the request kept.

    Args:
        axes: two or three of `frontier.AXES`; None: latency against error, and devices where
            several are asked for.
        points: at most.

    Raises:
        UsageError: something is wrong with the request or the model; axes that say nothing here.
        ConflictError: proved, no plan keeps the limits.
        NoPlanInTimeError: the time limit ended before there was one.
    """
    check_axes(axes, AXES)
    away = find_target(constraints)
    chosen = tuple(axes) if axes is not None else _default(away)
    _refuse(chosen, away)
    work.reporter.stage("read")
    workload = {entry.name: entry.shapes for entry in constraints.workload}
    skeleton = load_skeleton(constraints.model, workload)
    work.reporter.stage("offer")
    posed = pose_away(constraints, skeleton, away)
    work.reporter.stage(f"frontier: {' against '.join(chosen)}")
    frontier = Frontier(Solving(constraints, posed, away, work.reporter), chosen, points)
    found = frontier.run()
    if not found:
        raise _without_points(frontier)
    written = [_point(frontier.solving, one) for one in found]
    kept = sorted(_efficient(written, chosen), key=lambda point: point.latency_us.expected)
    return ParetoCurve(
        model=str(constraints.model),
        points=tuple(
            point.model_copy(update={"name": f"P{number}"})
            for number, point in enumerate(kept[:points], 1)
        ),
        axes=chosen,
        warnings=_warnings(frontier, found),
    )


def _default(away: Away) -> tuple[str, ...]:
    return ("latency", "devices", "error") if away.machine.gpus > 1 else ("latency", "error")


def _refuse(axes: Sequence[str], away: Away) -> None:
    """Axes of which one says what another one does, or nothing.

    Raises: UsageError.
    """
    if {"cost", "devices"} <= set(axes):
        raise UsageError(
            "cost and devices rise together: every device costs the same",
            where="--axes",
            fix="leave one of them out",
        )
    priced = [axis for axis in axes if axis in ("cost", "query")]
    if priced and not away.is_priced:
        raise UsageError(
            f"no source prices a {away.device.name}",
            where="--axes",
            fix="say what one costs (--price 2USD/h), or trade devices",
        )


def _without_points(frontier: Frontier) -> InfoptError:
    """Why nothing can be traded: no plan keeps the limits, or none was found in time."""
    solving, tried = frontier.solving, list(frontier.tried)
    if solving.posed.problem.limits.latency_us is not None:
        tried.append(frontier.slowest())
    error = refusal(solving.constraints, solving.posed, solving.away, tried)
    return error or NoPlanInTimeError(
        "no plan was found in time, and none was ruled out",
        where="solver.time_limit",
        fix="a longer --time-limit, more --gpus, or a looser --slo",
    )


class Point(Answer):
    """What is said of one plan of the curve."""

    def write(self) -> ParetoPoint:
        """The point, without a name."""
        solution = self._solution
        totals = solution.totals
        assert totals is not None
        query, price = self._query(solution), self._price(solution)
        return ParetoPoint(
            name="",
            latency_us=query,
            memory_size_bytes=self._memory_bytes(),
            error=self._error(totals),
            formats=self._count_formats(
                [variant for stage in solution.stages for variant in self._variants(stage)]
            ),
            status=solution.status.value,
            gap=solution.gap,
            price_per_hour=price or 0.0,
            devices=totals.devices,
            price_per_query=per_query(price, query.expected),
            layout=layout(solution, self._best),
        )


def _point(solving: Solving, found: Found) -> ParetoPoint:
    return Point(solving.constraints, solving.away, solving.posed, found, ()).write()


def _efficient(points: Sequence[ParetoPoint], axes: Sequence[str]) -> list[ParetoPoint]:
    """Those that no other one beats; of equal ones the first, which was found under less."""
    kept: list[ParetoPoint] = []
    for number, one in enumerate(points):
        mine = _values(one, axes)
        before = any(_reaches(_values(each, axes), mine) for each in points[:number])
        beaten = any(
            _reaches(other, mine) and not _reaches(mine, other)
            for other in (_values(each, axes) for each in points[number + 1 :])
        )
        if not before and not beaten:
            kept.append(one)
    return kept


def _values(point: ParetoPoint, axes: Sequence[str]) -> tuple[float, ...]:
    return tuple(READERS[axis][1](point) for axis in axes)


def _reaches(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b * (1 + _SAME) for a, b in zip(one, other, strict=True))


def _warnings(frontier: Frontier, found: Sequence[Found]) -> tuple[str, ...]:
    solving, counts = frontier.solving, frontier.counts
    texts = [
        f"times are modelled from the profile of {solving.away.device.name}, not measured",
        f"uncalibrated: the error is {solving.posed.error_basis}",
    ]
    if may_fuse(solving.constraints, solving.away):
        texts.append("library kernels only: infopt plan may generate quicker ones for one GPU")
    if len(counts) > 1 and len(counts) <= counts[-1] - counts[0]:
        texts.append(f"numbers of GPUs that were tried: {', '.join(map(str, counts))}")
    if frontier.left_out:
        texts.append(f"the time limit ended before {words(frontier.left_out[0])} were searched")
    if any(one.solution.hit_time_limit for one in found):
        texts.append("the time limit ended some searches: a longer one may find better plans")
    if any(one.solution.is_uncertain for one in found):
        texts.append("on some points the latency promise does not hold at the upper end")
    return tuple(texts)
