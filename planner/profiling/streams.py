"""Parts of an engine on one device, timed with their weights resident and with weights that stream.

A part that streams is timed with its weights in place, and fetching them apart: what of the two
overlaps is the predictor's business. In one process, one part after the other, on real values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.errors import InfoptError
from planner.runtime.allocator import give_back_at_once
from planner.runtime.ort import bind, make_session
from planner.runtime.refusals import ORT_ERRORS
from planner.runtime.streaming.mapped import Mapped

Array = np.ndarray[Any, Any]
Span = tuple[float, float, float]
"""Quartiles: 25, 50 and 75 %, microseconds."""

_REFUSALS: tuple[type[Exception], ...] = (InfoptError, *ORT_ERRORS)
_RUNS = 25
_FEWEST = 5
_WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Timed:
    """One part."""

    compute: Span
    fetch: Span = (0.0, 0.0, 0.0)
    """Of its weights out of the page cache, where they stream."""


def time_streams(
    pairs: Sequence[tuple[Any, Any]], feeds: Mapping[str, Array], seconds: float
) -> list[tuple[Timed, Timed | None]]:
    """Times both of each pair; the values that the first makes go on to the next pair.

    Args:
        pairs: a part of an engine, and the same with weights that stream, or None. The second is
            None in the result, too, where ONNX Runtime does not run it.
        seconds: for each timing.
    """
    give_back_at_once()
    alive = dict(feeds)
    found = []
    for part, other in pairs:
        timed, made = _timed(part, alive, seconds)
        found.append((timed, _tried(other, alive, seconds)))
        alive.update(made)
    return found


def _tried(part: Any, alive: Mapping[str, Array], seconds: float) -> Timed | None:
    """None: weights that it does not know beforehand are refused by some operators."""
    if part is None or part.outside is None:
        return None
    try:
        return _timed(part, alive, seconds)[0]
    except _REFUSALS:
        return None


def _timed(part: Any, alive: Mapping[str, Array], seconds: float) -> tuple[Timed, dict[str, Array]]:
    session = make_session(part.onnx_path, part.settings, has_arena=False)
    run = bind(session, part.outputs)
    own = {name: alive[name] for name in part.inputs}
    if part.outside is None:
        values, compute = _spans(lambda: run(own), seconds)
        return Timed(compute), dict(zip(part.outputs, values, strict=True))
    mapped = Mapped(part.outside.path, part.outside.tensors)
    _, fetch = _spans(mapped.fetch, seconds, mapped.release)
    given = {**own, **mapped.arrays}
    values, compute = _spans(lambda: run(given), seconds)
    mapped.release()
    return Timed(compute, fetch), dict(zip(part.outputs, values, strict=True))


def _spans(
    call: Callable[[], Any], seconds: float, undo: Callable[[], None] = lambda: None
) -> tuple[Any, Span]:
    """What the last call returned, and how long calls take."""
    samples: list[float] = []
    until = time.perf_counter() + seconds
    result: Any = None
    for number in range(_RUNS + _WARM_UP):
        begun = time.perf_counter()
        result = call()
        took = (time.perf_counter() - begun) * 1e6
        undo()
        if number >= _WARM_UP:
            samples.append(took)
        if len(samples) >= _FEWEST and time.perf_counter() > until:
            break
    low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75))
    return result, (float(low), float(middle), float(high))
