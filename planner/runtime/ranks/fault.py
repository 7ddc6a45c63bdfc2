"""Why a rank could not do its part, as it travels to the driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.errors import InfoptError


class LostError(InfoptError):
    """Another rank failed first: its reason is the one to tell."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An error's parts."""

    kind: type[InfoptError]
    what: str
    where: str | None = None
    fix: str | None = None

    @property
    def error(self) -> InfoptError:
        """The error again."""
        return self.kind(self.what, where=self.where, fix=self.fix)


def fault_of(error: BaseException) -> Fault:
    """What to tell of an error."""
    if isinstance(error, InfoptError):
        return Fault(type(error), error.what, error.where, error.fix)
    return Fault(InfoptError, f"{type(error).__name__}: {error}")


def first(faults: Sequence[Fault]) -> Fault:
    """The one that is not another's consequence."""
    return next((fault for fault in faults if fault.kind is not LostError), faults[0])
