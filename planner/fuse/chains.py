"""How long a stage may be."""

from __future__ import annotations

from planner.kernels.stage import Stage
from planner.ops.nest import Program

MAX_BEHIND = 64
"""Nests one behind the other in one stage. Emission makes nine calls for each of Python's 1,000,
and so long a kernel gains nothing by one more."""


def is_too_long(program: Program, stage: Stage) -> bool:
    """Whether more than `MAX_BEHIND` nests stand one behind the other; O(nests of the program)."""
    inside = {stage.root, *stage.internal}
    if len(inside) <= MAX_BEHIND:
        return False
    behind: dict[str, int] = {}
    for nest in program.nests:
        if nest.name in inside:
            before = (behind[name] for name in nest.reads if name in behind)
            behind[nest.name] = 1 + max(before, default=0)
    return max(behind.values()) > MAX_BEHIND
