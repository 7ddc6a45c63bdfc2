"""plan.json: every decision with its reason, every number with its source, and the certificate.

Nothing in it depends on when it was made, so that the same store gives the same bytes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.spec.base import Document
from planner.spec.estimate import Estimate as Estimate
from planner.spec.execution import StageExecution
from planner.spec.fusion import FusionPlan
from planner.spec.placement import PlacementPlan
from planner.spec.session import SessionSettings
from planner.spec.streaming import StreamingPlan

SCHEMA_VERSION = 1


class ModelRef(Document):
    """The model a plan was made for."""

    path: str
    """As given by the user; `deploy --model` points to a moved model."""
    sha256: str
    """Digest of the model file and of every external data file it refers to."""
    is_without_data: bool = False
    """Planned by its structure alone: digest and size are of the model file, whatever its external
    data is."""
    size_bytes: int
    """Model file plus external data."""
    ops: int
    """Operators after simplification."""
    parameters: int


class Environment(Document):
    """What a measured number depends on."""

    infopt: str
    onnxruntime: str
    device: str
    """CPU or GPU name with what matters for speed (cores, vector extensions)."""
    device_digest: str
    """SHA-256 over everything that makes measurements comparable."""
    platform: str


class WorkloadShape(Document):
    """One input shape set of the workload and how often it occurs."""

    name: str = "default"
    shapes: dict[str, tuple[int, ...]]
    weight: float = Field(default=1.0, gt=0)


class Promise(Document):
    """The limits a plan was made to keep; None means no limit."""

    latency_us: float | None = None
    latency_percentile: float = 99.0
    throughput_per_s: float | None = None
    memory_size_bytes: int | None = None
    max_error: float | None = None
    """NMSE at the outputs."""
    max_drop: float | None = None
    """Largest drop of the metric, in the metric's own unit (0.005 = 0.5 percentage points)."""
    is_drop_relative: bool = False
    """Whether `max_drop` is a share of the unchanged model's metric instead (a loss)."""
    metric: str | None = None
    confidence: float = 0.95


class RunnerUp(Document):
    """The best alternative for one operator, and why it lost."""

    format: str
    delta_us: float | None
    """Change of the whole plan's latency if forced; None where no feasible plan has it."""
    delta_error: float | None
    reason: str


class Decision(Document):
    """What happens to one operator."""

    op: str
    op_type: str
    group: str
    """Name of the group (kernel) it runs in."""
    format: str
    predicted_us: float
    """Its group's expected latency over the workload; reported once, else 0: at the operator that
    does most of the group's work where its kernels were priced one by one, else at the first. Where
    only kinds of operators were timed, each has its share of its kind."""
    error: float
    """Contribution to the output NMSE."""
    reason: str
    runner_up: RunnerUp | None = None


class SolverReport(Document):
    """The certificate of the optimisation."""

    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    solver: str
    objectives: tuple[str, ...]
    objective: tuple[float, ...]
    bound: tuple[float, ...]
    gap: float | None
    seed: int
    hit_time_limit: bool
    options: int
    settings: int
    rounds: int
    """Solves until the built plan kept its accuracy budget."""
    binding: tuple[str, ...] = ()
    """Limits that hold with equality: what the plan is bounded by."""


class Prediction(Document):
    """What was predicted before anything of the plan was timed as a whole."""

    latency_p50_us: dict[str, Estimate]
    """Per workload shape."""
    latency_slo_us: dict[str, Estimate]
    """The same at the promise's percentile."""
    memory_size_bytes: Estimate
    error: Estimate


class ShapeTiming(Document):
    """One variant, timed as a whole on one workload shape."""

    p50_us: float
    p99_us: float
    slo_us: float
    """At the promise's percentile."""
    ratio: float
    """Plain ONNX Runtime's p50 divided by this one's, paired and interleaved: > 1 is faster."""


class Timing(Document):
    """One variant, timed as a whole by the guard, over the whole workload."""

    name: str
    p50_us: float
    """Mean over the workload's shapes, each as often as it occurs."""
    p99_us: float
    """Of the slowest shape."""
    slo_us: float
    """At the promise's percentile, of the slowest shape."""
    ratio: float
    """Plain ONNX Runtime's time for the workload divided by this one's, paired and interleaved:
    > 1 is faster."""
    ratio_low: float
    ratio_high: float
    runs: int
    memory_size_bytes: int | None = None
    """Peak resident bytes of the process that ran it."""
    note: str = ""
    shapes: dict[str, ShapeTiming] = Field(default_factory=dict)
    """By name of the workload shape."""


