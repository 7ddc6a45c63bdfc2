"""Where groups keep their weights, and in which parts those of one device stream."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Literal

from planner.ir.solution import Solution, Stage
from planner.place.variant import HOST, Variant
from planner.steps.away.parts import Run, StreamingParts

PEER = "peer"
"""Name of the store in a neighbour's memory."""
Residency = Literal["device", "host", "peer"]


def residency(variant: Variant, stage: Stage) -> Residency:
    """Where a group keeps its weights between runs: its option says so, or its stage does."""
    stored = dict(stage.stored).get(variant.option.name)
    if stored is not None:
        return "peer" if stored == PEER else "host"
    return "host" if variant.residency == HOST else "device"


def parts_of(solution: Solution, variants: Mapping[str, Variant]) -> StreamingParts:
    """In which the weights of one device come; none on several, where no engine streams."""
    totals = solution.totals
    if totals is None or totals.devices > 1:
        return StreamingParts(())
    (stage,) = solution.stages
    return StreamingParts(
        Run(tuple(v.priced.weight_size_bytes for v in own), is_streamed)
        for is_streamed, own in groupby(
            (variants[name] for name in stage.chosen),
            lambda variant: residency(variant, stage) == "host",
        )
    )
