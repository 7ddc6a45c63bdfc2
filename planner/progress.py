"""How long work tells what it is doing, without knowing who listens.

`Silent` is both the protocol's no-op and the base class of every listener: the command line draws
bars, a service may log, a test may record.
"""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Hears about long work; every method returns at once and never raises."""

    def stage(self, name: str) -> None:
        """A new stage of the story begins, e.g. `profile`."""

    def progress(self, done: int, total: int, label: str) -> None:
        """`done` of `total` steps of the current stage; `label` names the step at hand."""

    def note(self, text: str) -> None:
        """Something the user should know, one line."""

    def incumbent(self, objective: float, bound: float | None) -> None:
        """The solver found a better plan; `bound` is the proved limit, in the same unit."""


class Silent:
    """A reporter that says nothing."""

    def stage(self, name: str) -> None:
        """See `Reporter`."""

    def progress(self, done: int, total: int, label: str) -> None:
        """See `Reporter`."""

    def note(self, text: str) -> None:
        """See `Reporter`."""

    def incumbent(self, objective: float, bound: float | None) -> None:
        """See `Reporter`."""
