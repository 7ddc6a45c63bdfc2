"""The trade-off curve: the best plan for each level of one limit."""

from __future__ import annotations

from planner.spec.base import Document
from planner.spec.plan import Estimate


class ParetoPoint(Document):
    """One plan that no other beats on all axes at once."""

    name: str
    """Short label, unique on the curve."""
    latency_us: Estimate
    """Weighted over the workload, p50."""
    memory_size_bytes: int
    error: float
    """NMSE at the outputs."""
    formats: dict[str, int]
    """Operators per format."""
    status: str
    """How far the proof got: `optimal`, `feasible`."""
    gap: float | None = None
    """Proved distance of the first axis from the best there is, relative."""
    price_per_hour: float = 0.0
    """Of all devices in use; 0 where nobody prices them."""
    devices: int = 0
    """In use; 0 where nobody counts."""
    price_per_query: float | None = None
    """Of one run of the whole workload, one after another."""
    layout: str | None = None
    """How several devices share the work, in words."""


class ParetoCurve(Document):
    """Every point of the curve, fastest first."""

    model: str
    points: tuple[ParetoPoint, ...]
    axes: tuple[str, ...] = ("latency", "memory", "error")
    """What is traded against each other: `latency`, `memory`, `error`, `cost` (per hour),
    `query` (price of one), `devices`."""
    warnings: tuple[str, ...] = ()
