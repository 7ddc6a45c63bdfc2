"""Forms of a tensor on the ranks of a stage: whole, cut along an axis, or summands of it."""

from __future__ import annotations

from collections.abc import Sequence

WHOLE = "r"
"""Form of a tensor that every rank has whole."""
SUMMAND = "p"
"""Form of a tensor that is the sum of what the ranks have."""


def cut_form(group: int, axis: int) -> str:
    """Form of a tensor that is cut along one axis of a class."""
    return f"s{group}.{axis}"


def conversion(have: Sequence[str], form: str) -> str | None:
    """The collective that brings a tensor into a form; None: nothing needs to be sent."""
    if WHOLE in have or form in have:
        return None
    if SUMMAND in have:
        return "all_reduce" if form == WHOLE else "reduce_scatter"
    return "all_gather" if form == WHOLE else "all_to_all"
