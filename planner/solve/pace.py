"""A clock for steps that nothing can stop once they have begun."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic


@dataclass(slots=True)
class Pace:
    """Says before each step whether a time is over, or would be after one as long as the last."""

    until: float
    """Of `monotonic`."""
    _asked: float = field(default_factory=monotonic)

    def __call__(self) -> bool:
        """Whether it is over; asked once before each step."""
        now = monotonic()
        last_s, self._asked = now - self._asked, now
        return now + last_s > self.until


@dataclass(slots=True)
class Cooling:
    """How far a walk of annealing is: by its steps, or by the clock where that is farther, so that
    it is cold when its time ends."""

    until: float
    """Of `monotonic`."""
    is_late: bool = False
    """The clock was farther at some time: another walk may differ."""
    _begun: float = field(default_factory=monotonic)

    def __call__(self, done: float) -> float:
        """From 0 up; 1 and more: the walk is over. `done` is the part of the steps."""
        now = monotonic()
        if now >= self.until:
            self.is_late = True
            return 1.0
        elapsed = (now - self._begun) / (self.until - self._begun)
        self.is_late |= elapsed > done > 0
        return max(done, elapsed) if done > 0 else done


def never() -> bool:
    """The time is never over."""
    return False
