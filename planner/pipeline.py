"""The story: from a model and a promise to an engine that keeps it.

    model.onnx ──load──> Graph ──propose──> variants ──price──> options ─┐
    constraints.yaml ────────────────────────────────────────> limits ───┼─> Problem ──solve──> plan
    measurements ────────────────────────────────────────────────────────┘
    plan ──guard──> plan.json ──build──> engine/ ──verify──> verdict ──serve──> answers

Each function below is one command of the tool; the steps stand in `planner/steps`, a file each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from planner.profiling.store import Store
from planner.progress import Reporter, Silent
from planner.runtime.fingerprint import this_environment
from planner.spec.conflict import ConflictReport
from planner.spec.constraints import Constraints
from planner.spec.io import sealed
from planner.spec.package import Package
from planner.spec.pareto import ParetoCurve
from planner.spec.plan import Plan
from planner.spec.profile import DeviceProfile
from planner.spec.verdict import DryRun, Verdict
from planner.steps.bench import Bench
from planner.steps.case import open_case
from planner.steps.local import conflict_here, plan_here
from planner.steps.request import CUDA, is_away
from planner.steps.workspace import workspace


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A plan, sealed: its digest says whether it is still what was decided."""

    plan: Plan


def plan(
    constraints: Constraints, *, reporter: Reporter | None = None, store: Store | None = None
) -> PlanResult:
    """Decides how to deploy the model within the constraints.

    Measures what the store does not know; interrupting keeps what was measured.

    Raises:
        UsageError: something is wrong with the request, the model or the data (exit code 2).
        InfeasibleError: proved that no plan meets the limits (3).
        VerificationError: nothing keeps the promise when it is measured (4).
        EnvironmentMismatchError: this machine lacks the device asked for (5).
        NoPlanInTimeError: the time limit ended first (6).
    """
    with workspace(reporter or Silent(), store) as work, Bench(work, this_environment()) as bench:
        if is_away(constraints):
            from planner.steps.away.dispatch import plan_elsewhere

            return PlanResult(sealed(plan_elsewhere(constraints, work)))
        if constraints.target.device == CUDA:
            from planner.steps.gpu.plan import plan_gpu

            return PlanResult(sealed(plan_gpu(constraints, work)))
        return PlanResult(sealed(plan_here(open_case(constraints, work, bench))))


def obstacles(plan: Plan) -> tuple[str, ...]:
    """What of a plan no engine can do, in words; none where `build` can begin."""
    from planner.steps.realisable import obstacles as found

    return found(plan)


