"""The parts of an engine of several ranks, timed one after the other in this process.

Every rank's part runs on what it would get, collectives are computed here, so that each part sees
real values; what passes between ranks is only counted. Ranks of a stage run side by side, a thread
each, since they share caches and memory; ranks that would wait meanwhile poll on cores of their own
where their library polls.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from planner.runtime.device_run import can_bind
from planner.runtime.ort import bind, make_session, tensor_specs
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
    """Of each part, until its slowest rank is done."""
    talks: tuple[tuple[str, int], ...]
    """(operation, bytes of the whole tensor) of each collective."""
    crossings: tuple[int, ...]
    """Bytes of each tensor that passes from one stage to the next."""
    sizes: Mapping[str, int]
    """Bytes of each tensor that rank 0 has or would get, the results of the model among them."""
    fed_bytes: int
    """What the driver hands to ranks."""
    is_resident: bool = True
    """Whether shapes are fixed, so that tensors stay where they are."""
    outputs: Mapping[str, Array] = field(default_factory=dict)
    """All that rank 0 has in the end, where values were computed."""


def time_parts(
    parts: Sequence[Any], feeds: Mapping[str, Array], ranks: int, polls: bool = False
) -> PartTimes:
    """Runs and times them.

    Args:
        parts: what `planner.emit.partition.partition` made.
        ranks: how many there are in all.
        polls: whether ranks that wait for others keep a core busy.
    """
    alive: list[dict[str, Array]] = [dict(feeds) for _ in range(ranks)]
    spans: list[Span] = []
    is_resident = True
    for part in parts:
        if hasattr(part, "segment"):
            _talk(part, alive)
            continue
        with _pollers(ranks - len(part.ranks) if polls else 0):
            span, is_fixed = _run(part, alive)
        spans.append(span)
        is_resident &= is_fixed
    sizes = {name: value.nbytes for name, value in alive[0].items()}
    talks, crossings, fed_bytes = passed(parts, feeds, sizes)
    return PartTimes(tuple(spans), talks, crossings, sizes, fed_bytes, is_resident, alive[0])


def passed(
    parts: Sequence[Any], feeds: Mapping[str, Array], sizes: Mapping[str, int]
) -> tuple[tuple[tuple[str, int], ...], tuple[int, ...], int]:
    """Collectives, what crosses between stages, and bytes that the driver hands out."""
    home: dict[str, tuple[int, ...]] = {}
    talks: list[tuple[str, int]] = []
    crossings: dict[tuple[str, tuple[int, ...]], int] = {}
    fed: set[tuple[int, str]] = set()
    for part in parts:
        if hasattr(part, "segment"):
            segment = part.segment
            gathers = segment.operation == "all_gather"
            talks.append((segment.operation, sizes[segment.result if gathers else segment.tensor]))
            home[segment.result] = part.ranks
            continue
        for name in part.inputs:
            if home.get(name, part.ranks) != part.ranks:
                crossings[name, part.ranks] = sizes[name]
            if name in feeds:
                fed.update((rank, name) for rank in part.ranks)
        home.update(dict.fromkeys(part.outputs, part.ranks))
    return tuple(talks), tuple(crossings.values()), sum(sizes[name] for _, name in fed)


@contextmanager
def _pollers(count: int) -> Iterator[None]:
    """Processes that do nothing, busily, and let others go first, as MPICH's waiting does."""
    command = [sys.executable, "-S", "-c", "import os\nwhile True: os.sched_yield()"]
    running = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def _run(part: _Part, alive: list[dict[str, Array]]) -> tuple[Span, bool]:
    """The part on every rank: the slowest rank's time, and whether all its shapes are fixed."""
    calls: list[Callable[[], object]] = []
    is_fixed = True
    paths = [part.onnx_path, *part.shard_paths]
    for place, rank in enumerate(part.ranks):
        session = make_session(paths[place if part.shard_paths else 0], part.settings)
        is_fixed &= all(map(can_bind, tensor_specs(session)))
        run = bind(session, part.outputs)
        own = {name: alive[rank][name] for name in part.inputs}
        calls.append(partial(run, own))
        alive[rank].update(zip(part.outputs, run(own), strict=True))
    for rank in set(range(len(alive))) - set(part.ranks):
        alive[rank].update({name: alive[part.ranks[0]][name] for name in part.outputs})
    if part.settings.provider != "cpu":  # here all would share one device
        return max((_timed([call]) for call in calls), key=lambda span: span[1]), is_fixed
    return _timed(calls), is_fixed


def _timed(calls: Sequence[Callable[[], object]]) -> Span:
    """Calls side by side, each in a thread: the longest of each round."""
    start = threading.Barrier(len(calls))

    def timed(call: Callable[[], object]) -> float:
        start.wait()
        begun = time.perf_counter()
        call()
        return (time.perf_counter() - begun) * 1e6

    samples: list[float] = []
    with ThreadPoolExecutor(len(calls)) as pool:
        for _ in range(_WARM_UP):
            list(pool.map(timed, calls))
        until = time.perf_counter() + _BUDGET_S
        while len(samples) < _FEWEST or (len(samples) < _RUNS and time.perf_counter() < until):
            samples.append(max(pool.map(timed, calls)))
    low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def _talk(talk: _Talk, alive: list[dict[str, Array]]) -> None:
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
