"""How much of a multiprocessor's memory kernels ask for as shared memory, on the device that is
here: one share for all kernels of a part, the one its graph is fastest with.

Why one for all: `planner.runtime.fused.driver.SHARED_PERCENT`. Which one is best is a matter of
what the kernels keep in the rest, the cache, and no rule was found that says it beforehand: over 37
engines on an H200 the default took 0.948 of the driver's own choice, the best of these 0.933.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import EnvironmentMismatchError
from planner.runtime.engine import Session
from planner.runtime.fused.driver import DRIVERS_OWN, SHARES
from planner.runtime.fused.session import FusedSession, open_checked
from planner.units import format_duration

GAIN = 0.99
"""A rival is taken where it takes at most this share of the time: less is noise."""
_ROUNDS, _REPLAYS = 9, 20
Feeds = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Share:
    """The best share of a part, and what its graphs took with each."""

    percent: int
    taken_us: Mapping[int, float]

    @property
    def text(self) -> str:
        """`50 % shared memory 81 us, 25 % 79 us: 25 % from now on`."""
        told = ", ".join(f"{_name(p)} {format_duration(us)}" for p, us in self.taken_us.items())
        return f"shared memory: {told}: {_name(self.percent)} from now on"


def _name(percent: int) -> str:
    return "as the driver chooses" if percent == DRIVERS_OWN else f"{percent} %"


def shares(
    engine: Path,
    kernels: Session,
    given: Mapping[str, Sequence[Feeds]],
    apart: Mapping[str, Mapping[str, str]],
) -> dict[str, Share]:
    """Part -> its best share.

    Args:
        kernels: the engine as built, its loops as they were found to be better. Where its kernels
            were tuned with another share than the default, that one is the one to beat.
        given: part -> inputs of each bucket that counts.
        apart: part -> kernels of loops that run as launches, and why; parts without loops may be
            absent.
    """
    return {
        part.file: best(
            engine / part.file, part.kernels, given[part.file], apart.get(part.file, {})
        )
        for part in kernels.parts
        if part.kernels is not None
    }


def best(
    folder: Path, first: FusedSession, given: Sequence[Feeds], apart: Mapping[str, str]
) -> Share:
    """The first share against each rival in turn; no more than one of them is open at a time, since
    each holds all weights once more."""
    found, taken_us = first.shared_percent, dict[int, float]()
    least = 1.0
    for percent in SHARES:
        if percent == first.shared_percent:
            continue
        try:
            with open_checked(folder, apart=apart, shared_percent=percent) as other:
                own_us, other_us = _in_turn(first, other, given)
        except EnvironmentMismatchError:  # no room for it: the first stays
            continue
        taken_us.setdefault(first.shared_percent, own_us)
        taken_us[percent] = other_us
        if other_us / own_us < least * GAIN:
            found, least = percent, other_us / own_us
    return Share(found, taken_us)


def _in_turn(one: FusedSession, other: FusedSession, given: Sequence[Feeds]) -> tuple[float, float]:
    """Microseconds of the graphs of all buckets, medians of rounds."""
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(_ROUNDS):
        for held, session in zip(taken, (one, other), strict=True):
            held.append(sum(session.replay_us(feeds, _REPLAYS) for feeds in given))
    return statistics.median(taken[0]), statistics.median(taken[1])
