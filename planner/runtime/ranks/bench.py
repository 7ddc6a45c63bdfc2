"""Ranks that measure how fast they talk, then serve empty runs: `measure_links`.

python -m planner.runtime.ranks.bench host|device SOCKET LIBRARY WORLD MEETING [RANK]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from planner.runtime.ranks.fabric import Fabric, Group
from planner.runtime.ranks.group import RankGroup
from planner.runtime.ranks.program import Program
from planner.runtime.ranks.worker import Action, serve

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
        on_device: tensors stay in the devices' memory; else they come from the host and go back to
            it, as they do between the parts of an engine.

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


def _prepare(world: int, place: str, fabric: Fabric) -> tuple[Program, list[Action], object]:
    group = fabric.group(tuple(range(world)))
    found: dict[str, dict[int, tuple[float, float, float]]] = {}

    def timed(kind: str, size: int, call: Callable[[], object]) -> None:
        runs = _agreed(group, call)
        found.setdefault(kind, {})[size] = _quartiles(call, runs)

    for size in SIZES_BYTES:
        whole = _placed(fabric, place, np.ones((world, size // 4 // world), np.float32))
        part = _placed(fabric, place, np.ones((1, size // 4 // world), np.float32))
        timed("all_reduce", size, partial(group.all_reduce, whole))
        timed("all_gather", size, partial(group.all_gather, part, 0))
        timed("reduce_scatter", size, partial(group.reduce_scatter, whole, 0))
        timed("send", size, partial(_there_and_back, fabric, world, whole))
    found["send"] = {size: _halved(times) for size, times in found["send"].items()}
    return _ECHO if fabric.rank == 0 else _IDLE, [], found


def _placed(fabric: Fabric, place: str, value: Any) -> Any:
    """In the memory of the device, where that is asked for and there is one."""
    move = getattr(fabric, "on_device", None) if place == _DEVICE else None
    return value if move is None else move(value)


def _agreed(group: Group, call: Callable[[], object]) -> int:
    """How often to run: all ranks must do the same number, so they add up what they think."""
    start = time.perf_counter()
    call()
    seconds = max(time.perf_counter() - start, 1e-7)
    total = group.all_reduce(np.array([seconds], np.float32))
    return int(min(max(_BUDGET_S / float(total[0]), _FEWEST_RUNS), _MOST_RUNS))


def _there_and_back(fabric: Fabric, world: int, value: object) -> None:
    """From the first rank to the last and back."""
    if not isinstance(value, np.ndarray):
        if fabric.rank in (0, world - 1):
            swap = fabric.swap  # type: ignore[attr-defined]
            swap(value, world - 1 - fabric.rank, is_first=fabric.rank == 0)
        return
    if fabric.rank == 0:
        fabric.send(value, world - 1)
        fabric.receive(world - 1)
    elif fabric.rank == world - 1:
        fabric.receive(0)
        fabric.send(value, 0)


def _halved(times: tuple[float, float, float]) -> tuple[float, float, float]:
    low, middle, high = times
    return low / 2, middle / 2, high / 2


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:], lambda fabric: _prepare(int(sys.argv[4]), sys.argv[1], fabric)))
