"""A program cut into launches, before anything is compiled."""

from __future__ import annotations

from dataclasses import dataclass

from planner.kernels.source import Kernel, Numbers, Part
from planner.kernels.stage import Stage
from planner.ops.nest import Program


@dataclass(frozen=True, slots=True)
class Draft:
    """A program cut into launches, with the source of each; nothing compiled yet."""

    program: Program
    numbers: Numbers
    stages: tuple[Stage, ...]
    launches: tuple[tuple[tuple[Part, ...], Kernel], ...]
    waiting: frozenset[str] = frozenset()
    """Kernels that start only when the launch in front of them has ended (`planner.fuse.tune`)."""
    loops: tuple[tuple[int, int], ...] = ()
    """Launches, from one to another, that become one with a loop (`planner.fuse.roll`)."""
    remarks: tuple[str, ...] = ()
    """Which runs of equal launches are no loops, and why, for people."""

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """In launch order; equal ones repeat."""
        return tuple(item for _, item in self.launches)
