"""How many parts weights that stream to a GPU come in.

Every part is a session of its own, with handles of the GPU's libraries. Two places on the device
hold the weights of the part that runs and of the one behind it. So few parts take large places, and
many parts take many handles:

    bytes(parts) = 2 * largest part + session * parts

The fewest bytes are near sqrt(2 * streamed * session) a place; what is found here is the least over
places that grow by a twentieth, groups staying whole and in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

SESSION_BYTES = 23_000_000
"""Of a part: 22 MiB of an H200 gone per session of ONNX Runtime 1.31.1 with two products, cuBLAS
held to `CUBLAS_WORKSPACE_CONFIG=:16:8` (150 MiB without), driver 580.159.04, 2026-11-28."""
_PLACES = 2
_GROWTH = 1.05


@dataclass(frozen=True, slots=True)
class Run:
    """Groups in a row whose weights stream, or are resident: a part's groups are of one run."""

    sizes_bytes: tuple[int, ...]
    """Weights of each group."""
    is_streamed: bool


def merged(runs: Sequence[Run], session_bytes: int = SESSION_BYTES) -> tuple[tuple[int, ...], ...]:
    """For each run, how many groups each of its parts has; resident ones are one part."""
    streamed = [size for run in runs if run.is_streamed for size in run.sizes_bytes]
    if not streamed:
        return tuple((len(run.sizes_bytes),) for run in runs)
    ways = [
        tuple(
            tuple(_packed(run.sizes_bytes, place)) if run.is_streamed else (len(run.sizes_bytes),)
            for run in runs
        )
        for place in _places(max(streamed), sum(streamed))
    ]
    return min(ways, key=lambda way: held_bytes(runs, way, session_bytes))


def held_bytes(
    runs: Sequence[Run], parts: Sequence[Sequence[int]], session_bytes: int = SESSION_BYTES
) -> int:
    """What places and sessions of these parts hold."""
    largest = max(
        (
            size
            for run, counts in zip(runs, parts, strict=True)
            if run.is_streamed
            for size in _sizes(run.sizes_bytes, counts)
        ),
        default=0,
    )
    return _PLACES * largest + session_bytes * sum(len(counts) for counts in parts)


def _places(least: int, most: int) -> Iterator[int]:
    place = float(least)
    while place < most:
        yield int(place)
        place = max(place * _GROWTH, place + 1)
    yield most


def _packed(sizes: Sequence[int], place_bytes: int) -> Iterator[int]:
    """Groups of each part, filled one after the other."""
    count = held = 0
    for size in sizes:
        if count and held + size > place_bytes:
            yield count
            count = held = 0
        count, held = count + 1, held + size
    yield count


def _sizes(sizes: Sequence[int], counts: Sequence[int]) -> Iterator[int]:
    start = 0
    for count in counts:
        yield sum(sizes[start : start + count])
        start += count


class StreamingParts:
    """The parts of one device, chosen once: places are tried over all groups."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = tuple(runs)
        self.is_streamed = any(run.is_streamed for run in self.runs)
        self.counts = merged(self.runs)
        """Groups of each part, by run."""

    @property
    def uncounted_bytes(self) -> int:
        """What they hold beyond what the solver counts of them: the largest two groups in a row, of
        which one runs while the other comes."""
        if not self.is_streamed:
            return 0
        counted = max(
            sum(run.sizes_bytes[first : first + _PLACES])
            for run in self.runs
            if run.is_streamed
            for first in range(len(run.sizes_bytes))
        )
        return max(held_bytes(self.runs, self.counts) - counted, 0)
