"""Free assignment of operators to single devices (C12), as public placement problems state it.

Semantics of Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph Operators",
NeurIPS 2020. A node's cost on a device is the latency of the operator's option at the device's
place; an operator without an option there is not supported there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Contiguity(StrEnum):
    """Which sets of operators a device may run."""

    FREE = "free"
    """Any."""
    CONVEX = "convex"
    """No path leaves the set and comes back."""
    CHAIN = "chain"
    """Devices can be put in an order such that every edge goes forward (chains of ideals):
    convex, and no two devices wait for each other."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One device of an assignment."""

    name: str
    place: str
    """Name of a `Place`: which options run here, and how much memory there is."""
    pays_crossings: bool = True
    """Whether results that enter or leave cost time here (accelerators do, CPUs do not)."""
    is_unlimited: bool = False
    """With a schedule: operators here wait for their producers only, never for each other."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """What it costs a paying device when an operator's result enters it or leaves it.

    Paid once per producer and device and direction, whatever the number of consumers.
    """

    op: str
    latency_us: float


@dataclass(frozen=True, slots=True)
class Assignment:
    """C12: every operator on one slot, memory kept, groups together.

    Load of a slot: its operators' latencies, plus, where it pays, the crossing of every outside
    producer with a consumer inside and of every inside producer with a consumer outside.
    `Objective.PERIOD` is the largest load.

    With `is_scheduled`, `Objective.LATENCY` is the largest finish:
    a slot's operators start together once every outside producer is done, and are all done after
    its load; operators of an unlimited slot start when their producers are done and take their own
    latency. Slots never wait for each other in a cycle. Each slot holds one contiguous subgraph:
    q subgraphs on one device are q slots of that device, joined in `shared`.
    """

    slots: tuple[Slot, ...]
    crossings: tuple[Crossing, ...] = ()
    """Operators that are absent cost nothing to move."""
    together: tuple[tuple[str, ...], ...] = ()
    """Colour classes: operators that share a slot."""
    contiguity: Contiguity = Contiguity.FREE
    order: tuple[tuple[str, str], ...] | None = None
    """Edges that contiguity follows, possibly with cycles; None: those of the problem. (Training:
    only forward operators are contiguous, and backward ones follow the forward ones they share a
    device with.)"""
    is_scheduled: bool = False
    shared: tuple[tuple[str, ...], ...] = ()
    """Names of slots that are one device: they share its memory and run one after another."""
