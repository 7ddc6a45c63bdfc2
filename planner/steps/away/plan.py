"""From a request to a plan for devices that are not here."""

from __future__ import annotations

from planner.errors import NoPlanInTimeError
from planner.graph.skeleton import load_skeleton
from planner.spec.constraints import Constraints
from planner.spec.plan import Plan
from planner.steps.away.document import Writer
from planner.steps.away.infeasible import refusal
from planner.steps.away.offers import pose_away
from planner.steps.away.search import Search
from planner.steps.away.target import Away
from planner.steps.workspace import Workspace


def plan_away(constraints: Constraints, away: Away, work: Workspace) -> Plan:
    """Decides layout, formats and residency of a model on a target known by its profile.

    Raises:
        UsageError: something is wrong with the request or the model.
        ConflictError: proved that no plan meets the limits.
        NoPlanInTimeError: the time limit ended first.
    """
    work.reporter.stage("read")
    workload = {entry.name: entry.shapes for entry in constraints.workload}
    skeleton = load_skeleton(constraints.model, workload)
    work.reporter.stage("offer")
    posed = pose_away(constraints, skeleton, away)
    search = Search(constraints, posed, away, work.reporter)
    best, others = search.run()
    if best is None:
        error = refusal(constraints, posed, away, others)
        raise (
            error
            if error is not None
            else NoPlanInTimeError(
                "no plan was found in time, and none was ruled out",
                where="solver.time_limit",
                fix="a longer --time-limit, more --gpus, or a looser --slo",
            )
        )
    return Writer(constraints, away, posed, best, others).plan()
