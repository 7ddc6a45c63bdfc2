"""The parts of an engine of several ranks, timed one after the other in this process.

Every rank's part runs on what it would get, collectives are computed here, so that each part sees
real values; what passes between ranks is only counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from planner.runtime.ort import bind, make_session
from planner.runtime.ranks.fabric import slice_of
from planner.spec.manifest import CollectiveSegment
from planner.spec.session import SessionSettings

Array = np.ndarray[Any, Any]
Span = tuple[float, float, float]
"""Quartiles: 25, 50 and 75 %, microseconds."""

_RUNS = 40
_BUDGET_S = 0.5
_FEWEST = 7
_WARM_UP = 3


class _Part(Protocol):
    onnx_path: Path
    shard_paths: tuple[Path, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ranks: tuple[int, ...]
    settings: SessionSettings


class _Talk(Protocol):
    segment: CollectiveSegment
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PartTimes:
    """What one run is made of."""

    parts_us: tuple[Span, ...]
    """Of each part, on its slowest rank."""
    talks: tuple[tuple[str, int], ...]
    """(operation, bytes of the whole tensor) of each collective."""
    crossings: tuple[int, ...]
    """Bytes of each tensor that passes from one stage to the next."""
    outputs: Mapping[str, Array]
    """All that rank 0 has in the end, the results of the model among it."""


def time_parts(parts: Sequence[Any], feeds: Mapping[str, Array], ranks: int) -> PartTimes:
    """Runs and times them.

    Args:
        parts: what `planner.emit.partition.partition` made.
        ranks: how many there are in all.
    """
    alive: list[dict[str, Array]] = [dict(feeds) for _ in range(ranks)]
    home: dict[str, tuple[int, ...]] = {}
    spans: list[Span] = []
    talks: list[tuple[str, int]] = []
    crossings: dict[tuple[str, tuple[int, ...]], int] = {}
    for part in parts:
        members = part.ranks
        if hasattr(part, "segment"):
            talks.append(_talk(part, alive))
            home[part.segment.result] = members
            continue
        for name in part.inputs:
            if home.get(name, members) != members:
                crossings[name, members] = alive[members[0]][name].nbytes
        spans.append(_run(part, alive))
        home.update(dict.fromkeys(part.outputs, members))
    return PartTimes(tuple(spans), tuple(talks), tuple(crossings.values()), alive[0])


def _run(part: _Part, alive: list[dict[str, Array]]) -> Span:
    """The part on every rank; the slowest rank's time."""
    found: list[Span] = []
    paths = [part.onnx_path, *part.shard_paths]
    for place, rank in enumerate(part.ranks):
        session = make_session(paths[place if part.shard_paths else 0], part.settings)
        run = bind(session, part.outputs)
        own = {name: alive[rank][name] for name in part.inputs}
        found.append(_timed(partial(run, own)))
        alive[rank].update(zip(part.outputs, run(own), strict=True))
    for rank in set(range(len(alive))) - set(part.ranks):
        alive[rank].update({name: alive[part.ranks[0]][name] for name in part.outputs})
    return max(found, key=lambda span: span[1])


def _timed(call: Callable[[], object]) -> Span:
    for _ in range(_WARM_UP):
        call()
    samples: list[float] = []
    until = time.perf_counter() + _BUDGET_S
    while len(samples) < _FEWEST or (len(samples) < _RUNS and time.perf_counter() < until):
        start = time.perf_counter()
        call()
        samples.append((time.perf_counter() - start) * 1e6)
    low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def _talk(talk: _Talk, alive: list[dict[str, Array]]) -> tuple[str, int]:
    segment, members = talk.segment, talk.ranks
    values = [alive[rank][segment.tensor] for rank in members]
    joined: Array = (
        np.concatenate(values, axis=segment.axis)
        if segment.operation == "all_gather"
        else np.sum(values, axis=0, dtype=values[0].dtype)
    )
    for place, rank in enumerate(members):
        made = joined
        if segment.operation == "reduce_scatter":
            made = slice_of(joined, segment.axis or 0, place, len(members))
        alive[rank][segment.result] = made
    for rank in set(range(len(alive))) - set(members):
        alive[rank][segment.result] = alive[members[0]][segment.result]
    return segment.operation, joined.nbytes
