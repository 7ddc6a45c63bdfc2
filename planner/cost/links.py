"""How long a collective takes: start, hops, and bytes over the link.

    latency = alpha * (1 + hop * log2 ranks) + ramp * sqrt(moved / link) + moved / (link * share)

`moved` is what each device sends in a ring: (ranks - 1) / ranks of the tensor, twice for an
all_reduce. The root stands for the change of protocols between small and large messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

PRIOR: Mapping[str, tuple[float, float]] = {
    "alpha": (8.0, 1.0),
    "hop": (0.3, 0.8),
    "ramp": (0.3, 1.0),
    "share": (0.8, 0.3),
}
"""`alpha` in microseconds, `ramp` in square roots of microseconds."""


@dataclass(frozen=True, slots=True)
class Messages:
    """Many collectives of one kind, as columns."""

    kind: str
    size_bytes: Array
    ranks: Array
    link: Array
    """Bytes per microsecond of one device into the fabric."""
    implementation: str = "nccl"
    fabric: str = "nvswitch"
    """As in the name of a curve, `kind/implementation/fabric`."""

    def part(self, at: npt.NDArray[np.int64] | slice) -> Messages:
        """Some of them."""
        columns = (self.size_bytes[at], self.ranks[at], self.link[at])
        return Messages(self.kind, *columns, self.implementation, self.fabric)

    @property
    def moved_bytes(self) -> Array:
        """What each device sends."""
        if self.kind == "send_recv":
            return self.size_bytes
        moved: Array = (self.ranks - 1) / self.ranks * self.size_bytes
        return 2 * moved if self.kind == "all_reduce" else moved


def collective_us(works: Messages, at: Mapping[str, float]) -> Array:
    """Microseconds of each collective."""
    moved_us = works.moved_bytes / works.link
    steps = 1.0 if works.kind == "send_recv" else np.log2(works.ranks)
    start = at["alpha"] * (1 + at["hop"] * steps)
    total: Array = start + at["ramp"] * np.sqrt(moved_us) + moved_us / min(at["share"], 1.0)
    return total
