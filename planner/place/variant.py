"""One way to run a group, and where its weights live between runs."""

from __future__ import annotations

from dataclasses import dataclass

from planner.ir.problem import Option
from planner.place.price import Priced
from planner.place.strategy import Ends

DEVICE, HOST = "device", "host"
"""Residencies."""


@dataclass(frozen=True)
class Variant:
    """One way to run a group: what an option stands for."""

    option: Option
    group: int
    ends: Ends
    priced: Priced
    residency: str = DEVICE
    """Where its weights live between runs."""
    swap_us: tuple[float, ...] = ()
    """What streaming adds to each workload entry."""
    again: tuple[str, ...] = ()
    """Activations that it makes again."""
