"""What loads may assume of memory, and which guards keep them within it."""

from __future__ import annotations

from collections.abc import Iterable

from planner.ops import index
from planner.ops.expr import Bound, Load

ALIGNMENT_BYTES = 16
"""What the compiler may assume of every parameter: the widest load of a thread."""
MAX_INNER_DEPTH = 512
"""Longest sum of an inner contraction (scores of attention) taken whole."""


def protecting(load: Load, shape: tuple[int, ...], guards: Iterable[Bound]) -> tuple[Bound, ...]:
    """Of these guards from outside, those that keep a load within its tensor."""
    loose = frozenset().union(
        *(
            index.variables(value)
            for value, size in zip(load.index, shape, strict=True)
            if not Bound(value, 0, size).is_certain
        )
    )
    return tuple(guard for guard in guards if index.variables(guard.value) & loose)
