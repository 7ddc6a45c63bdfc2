"""A thread pool and graph level of a whole plan, with what was learnt of it."""

from __future__ import annotations

from dataclasses import dataclass

from planner.cost.state import State
from planner.cost.tempo import Feeling
from planner.spec.session import SessionSettings


@dataclass(frozen=True, slots=True)
class PlanSetting:
    """A plan-wide setting with what was learnt of it."""

    session: SessionSettings
    tail_factors: tuple[float, ...]
    """Latency at the promise's percentile / p50, the median of all whole runs in this pool; per
    workload shape. Neighbours make tails: what one run saw of them proves nothing of the next, so
    no SLO is called unreachable because of these."""
    state: State
    """The reference probe's p50 when whole models were timed."""
    felt: Feeling
    """How a model of these kernels follows it."""
    slowness: float
    """What that makes of its time, against when kernels were measured."""
