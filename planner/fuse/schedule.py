"""From stages to launches: what depends on nothing of each other runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.kernels.source import Part
from planner.kernels.stage import Config, Stage
from planner.kernels.tiling import default_config, shape_of, tile
from planner.ops.nest import Program

MAX_SIDE_BY_SIDE = 16
"""Stages in one launch: each is code that every block's instruction cache may have to hold."""


def levels(stages: Sequence[Stage]) -> dict[str, int]:
    """Root -> length of the longest chain of stages before it."""
    found: dict[str, int] = {}
    made_by: dict[str, str] = {name: s.root for s in stages for name in s.makes}
    for stage in stages:
        before = (made_by[name] for name in stage.reads if name in made_by)
        found[stage.root] = max((found[root] + 1 for root in before), default=0)
    return found


def schedule(
    program: Program, stages: Sequence[Stage], chosen: Mapping[str, Config] | None = None
) -> tuple[tuple[Part, ...], ...]:
    """Launches in order; each is the stages of one level, with the most warps any of them wants."""
    level = levels(stages)
    bins: dict[int, list[Part]] = {}
    for stage in stages:
        part = plan_part(program, stage, (chosen or {}).get(stage.root))
        bins.setdefault(level[stage.root], []).append(part)
    launches: list[tuple[Part, ...]] = []
    for _, parts in sorted(bins.items()):
        for start in range(0, len(parts), MAX_SIDE_BY_SIDE):
            launches.append(tuple(parts[start : start + MAX_SIDE_BY_SIDE]))
    return tuple(launches)


def plan_part(program: Program, stage: Stage, config: Config | None = None) -> Part:
    """A stage with its tiling."""
    shape = shape_of(program, stage)
    return Part(stage, tile(program, stage, shape, config or default_config(shape)), shape.anchor)
