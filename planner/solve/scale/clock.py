"""The deadline inside long computations."""

from __future__ import annotations

from time import monotonic

CHECKED = 256
"""Operators between two looks at the clock."""


class OutOfTimeError(Exception):
    """The deadline passed in the middle of something long."""


def look_at_clock(op: int, deadline: float) -> None:
    """Raises OutOfTimeError after the deadline; looks only now and then."""
    if op % CHECKED == 0 and monotonic() > deadline:
        raise OutOfTimeError
