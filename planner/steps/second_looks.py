"""Which kernels were timed while the machine was slow, and are looked at once more.

For spells of 20 to 60 s threads hear of each other late: a kernel of one parallel section takes 2.3
us longer, one of four 10 us, one that a single thread runs no longer than before, whatever each
takes otherwise (AMD EPYC, 2026-11-28: 61 kernels in both states). The probe's pace does not tell,
for prices scale with it. They belong to the fast state, so what was timed far from it says little.

Only the run that timed a kernel looks at it again: later ones find a price that stays, so that the
same request makes the same plan. What is interrupted before its second look stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from planner.profiling.store import KernelTime
from planner.steps.analysis import Executable

Request = tuple[int, str, int]
"""A kernel to time: its index, its key in the store, its footprint."""

_FAR = 1.25
"""The reference probe beside a kernel over the fastest in its pool, from which on another state of
the machine is meant: within one state they differ by a tenth, late threads double it."""


@dataclass(slots=True)
class SecondLooks:
    """What was timed in one pool, and how fast the machine was."""

    fastest_us: float = inf
    """The reference probe beside the kernel that saw the machine at its fastest."""
    _asked: dict[str, tuple[Executable, Request]] = field(default_factory=dict)

    def saw(self, executable: Executable, request: Request, time: KernelTime) -> None:
        """A kernel was timed, for the first or the second time."""
        self.fastest_us = min(self.fastest_us, time.reference_us)
        self._asked[request[1]] = executable, request

    def wanted(
        self, stands: Callable[[str], KernelTime | None]
    ) -> list[tuple[Executable, list[Request]]]:
        """What was timed far from the fast state, model by model.

        Args:
            stands: a kernel's time in the store, which another planner may have put there.
        """
        times = {key: time for key in self._asked if (time := stands(key)) is not None}
        fastest_us = min((self.fastest_us, *(time.reference_us for time in times.values())))
        found: dict[str, tuple[Executable, list[Request]]] = {}
        for key, time in times.items():
            # One that was read off its whole graph took its process down when it was alone.
            if time.in_context or time.reference_us <= _FAR * fastest_us:
                continue
            executable, request = self._asked[key]
            found.setdefault(executable.name, (executable, []))[1].append(request)
        return list(found.values())
