"""Which way a model takes to a device that is not here: generated kernels, or groups on devices."""

from __future__ import annotations

from planner.spec.conflict import ConflictReport
from planner.spec.constraints import Constraints
from planner.spec.plan import Plan
from planner.steps.away.plan import plan_away
from planner.steps.away.target import Away, find_target
from planner.steps.conflict import ConflictError
from planner.steps.workspace import Workspace

MOST_FUSED_BYTES = 2 * 2**30
"""Model files up to this size are read with their weights, and kernels are generated for them."""


def plan_elsewhere(constraints: Constraints, work: Workspace) -> Plan:
    """A plan for a profile: fused kernels where one GPU is asked for and the model is small.

    Raises:
        UsageError: something is wrong with the request or the model.
        ConflictError: proved that no plan meets the limits.
        NoPlanInTimeError: the time limit ended first.
    """
    away = find_target(constraints)
    if not may_fuse(constraints, away):
        return plan_away(constraints, away, work)
    from planner.steps.fused.parts import NotFused
    from planner.steps.fused.plan import plan_fused

    try:
        return plan_fused(constraints, away.device, work)
    except NotFused as reason:
        work.reporter.note(f"no generated kernels: {reason}; planning library kernels")
        return plan_away(constraints, away, work)
    except ConflictError as conflict:
        if "host" not in away.machine.offload or not conflict.report.lacks_memory:
            raise
        work.reporter.note(
            "generated kernels keep all weights on the device, which is more than target.memory; "
            "planning library kernels, whose weights may stream"
        )
        return _streamed(constraints, away, work, conflict)


def may_fuse(constraints: Constraints, away: Away) -> bool:
    """Whether kernels are generated where the model allows it."""
    has_one = away.machine.gpus == 1 and not constraints.no_weights
    return has_one and _bytes(constraints) <= MOST_FUSED_BYTES


def _streamed(
    constraints: Constraints, away: Away, work: Workspace, conflict: ConflictError
) -> Plan:
    """The plan whose weights may rest in host memory; where there is none either, what generated
    kernels would need, which is less: library kernels bring a runtime along."""
    try:
        return plan_away(constraints, away, work)
    except ConflictError:
        raise conflict from None


def conflict_elsewhere(constraints: Constraints, work: Workspace) -> ConflictReport:
    """Which limits of a request for a profile conflict, or that none do.

    Raises: as `plan_elsewhere`, but for infeasible requests.
    """
    try:
        made = plan_elsewhere(constraints, work)
    except ConflictError as error:
        return error.report
    found = made.prediction.latency_slo_us.values()
    return ConflictReport(
        model=str(constraints.model),
        feasible=True,
        limits=(),
        fastest_us=max((value.high for value in found), default=None),
        latency_percentile=constraints.promise.latency_percentile,
        reason="every limit can be kept",
    )


def _bytes(constraints: Constraints) -> int:
    """Of the model and what lies beside it; 0 where there is none, which reading will tell."""
    path = constraints.model
    found = [path, path.with_name(path.name + ".data")]
    return sum(each.stat().st_size for each in found if each.is_file())
