"""Who executes which operators of a plan: stages in order, their ranks, and what each is cut along.

In plan.json; empty where one device does all and keeps all weights.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.spec.base import Document


class Cut(Document):
    """How the ranks of a stage share one operator."""

    kind: Literal["parallel", "sum", "lookup"]
    """Whether each has its part of the results, or a summand of them."""
    operands: tuple[tuple[int, int], ...]
    """(operand, axis) that are cut; names one index of `planner.ops.sharding`."""
    results: tuple[tuple[int, int], ...] = ()
    """(result, axis) that are cut in turn."""


class StageExecution(Document):
    """One stage of a pipeline; a plan of one stage of several ranks is sharded only."""

    device: Literal["cpu", "cuda"] = "cpu"
    ranks: tuple[int, ...] = Field(default=(0,), min_length=1)
    """One device each: rank n runs on GPU n."""
    threads: int = Field(default=0, ge=0)
    """Of each rank inside one operator, on CPUs; 0: as the plan's settings say."""
    ops: tuple[str, ...]
    is_streamed: bool = False
    """Whether its weights are fetched for each run, and let go after it."""
    cuts: dict[str, Cut] = Field(default_factory=dict)
    """By operator; what is not in it, every rank does whole."""
