"""Measured configurations: each stage's candidates compiled and timed, the fastest kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from planner.fuse.build import Draft
from planner.fuse.schedule import plan_part
from planner.kernels.compile import Compiled
from planner.kernels.source import Kernel, kernel
from planner.kernels.stage import Config, Stage
from planner.kernels.tiling import candidates, shape_of

Measure = Callable[[Kernel, Compiled], float]
"""Microseconds of one launch."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A stage in one configuration, as a kernel of its own."""

    stage: Stage
    config: Config
    kernel: Kernel


def trials(plan: Draft, *, limit: int = 12) -> tuple[Trial, ...]:
    """Every candidate of every stage; equal kernels of repeated layers appear once a stage."""
    found = []
    for stage in plan.stages:
        shape = shape_of(plan.program, stage)
        for config in candidates(shape)[:limit]:
            part = plan_part(plan.program, stage, config)
            found.append(Trial(stage, config, kernel(plan.program, (part,), plan.numbers)))
    return tuple(found)


def choose(listed: Sequence[Trial], taken_us: Mapping[str, float]) -> dict[str, Config]:
    """Root -> the fastest configuration, by kernel name; what failed to compile has no time."""
    best: dict[str, tuple[float, Config]] = {}
    for trial in listed:
        time_us = taken_us.get(trial.kernel.name)
        if time_us is None:
            continue
        root = trial.stage.root
        if root not in best or time_us < best[root][0]:
            best[root] = (time_us, trial.config)
    return {root: config for root, (_, config) in best.items()}