def build(
    plan: Plan,
    out: Path,
    *,
    model: Path | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Builds the engine of a plan into `out`, or reuses the one that is there.

    Args:
        model: where the model is now, if it is not where the plan says.

    Raises:
        UsageError: the model is missing or another one, or `out` cannot be written.
        EnvironmentMismatchError: its weights are not here, or no engine can do what it says.
        VerificationError: this version cuts or groups the model otherwise than the plan says.
    """
    from planner.steps.building import build_engine

    with workspace(reporter or Silent()) as work:
        return build_engine(sealed(plan), out, model, work)


def spread(
    plan: Plan,
    *,
    tensor: int = 1,
    stages: int = 1,
    device: Literal["cpu", "cuda"] = "cpu",
    model: Path | None = None,
    reporter: Reporter | None = None,
) -> Plan:
    """A plan for one device on `tensor` x `stages` of them, its time predicted anew.

    Raises:
        UsageError: the model is missing or another one, or has fewer operators than stages.
        EnvironmentMismatchError: ranks have no library to talk through, or nothing to share.
    """
    from planner.steps.spreading import Wish
    from planner.steps.spreading import spread as spread_plan

    with workspace(reporter or Silent()) as work:
        return sealed(spread_plan(plan, Wish(tensor, stages, device), model, work))


def annotate(plan: Plan, out: Path) -> int:
    """Writes the plan's model with ONNX's multi-device annotations; operators that got some.

    Raises:
        UsageError: the plan runs on one device.
    """
    from planner.emit.annotate import annotate as write_annotated

    return write_annotated(plan, Path(plan.model.path), out)


def verify(engine: Path, *, reporter: Reporter | None = None) -> Verdict:
    """Whether an engine keeps what its plan promised, here and now: files, device, outputs, speed.

    Raises:
        VerificationError: it is damaged beyond being loaded.
    """
    from planner.steps.verifying import verify_engine

    with workspace(reporter or Silent()) as work:
        return verify_engine(engine, work)


def package(
    engine: Path,
    to: str,
    out: Path,
    *,
    replicas: int = 1,
    storage_uri: str | None = None,
    image: str | None = None,
) -> Package:
    """Writes what a deploy target needs of an engine into `out`; an older package is replaced.

    Args:
        to: `triton`, `kserve` or `ray`.
        replicas: copies of the engine that answer side by side.
        storage_uri: where KServe will find what it serves.
        image: for KServe, a container image with infopt in it; Triton serves without one.

    Raises:
        UsageError: the target cannot serve this, or `out` is somebody else's or cannot be written.
        VerificationError: the engine is damaged.
    """
    from planner.emit.targets import target_named
    from planner.emit.targets.base import Wishes
    from planner.emit.targets.package import package as write_package

    wishes = Wishes(replicas, storage_uri, image)
    return write_package(target_named(to), engine, out, wishes)


def explain_infeasible(
    constraints: Constraints, *, reporter: Reporter | None = None, store: Store | None = None
) -> ConflictReport:
    """Which limits of a request cannot hold together, and the nearest values that can.

    Plans up to where a plan would be timed as a whole; a feasible request says so.

    Raises: as `plan`, but for infeasible requests.
    """
    with workspace(reporter or Silent(), store) as work, Bench(work, this_environment()) as bench:
        if is_away(constraints):
            from planner.steps.away.dispatch import conflict_elsewhere

            return conflict_elsewhere(constraints, work)
        return conflict_here(open_case(constraints, work, bench))


def pareto(
    constraints: Constraints,
    *,
    axes: Sequence[str] | None = None,
    points: int = 12,
    reporter: Reporter | None = None,
) -> ParetoCurve:
    """What two or three of latency, memory, error, cost and devices can be traded for each other:
    exact, each point certified. For a target that is not here also `query`, the price of one.

    Args:
        axes: None: latency against error, and latency against memory; against devices and error
            where several are asked for.
        points: of each frontier, at most.

    Raises: as `plan`; UsageError for axes that cannot be traded.
    """
    from planner.steps.frontier import check_axes, frontier

    if is_away(constraints):
        from planner.steps.away.curve import curve_elsewhere

        with workspace(reporter or Silent()) as work:
            return curve_elsewhere(constraints, work, axes, points)
    check_axes(axes)
    with workspace(reporter or Silent()) as work, Bench(work, this_environment()) as bench:
        return frontier(open_case(constraints, work, bench), axes, points)


def dry_run(constraints: Constraints) -> DryRun:
    """What `plan` would measure, found without measuring anything."""
    from planner.steps.dry import dry

    with workspace(Silent()) as work, Bench(work, this_environment()) as bench:
        return dry(constraints, work, bench)


def profile_device(
    *, device: Literal["cpu", "cuda"] = "cpu", reporter: Reporter | None = None
) -> DeviceProfile:
    """Measures what this device can do: memory, matrix products per format, launches, links.

    Raises:
        ModelError: ONNX Runtime cannot run a probe that every build of it can.
        EnvironmentMismatchError: there is no GPU here.
    """
    with workspace(reporter or Silent()) as work:
        if device == "cuda":
            from planner.steps.gpu_ceilings import measure_gpu

            return measure_gpu(work)
        from planner.steps.ceilings import measure_ceilings

        return measure_ceilings(work)
