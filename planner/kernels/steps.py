"""The launches that a loop stands for, as one of them and how its arguments move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from planner.errors import InfoptError
from planner.runtime.fused.manifest import Launch, Loop, Refusal


def loop_of(position: int, steps: Sequence[Launch], refused: Mapping[int, str]) -> Loop:
    """The loop at a position of a bucket.

    Args:
        steps: its steps as launches, at their addresses.
        refused: architectures that hold no kernel for it, and why.

    Raises:
        InfoptError: they do not move at a constant stride.
    """
    first = steps[0]
    strides = tuple(_moved(first, steps[1]))
    for before, after in pairwise(steps):
        if after.kernel != first.kernel or tuple(_moved(before, after)) != strides:
            raise InfoptError(f"the steps of the loop at launch {position} do not lie evenly")
    every = tuple(name for step in steps for name in step.makes)
    told = tuple(Refusal(architecture, refused[architecture]) for architecture in sorted(refused))
    return Loop(position, len(steps), replace(first, makes=every), strides, told)


def _moved(before: Launch, after: Launch) -> Iterator[int]:
    for one, other in zip(before.arguments, after.arguments, strict=True):
        if one.space != other.space:
            raise InfoptError(f"an argument of {before.kernel} moves between memories")
        yield other.offset - one.offset
