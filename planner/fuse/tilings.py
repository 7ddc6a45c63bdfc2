"""Candidates with their tilings: what a stage is cut into depends on who shares its launch.

Three products of 96 blocks each fill a device three times over where one of them fits: side by
side they want larger tiles (BERT, 128 x 768, H200: 11.4 us a launch with the tile that is best for
one of them alone, 3.9 with the one that is best for three).
"""

from __future__ import annotations

from collections.abc import Callable

from planner.fuse.candidates import Candidate, Space
from planner.fuse.schedule import plan_part
from planner.kernels.estimate import Rates, blocks_us
from planner.kernels.pace import Block, block_of
from planner.kernels.source import Numbers, Part
from planner.kernels.stage import Config, Stage

Configure = Callable[[Space, Stage], Config | None]
"""The configuration of a stage; None: the generator's default."""


class Tilings:
    """Stages of a space with their tilings, each made once: equal stages in equal company share."""

    def __init__(self, space: Space, configure: Configure) -> None:
        self._space, self._configure = space, configure
        self._known: dict[tuple[object, ...], tuple[Part, Block]] = {}

    def best(
        self, candidate: Candidate, numbers: Numbers, rates: Rates
    ) -> tuple[tuple[Part, ...], float]:
        """The cheaper of two ways, and its microseconds: each stage tiled as if it were alone, and
        as one of so many."""
        ways = [
            [self._tiled(stage, companions) for stage in candidate.stages]
            for companions in sorted({1, len(candidate.stages)})
        ]
        priced = [blocks_us([block for _, block in way], numbers, rates) for way in ways]
        found = min(range(len(ways)), key=priced.__getitem__)
        return tuple(part for part, _ in ways[found]), priced[found]

    def _tiled(self, stage: Stage, companions: int) -> tuple[Part, Block]:
        key = (stage.root, stage.reads, stage.also, companions)
        if key not in self._known:
            program, config = self._space.program, self._configure(self._space, stage)
            part = plan_part(program, stage, config, companions=companions)
            self._known[key] = part, block_of(program, part)
        return self._known[key]
