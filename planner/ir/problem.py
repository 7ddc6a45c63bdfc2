"""The planning problem as numbers and names: what may be chosen, what it costs, what must hold.

Sets        O  operators            G  options: a group of operators with a variant (format, kernel)
            T  tensor states        V  conversions between states
            S  settings: plan-wide choices (threads, graph level, ...), exactly one is used
            W  workload shapes, each with a weight
Data        latency_us[g][s][w]   None where option g does not exist under setting s
            size_bytes[g], error[g], needs[g] ⊆ T, makes[g] ⊆ T

The formulation stands in `planner/solve/constraints.py`, one function a constraint (C1, C4, ...).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Objective(StrEnum):
    """What is minimised; a problem holds a sequence, minimised lexicographically."""

    LATENCY = "latency"
    """Weighted expected latency over the workload, microseconds."""
    MEMORY = "memory"
    """Resident bytes."""
    ERROR = "error"
    """Sum of error contributions (NMSE at the outputs)."""
    COST = "cost"
    """Device price; equal for all plans of one device, where it falls through to latency."""
    ENERGY = "energy"
    """Joules per inference."""


@dataclass(frozen=True, slots=True)
class State:
    """A tensor in one form: `plain` as the model declares it, else a format or layout like `q8`."""

    tensor: str
    form: str


@dataclass(frozen=True, slots=True)
class Latency:
    """Microseconds: the ends of a 95 % interval and what is expected."""

    low_us: float
    expected_us: float
    high_us: float


@dataclass(frozen=True, slots=True)
class Option:
    """A group of operators with a variant: the thing the solver may choose (x[g,k])."""

    name: str
    """Unique and stable across runs."""
    ops: tuple[str, ...]
    """Names of the operators it computes; a convex set."""
    format: str
    latency: tuple[tuple[Latency | None, ...], ...]
    """`latency[setting][shape]`; None where this option does not exist under that setting."""
    needs: tuple[State, ...] = ()
    """Tensor states it reads (constants are not listed)."""
    makes: tuple[State, ...] = ()
    """Tensor states it leaves behind for others."""
    weight_size_bytes: int = 0
    workspace_size_bytes: int = 0
    """Scratch memory while it runs; groups run one after the other, so only the largest counts."""
    error: float = 0.0
    """Contribution to the NMSE of the model's outputs."""
    energy_j: float = 0.0


@dataclass(frozen=True, slots=True)
class Conversion:
    """An optional operation that makes one tensor state from another, paid once per state (C5)."""

    name: str
    source: State
    target: State
    latency: tuple[tuple[Latency | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """A plan-wide choice (threads, graph level, ...) with what it costs by itself."""

    name: str
    overhead: tuple[Latency, ...]
    """Per workload shape: call overhead that belongs to no option."""
    size_bytes: int = 0
    price_per_hour: float = 0.0
    tail_factor: float = 1.0
    """Latency at the SLO's percentile divided by the expected latency, measured; >= 1 (C8)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold; None means no limit. Each field is one of the user's own requests."""

    latency_us: float | None = None
    """Upper end of every workload shape's latency at the SLO's percentile (C8)."""
    memory_size_bytes: int | None = None
    """Resident weights + peak activations + largest workspace + the setting's own (C4)."""
    error: float | None = None
    """Sum of error contributions (C10)."""
    throughput_per_s: float | None = None
    """Inferences per second of one engine: weighted expected latency <= 1 / rate (C9)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Choose options that cover every operator exactly once, under one setting, within limits."""

    ops: tuple[str, ...]
    """Operator names in topological order."""
    edges: tuple[tuple[str, str], ...]
    """(producer op, consumer op)."""
    options: tuple[Option, ...]
    settings: tuple[Setting, ...]
    shape_weights: tuple[float, ...] = (1.0,)
    """How often each workload shape runs per inference: the weighted latency is their weighted
    sum (prefill x1 + decode x128 has the weights 1 and 128; shares add up to 1)."""
    conversions: tuple[Conversion, ...] = ()
    given: tuple[State, ...] = ()
    """States available without anybody making them: the model's inputs."""
    wanted: tuple[State, ...] = ()
    """States that must exist in the end: the model's outputs."""
    activation_size_bytes: int = 0
    """Peak bytes of live activations (liveness, upper bound over orders used)."""
    tied: tuple[tuple[str, ...], ...] = ()
    """Groups of operator names that must share one format (repeated blocks, shared weights)."""
    limits: Limits = field(default_factory=Limits)
    objectives: tuple[Objective, ...] = (Objective.LATENCY, Objective.ERROR)
    forbidden: tuple[frozenset[str], ...] = ()
    """No-good cuts: sets of option names that must not all be chosen together."""
