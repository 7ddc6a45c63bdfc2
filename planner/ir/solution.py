"""What the solver answers: always a value, never an exception."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Status(StrEnum):
    """How far the proof got."""

    OPTIMAL = "optimal"
    """No better plan exists (within the stated gap tolerance)."""
    FEASIBLE = "feasible"
    """A checked plan with a proved gap."""
    INFEASIBLE = "infeasible"
    """Proved: no plan meets the limits, even at the lower ends of all intervals."""
    UNKNOWN = "unknown"
    """The time ended before a plan or a proof was found."""


@dataclass(frozen=True, slots=True)
class Totals:
    """A solution re-priced from the problem alone."""

    latency_low_us: tuple[float, ...]
    """Per workload shape."""
    latency_expected_us: tuple[float, ...]
    latency_high_us: tuple[float, ...]
    weighted_latency_us: float
    memory_size_bytes: int
    error: float
    energy_j: float
    price_per_hour: float
    devices: int = 0
    """In use, stores' extra devices included; 0 where the problem has no places."""
    period_us: float = 0.0
    """Weighted expected time of the slowest stage or slot, or of a shared link."""
    stage_us: tuple[float, ...] = ()
    """Weighted expected time of each stage or slot."""
    stage_memory_size_bytes: tuple[int, ...] = ()
    """Bytes in use on each device of each stage or slot."""

    @property
    def query_cost(self) -> float:
        """Price of one inference at full throughput."""
        return self.price_per_hour * self.period_us / 3.6e9


@dataclass(frozen=True, slots=True)
class Stage:
    """One pipeline stage: a place and what runs there."""

    place: str
    chosen: tuple[str, ...]
    """Names of options, in topological order of their first operator."""
    conversions: tuple[str, ...] = ()
    transfers: tuple[tuple[str, int], ...] = ()
    """(name of the transfer, number of the earlier stage it comes from): what it receives."""
    stored: tuple[tuple[str, str], ...] = ()
    """(option, store): whose weights stream in; all others are resident."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Chosen options, conversions and setting, with the certificate."""

    status: Status
    chosen: tuple[str, ...] = ()
    """Names of options, in topological order of their first operator."""
    conversions: tuple[str, ...] = ()
    setting: str | None = None
    totals: Totals | None = None
    objective: tuple[float, ...] = ()
    """One value per objective of the problem."""
    bound: tuple[float, ...] = ()
    """Proved lower bound of each, in the same units."""
    gap: float | None = None
    """(objective - bound) / objective of the first objective; None without a solution."""
    is_uncertain: bool = False
    """Meets the latency limit at the lower or expected end of its interval but not at the upper."""
    hit_time_limit: bool = False
    """True when wall-clock time ended the search: the answer may differ between runs."""
    is_interrupted: bool = False
    """True when Ctrl-C ended the search; what was best until then is here."""
    rounding: float = 0.0
    """Largest relative error that integer scaling may have put into objective and bound."""
    solver: str = ""
    seconds: float = 0.0
    stages: tuple[Stage, ...] = ()
    """Problems with places: the stages in order, none empty. `chosen` and `conversions` are theirs
    together; a conversion that several stages pay is named once."""
    slots: tuple[tuple[str, str], ...] = ()
    """Free assignment (C12): (operator, slot), in the order of `Problem.ops`."""

    @property
    def choice(self) -> Solution:
        """What is chosen, without the certificate: for other objectives and limits."""
        return replace(self, status=Status.FEASIBLE, totals=None, objective=(), bound=(), gap=None)
