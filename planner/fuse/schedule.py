"""From stages to launches: what depends on nothing of each other runs side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from planner.fuse.drafts import Draft
from planner.kernels.configs import default_config
from planner.kernels.source import Part
from planner.kernels.stage import Config, Stage
from planner.kernels.tiling import shape_of, tile
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


def chain(plan: Draft) -> list[int]:
    """Of each launch: the longest chain of launches before it, by what they read of each other."""
    maker: dict[str, int] = {}
    found: list[int] = []
    for number, (parts, _) in enumerate(plan.launches):
        reads = {name for part in parts for name in part.stage.reads}
        before = [found[maker[name]] + 1 for name in reads if name in maker]
        found.append(max(before, default=0))
        maker.update({name: number for part in parts for name in part.stage.makes})
    return found


def schedule(
    program: Program, stages: Sequence[Stage], chosen: Mapping[str, Config] | None = None
) -> tuple[tuple[Part, ...], ...]:
    """Launches in order; each is the stages of one level, with the most warps any of them wants."""
    level = levels(stages)
    beside = Counter(level.values())
    bins: dict[int, list[Part]] = {}
    for stage in stages:
        companions = min(beside[level[stage.root]], MAX_SIDE_BY_SIDE)
        part = plan_part(program, stage, (chosen or {}).get(stage.root), companions=companions)
        bins.setdefault(level[stage.root], []).append(part)
    launches: list[tuple[Part, ...]] = []
    for _, parts in sorted(bins.items()):
        for start in range(0, len(parts), MAX_SIDE_BY_SIDE):
            launches.append(tuple(parts[start : start + MAX_SIDE_BY_SIDE]))
    return tuple(launches)


def plan_part(
    program: Program, stage: Stage, config: Config | None = None, *, companions: int = 1
) -> Part:
    """A stage with its tiling; `companions`: stages in its launch, itself included."""
    shape = shape_of(program, stage)
    config = config or default_config(shape, companions=companions)
    return Part(stage, tile(program, stage, shape, config), shape.anchor)
