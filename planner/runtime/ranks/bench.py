"""Ranks that measure how fast they talk, then serve empty runs: `measure_links`.

python -m planner.runtime.ranks.bench host|device SOCKET LIBRARY WORLD MEETING [RANK]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from planner.runtime.ranks.board import Board
from planner.runtime.ranks.fabric import Fabric, Group
from planner.runtime.ranks.group import RankGroup
from planner.runtime.ranks.place import Place
from planner.runtime.ranks.program import Program
from planner.runtime.ranks.resident import Resident
from planner.runtime.ranks.talk import Talk
from planner.runtime.ranks.worker import Answer, Call, serve

SIZES_BYTES = (1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 22)
_MOST_RUNS = 60
_BUDGET_S = 0.25
"""Of one kind and size."""
_FEWEST_RUNS = 7
_WARM_UP_RUNS = 3
_DRIVER_RUNS = 60
_TIMEOUT_S = 60.0
_HOST, _DEVICE = "host", "device"
_IDLE = Program((), (), ())
_QUEUED = 10
"""Collectives that are queued before the host waits."""
Probe = tuple[str, int, Callable[[], object], int]
"""Kind, bytes, what to time, how many of that kind it does."""
_ECHO = Program(("value",), (), ("value",))


@dataclass(frozen=True, slots=True)
class Links:
    """How fast ranks talk here, microseconds: quartiles (25, 50, 75 %) by kind and bytes."""

    library: str
    ranks: int
    times_us: dict[str, dict[int, tuple[float, float, float]]]
    """`all_reduce`, `all_gather`, `reduce_scatter`, `send`; bytes of the whole tensor."""
    driver_us: dict[int, tuple[float, float, float]]
    """A run in which the first rank hands back what it is given, by bytes: what driving costs."""

    def driven_us(self, size_bytes: float) -> tuple[float, float, float]:
        """What driving a run costs that hands so many bytes over, both ways together."""
        return _interpolated(self.driver_us, size_bytes / 2)

    def time_us(self, kind: str, size_bytes: float) -> tuple[float, float, float]:
        """Between measured sizes by interpolation, beyond the largest at its bandwidth."""
        return _interpolated(self.times_us[kind], size_bytes)


def _interpolated(
    times: dict[int, tuple[float, float, float]], size_bytes: float
) -> tuple[float, float, float]:
    points = sorted(times.items())
    sizes = [float(size) for size, _ in points]
    if size_bytes > sizes[-1]:
        scale = size_bytes / sizes[-1]
        low, middle, high = points[-1][1]
        return low * scale, middle * scale, high * scale
    low, middle, high = (
        float(np.interp(size_bytes, sizes, [own[n] for _, own in points])) for n in range(3)
    )
    return low, middle, high


def measure_links(library: str, ranks: int, *, on_device: bool = False) -> Links:
    """Starts ranks, has them talk, and ends them; a few seconds.

    Args:
        on_device: tensors stay where they are, as in engines of fixed shapes; else they come from
            the host and go back to it for each.

    Raises:
        EnvironmentMismatchError: they cannot be started.
    """
    place = Path(_DEVICE if on_device else _HOST)
    programs = [_ECHO, *[_IDLE] * (ranks - 1)]
    group = RankGroup(place, programs, library, __name__)
    try:
        times = dict(group.told[0])
        driver = {}
        for size in SIZES_BYTES:
            value = {"value": np.ones(size // 4, np.float32)}
            driver[size] = _quartiles(partial(group.run, value, _TIMEOUT_S), _DRIVER_RUNS)
    finally:
        group.end()
    return Links(library, ranks, times, driver)


def _quartiles(call: Callable[[], object], most: int) -> tuple[float, float, float]:
    for _ in range(_WARM_UP_RUNS):
        call()
    samples: list[float] = []
    for _ in range(most):
        start = time.perf_counter()
        call()
        samples.append((time.perf_counter() - start) * 1e6)
    low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def _prepare(world: int, place: str, fabric: Fabric) -> tuple[Call, object]:
    group = fabric.group(tuple(range(world)))
    probes = _resident(world, fabric, group) if place == _DEVICE else _hosted(world, fabric, group)
    found: dict[str, dict[int, tuple[float, float, float]]] = {}
    for kind, size, call, repeats in probes:
        times = _quartiles(call, _agreed(group, call))
        found.setdefault(kind, {})[size] = _scaled(times, 1 / repeats)
    if fabric.rank != 0:
        return _nothing, found
    return (_Echo(fabric.talk()) if place == _DEVICE else _back), found


def _back(feeds: Sequence[Any]) -> Answer:
    return None, list(feeds)


def _nothing(feeds: Sequence[Any]) -> Answer:
    return None, []


class _Echo:
    """To the device and back, as a rank that computes nothing."""

    def __init__(self, talk: Talk) -> None:
        kinds = {size: (np.dtype(np.float32), (size // 4,)) for size in SIZES_BYTES}
        self._ways = {
            size: Resident(_ECHO, {"value": kind}, {}, {}, talk) for size, kind in kinds.items()
        }
        for way in self._ways.values():
            way.prepare(lambda holds: holds)
        self.windows = [block for way in self._ways.values() for block in way.windows]

    def __call__(self, feeds: Sequence[Any]) -> Answer:
        return self._ways[feeds[0].nbytes](feeds)


def _hosted(world: int, fabric: Fabric, group: Group) -> Iterator[Probe]:
    """Tensors come from the host and go back to it, as between parts of open shapes."""
    for size in SIZES_BYTES:
        whole = np.ones((world, size // 4 // world), np.float32)
        yield "all_reduce", size, partial(group.all_reduce, whole), 1
        yield "all_gather", size, partial(group.all_gather, whole[:1], 0), 1
        yield "reduce_scatter", size, partial(group.reduce_scatter, whole, 0), 1
        yield "send", size, partial(_there_and_back, fabric, world, whole), 2


def _resident(world: int, fabric: Fabric, group: Group) -> Iterator[Probe]:
    """Tensors stay where they are, and several collectives are queued at once, as in an engine."""
    talk = fabric.talk()
    board = talk.board
    for size in SIZES_BYTES:
        shape = (world, size // 4 // world)
        whole, other, piece = (
            Place(board.allocate(size), np.dtype(np.float32), each)
            for each in (shape, shape, (1, shape[1]))
        )
        for kind, axis, source, target in (
            ("all_reduce", None, whole, whole),
            ("all_gather", 0, piece, other),
            ("reduce_scatter", 0, whole, piece),
        ):
            work = partial(talk.together, group, kind, axis, source, target)
            yield kind, size, _queued(board, work), _QUEUED
        swap = partial(_swap, talk, fabric.rank, world, whole)
        yield "send", size, _queued(board, swap), 2 * _QUEUED


def _queued(board: Board, work: Callable[[], object]) -> Callable[[], None]:
    """The same many times over, captured where that goes; the host waits for the last."""

    def several() -> None:
        for _ in range(_QUEUED):
            work()

    several()
    board.finish()
    replay = board.capture(several) or several

    def call() -> None:
        replay()
        board.finish()

    return call


def _swap(talk: Talk, rank: int, world: int, place: Place) -> None:
    """From the first rank to the last and back."""
    if rank not in (0, world - 1):
        return
    calls = (talk.send, talk.receive)
    for call in calls if rank == 0 else calls[::-1]:
        call(place, world - 1 - rank)


def _agreed(group: Group, call: Callable[[], object]) -> int:
    """How often to run: all ranks must do the same number, so they add up what they think."""
    start = time.perf_counter()
    call()
    seconds = max(time.perf_counter() - start, 1e-7)
    total = group.all_reduce(np.array([seconds], np.float32))
    return int(min(max(_BUDGET_S / float(total[0]), _FEWEST_RUNS), _MOST_RUNS))


def _there_and_back(fabric: Fabric, world: int, value: object) -> None:
    """From the first rank to the last and back."""
    if fabric.rank == 0:
        fabric.send(value, world - 1)
        fabric.receive(world - 1)
    elif fabric.rank == world - 1:
        fabric.receive(0)
        fabric.send(value, 0)


def _scaled(times: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    low, middle, high = (time * factor for time in times)
    return low, middle, high


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:], lambda fabric: _prepare(int(sys.argv[4]), sys.argv[1], fabric)))
