"""Where an engine can be taken: one file a target, one line in `TARGETS`.

A target writes files for somebody else's server: a pure function of the engine, its plan and what
was asked for. `package` puts them in place whole or not at all. Targets are named on the command
line, so nothing heavy is imported before one of them is written.
"""

from __future__ import annotations

from planner.emit.targets.base import Target
from planner.emit.targets.kserve import KSERVE
from planner.emit.targets.ray import RAY
from planner.emit.targets.triton import TRITON

TARGETS: tuple[Target, ...] = (TRITON, KSERVE, RAY)
"""In the order of the help."""


def target_named(name: str) -> Target:
    """The target of that name.

    Raises:
        KeyError: there is none; the command line offers only those there are.
    """
    return {target.name: target for target in TARGETS}[name]
