"""Which kernels were timed while the machine was slow, and are looked at once more.

A neighbour that takes a core for a while makes two threads take twice as long, or more where they
meet often, or the same where one works alone: the probe's pace does not tell. Prices belong to the
fast state, so what was timed far from it says little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from planner.profiling.store import KernelTime
from planner.steps.analysis import Executable

Request = tuple[int, str, int]
"""A kernel to time: its index, its key in the store, its footprint."""

_FAR = 1.25
"""The reference probe beside a kernel over the fastest in its pool, from which on another state of
the machine is meant: within one state they differ by a tenth, a core that is taken doubles it."""


@dataclass(slots=True)
class SecondLooks:
    """What was timed in one pool, and how fast the machine was."""

    fastest_us: float = inf
    """The reference probe beside the kernel that saw the machine at its fastest."""
    _times: dict[str, KernelTime] = field(default_factory=dict)
    _asked: dict[str, tuple[Executable, Request]] = field(default_factory=dict)

    def saw(self, executable: Executable, request: Request, time: KernelTime) -> None:
        """A kernel was timed."""
        self.fastest_us = min(self.fastest_us, time.reference_us)
        self._times[request[1]] = time
        self._asked[request[1]] = executable, request

    def improves(self, key: str, time: KernelTime) -> bool:
        """Whether another time of a kernel is of a faster state."""
        self.fastest_us = min(self.fastest_us, time.reference_us)
        return time.reference_us < self._times[key].reference_us

    def wanted(self) -> Iterator[tuple[Executable, list[Request]]]:
        """What was timed far from the fast state, model by model."""
        asked: dict[str, tuple[Executable, list[Request]]] = {}
        for key, (executable, request) in self._asked.items():
            if self._times[key].reference_us > _FAR * self.fastest_us:
                asked.setdefault(executable.name, (executable, []))[1].append(request)
        yield from asked.values()
