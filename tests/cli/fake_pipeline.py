"""Answers like `planner.pipeline`, at once and without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from planner import resources
from planner.progress import Reporter
from planner.spec.conflict import ConflictReport
from planner.spec.constraints import Constraints
from planner.spec.package import Package
from planner.spec.pareto import ParetoCurve, ParetoPoint
from planner.spec.plan import Plan
from planner.spec.profile import DeviceProfile, read_profile
from planner.spec.verdict import Check, DryRun, PendingMeasurement, Verdict
from tests.plans import estimate, make_conflict, make_plan

Infopt = Callable[..., int]
"""`infopt("plan", "model.onnx")` -> exit code."""


@dataclass
class FakePipeline:
    """Answers like `planner.pipeline`; `error` is raised instead when set."""

    plan_made: Plan = field(default_factory=make_plan)
    passed: bool = True
    conflict: ConflictReport = field(default_factory=make_conflict)
    error: BaseException | None = None
    asked: list[Any] = field(default_factory=list)

    def _answer(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error

    def plan(self, constraints: Constraints, *, reporter: Reporter) -> SimpleNamespace:
        reporter.stage("profile")
        reporter.progress(3, 3, "MatMul 64x64")
        reporter.note("a note")
        reporter.incumbent(2.0, 1.0)
        self._answer("plan", constraints)
        return SimpleNamespace(plan=self.plan_made)

    def obstacles(self, plan: Plan) -> tuple[str, ...]:
        self._answer("obstacles", plan)
        return ()

    def dry_run(self, constraints: Constraints) -> DryRun:
        self._answer("dry_run", constraints)
        return DryRun(
            model=str(constraints.model),
            ops=3,
            parameters=1_200_000,
            weights_size_bytes=4_800_000,
            workload=self.plan_made.workload,
            pending=(PendingMeasurement(kernel="MatMul 64x64", ops=2, variants=("fp32", "int8")),),
        )

    def build(self, plan: Plan, out: Path, *, model: Path | None, reporter: Reporter) -> Path:
        reporter.stage("build")
        self._answer("build", plan, out, model)
        return out

    def verify(self, engine: Path, *, reporter: Reporter) -> Verdict:
        reporter.stage("verify")
        self._answer("verify", engine)
        return Verdict(
            engine=str(engine),
            passed=self.passed,
            checks=(
                Check(name="files", passed=True, detail="12 files, every SHA-256 matches"),
                Check(name="latency", passed=self.passed, detail="p99 332 us, promised 20 ms"),
            ),
            predicted_us={"default": estimate(250.0)},
            measured_us={"default": estimate(255.0)},
        )

    def package(self, engine: Path, to: str, out: Path, **wishes: Any) -> Package:
        self._answer("package", engine, to, out, wishes)
        return Package(
            target=to,
            name="model",
            plan_digest="ab" * 32,
            replicas=wishes["replicas"],
            files=(),
            notes=("something differs",),
            start="start {folder} of {a bucket}",
        )

    def explain_infeasible(self, constraints: Constraints, *, reporter: Reporter) -> ConflictReport:
        self._answer("explain_infeasible", constraints)
        return self.conflict

    def pareto(
        self,
        constraints: Constraints,
        *,
        axes: list[str] | None,
        points: int,
        reporter: Reporter,
    ) -> ParetoCurve:
        self._answer("pareto", constraints, axes, points)
        point = ParetoPoint(
            name="fastest",
            latency_us=estimate(250.0),
            memory_size_bytes=6_000_000,
            error=3e-4,
            formats={"int8_dynamic": 1, "fp32": 2},
            status="optimal",
        )
        return ParetoCurve(model=str(constraints.model), points=(point,))

    def profile_device(self, *, device: str, reporter: Reporter) -> DeviceProfile:
        self._answer("profile_device")
        return read_profile(resources.profiles()[0])