class GuardReport(Document):
    """Variants timed against each other in one run (one process each, alternating)."""

    shipped: str
    threshold: float
    """A variant must beat plain ONNX Runtime by this factor to ship: 1 + max(2 %, A/A interval)."""
    control_low: float
    control_high: float
    """Interval of plain ONNX Runtime against itself (A/A)."""
    timings: tuple[Timing, ...]
    reason: str


class AccuracyReport(Document):
    """What compression did to the answers."""

    calibrated: bool
    """False: synthetic inputs stood in for calibration data."""
    samples: int
    predicted_error: float
    measured_error: float
    """Joint NMSE of the built plan on the calibration or evaluation inputs."""
    metric: str | None = None
    baseline: float | None = None
    value: float | None = None
    drop: float | None = None
    drop_high: float | None = None
    """Upper end of the drop at the promise's confidence."""
    verdict: Literal["kept", "broken", "unprovable", "not asked"] = "not asked"
    """Of the promise. `unprovable`: the evaluation data cannot show that any compression keeps the
    drop, so every operator keeps its own format. That changes no answer: the drop of what ships is
    0 by construction, and the promise holds."""
    samples_needed: int | None = None
    """Evaluation samples that would prove the promise, where the verdict is `unprovable`."""
    basis: Literal["proved", "calibrated", "measured"] = "measured"

    @property
    def is_kept(self) -> bool:
        """Whether what ships keeps what was asked for."""
        return self.verdict != "broken"


class Rejected(Document):
    """An option that was not offered to the solver, and why."""

    op: str
    format: str
    reason: str


class Plan(Document):
    """The whole plan: enough to build, check and explain an engine without planning again."""

    schema_version: Literal[1] = 1
    model: ModelRef
    environment: Environment
    workload: tuple[WorkloadShape, ...]
    promise: Promise
    shipped: Literal["plan", "uniform", "plain"]
    """Which variant won the guard: the solver's plan, a uniform one, or plain ONNX Runtime."""
    settings: SessionSettings
    simplified: bool
    """Whether the engine is built from the simplified graph."""
    formats: dict[str, str]
    """Operator name -> format, for every operator that does not keep its own."""
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Calibrated range of each activation that a static format quantises."""
    smoothing: dict[str, str] = Field(default_factory=dict)
    """Operator -> what the channels that it reads are divided by, and the rows of its matrix
    multiplied with, before both are rounded: a letter a channel, powers of two, m being 1."""
    execution: tuple[StageExecution, ...] = ()
    """Stages and ranks, where more than one device executes the plan or weights stream."""
    decisions: tuple[Decision, ...]
    solver: SolverReport
    prediction: Prediction
    accuracy: AccuracyReport
    guard: GuardReport | None = None
    machine_state_us: float | None = None
    """The reference probe with the plan's threads while whole models were measured; deploy compares
    its own with it."""
    machine_alone_us: float | None = None
    """The serial probe, which tells slow cores from threads that meet late."""
    machine_exponent: float = 1.0
    """How the model follows threads that meet late: it takes (probe / machine_state_us over that of
    the serial one) ** this as long."""
    machine_pace_exponent: float = 1.0
    """How it follows slow cores: (serial probe / machine_alone_us) ** this."""
    fusion: FusionPlan | None = None
    """Kernels, where the model runs as generated ones."""
    placement: PlacementPlan | None = None
    """Where a model runs on devices that are not here: stages, ranks, residency."""
    streaming: StreamingPlan | None = None
    """What stays in memory, where a model on this machine is larger than it may be."""
    rejected: tuple[Rejected, ...] = ()
    warnings: tuple[str, ...] = ()
    digest: str = ""
    """SHA-256 of this document with this field empty: tells a plan edited by hand."""

    @property
    def ranks(self) -> int:
        """How many devices execute it."""
        return 1 + max((rank for stage in self.execution for rank in stage.ranks), default=0)

    def label(self, shape: str) -> str:
        """`long: ` before what is said of one shape of several; nothing where there is only one."""
        return f"{shape}: " if len(self.workload) > 1 else ""
