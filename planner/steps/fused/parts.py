"""The model in parts, for every shape of the workload: read in a sandbox, remembered by nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from planner.errors import ModelError
from planner.graph.sandbox import Bounds, Sandbox
from planner.graph.segments import Cut, cut

_LONG = Bounds(wall_s=600.0, memory_factor=24.0)
"""Lowering copies weights and folds some; a step of a recurrent layer is a node."""


class NotFused(ModelError):  # noqa: N818 - an answer, not a failure: the library runs such models
    """No part of this model is worth generating code for; says why."""


def read_cuts(
    path: Path, shapes: Sequence[Mapping[str, tuple[int, ...]]], size_bytes: int
) -> tuple[Cut, ...]:
    """The model cut between the same operators for each set of input shapes.

    Raises:
        NotFused: nothing is covered.
        ModelError: the model cannot be read.
    """
    sandbox = Sandbox("reading the model's meaning", str(path), _LONG.for_size(size_bytes))
    cuts = sandbox.call(cut, path, tuple(shapes))
    if not any(segment.program is not None for segment in cuts[0].segments):
        reasons = [text for segment in cuts[0].segments for text in segment.reasons]
        more = f", and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        raise NotFused(
            "no part of the model is worth generated kernels: " + "; ".join(reasons[:3]) + more
        )
    return cuts
