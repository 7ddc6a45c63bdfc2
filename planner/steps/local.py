"""From a measured case to a plan for this machine: one that keeps all weights in memory, or, where
the limit on memory is what cannot be kept, one whose weights stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from planner.errors import InfeasibleError
from planner.spec.conflict import MEMORY_KEY, ConflictReport
from planner.spec.plan import Plan
from planner.steps.case import Case
from planner.steps.conflict import ConflictError, feasible
from planner.steps.contest import contest
from planner.steps.entrants import entrants, probes
from planner.steps.finish import finish
from planner.steps.process import runtime_bytes
from planner.steps.settle import settle
from planner.units import format_size, whole_mib


def plan_here(case: Case) -> Plan:
    """The plan, without its digest.

    Raises:
        InfeasibleError: proved that no plan meets the limits; a ConflictError says which.
        NoPlanInTimeError: the time limit ended first.
        VerificationError: nothing keeps the promised latency when it is measured.
    """
    try:
        made = _resident(case)
    except ConflictError as error:
        if not _may_stream(case, error.report):
            raise
        return _streamed(case)
    return _within(case, made)


def conflict_here(case: Case) -> ConflictReport:
    """Which limits conflict, or that none do.

    Raises: as `plan_here`, but for infeasible requests.
    """
    try:
        settled = settle(case, probes(case))
    except ConflictError as error:
        return _unless_streamed(case, error.report)
    return feasible(case.constraints, settled.problem)


def _resident(case: Case) -> Plan:
    settled = settle(case, probes(case))
    return finish(case, settled, contest(case, entrants(case, settled)))


def _may_stream(case: Case, report: ConflictReport) -> bool:
    """Whether memory is what lacks, weights may rest in their files, and there is room for any."""
    limit = case.constraints.promise.memory_size_bytes
    if limit is None or not report.lacks_memory or case.constraints.target.offload == ():
        return False
    return limit > runtime_bytes(case.work)


def _within(case: Case, plan: Plan) -> Plan:
    """The plan where a process that runs it keeps the limit on memory, else one that does.

    Raises:
        InfeasibleError: it does not, and weights may rest nowhere else.
    """
    from planner.steps.streaming.plan import stream
    from planner.steps.streaming.whole import whole_peak_bytes

    constraints, work = case.constraints, case.work
    limit = constraints.promise.memory_size_bytes
    if limit is None or plan.settings.provider != "cpu":
        return plan
    peak = whole_peak_bytes(plan, Path(constraints.model), work)
    if peak is None or peak <= limit:
        return plan
    taken = f"{format_size(peak)} were taken of {format_size(limit)}, most of it while loading"
    if constraints.target.offload == ():
        raise InfeasibleError(taken, where=MEMORY_KEY, fix=f"--memory {whole_mib(peak)}")
    work.reporter.note(f"{taken}: weights are mapped, and stream where they must")
    return stream(plan, constraints.promise, Path(constraints.model), work, case)


def _streamed(case: Case) -> Plan:
    """The best plan without the limit, then as many weights in memory as the limit allows."""
    from planner.steps.streaming.plan import stream

    case.work.reporter.note("weights do not all fit into target.memory: some must stream")
    constraints = case.constraints
    target = constraints.target.model_copy(update={"memory_size_bytes": None})
    problem = case.posed.problem
    limits = replace(problem.limits, memory_size_bytes=None)
    roomy = replace(
        case,
        constraints=constraints.model_copy(update={"target": target}),
        posed=replace(case.posed, problem=replace(problem, limits=limits)),
    )
    made = _resident(roomy)
    return stream(made, constraints.promise, Path(constraints.model), case.work, case)


def _unless_streamed(case: Case, report: ConflictReport) -> ConflictReport:
    if not _may_stream(case, report):
        return report
    try:
        made = _streamed(case)
    except InfeasibleError:
        return report
    found = made.prediction.latency_slo_us.values()
    return ConflictReport(
        model=report.model,
        feasible=True,
        limits=(),
        fastest_us=max((value.expected for value in found), default=None),
        latency_percentile=report.latency_percentile,
        reason="every limit can be kept, with weights that stream",
    )
