"""What each rank of an engine of fixed shapes computes in a run, timed as the engine queues it.

All parts of a rank stand in one order on one board, captured where the board can (a CUDA graph);
the collectives between them are left out. Rank by rank, so that one device has to hold no more than
one rank's weights; values do not matter to the time, so what would come from others is zeros.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from planner.profiling.parts import PartTimes, Span, passed
from planner.runtime import dtypes
from planner.runtime.device_run import can_bind, wants_host
from planner.runtime.ort import make_session, tensor_specs
from planner.runtime.ranks.board import Board
from planner.runtime.ranks.part import ResidentPart
from planner.runtime.ranks.place import Place, array_at
from planner.spec.manifest import TensorSpec

_RUNS = 60
_BUDGET_S = 1.0
_FEWEST = 7
_WARM_UP = 3
_TINY_BYTES = 16
Values = Mapping[str, np.ndarray[Any, Any]]


def time_chains(
    parts: Sequence[Any], feeds: Values, ranks: int, board_of: Callable[[], Board]
) -> PartTimes | None:
    """As `parts.time_parts`; a span for each stage. None: a shape is open.

    Args:
        parts: what `planner.emit.partition.partition` made.
        board_of: a board on the device that ranks have; asked for once a rank.
    """
    sizes: dict[str, int] = {name: value.nbytes for name, value in feeds.items()}
    spans: dict[tuple[int, ...], list[Span]] = {}
    for rank in range(ranks):
        own = [part for part in parts if rank in part.ranks]
        chain = _Chain(board_of())
        try:
            if not chain.load(own, feeds, rank):
                return None
            spans.setdefault(_members(own), []).append(chain.span())
            sizes = {**chain.sizes, **sizes}
        finally:
            chain.close()
    talks, crossings, fed = passed(parts, feeds, sizes)
    slowest = tuple(max(each, key=lambda span: span[1]) for each in spans.values())
    return PartTimes(slowest, talks, crossings, sizes, fed)


def _members(own: Sequence[Any]) -> tuple[int, ...]:
    """The ranks of the stage that a rank belongs to."""
    members: tuple[int, ...] = own[0].ranks
    return members


@dataclass(slots=True)
class _Chain:
    """One rank's parts."""

    board: Board
    sizes: dict[str, int] = field(default_factory=dict)
    _parts: list[ResidentPart] = field(default_factory=list)
    _places: dict[str, Place] = field(default_factory=dict)

    def load(self, own: Sequence[Any], feeds: Values, rank: int) -> bool:
        """Whether all shapes are fixed, and all parts take and leave tensors on the device."""
        for part in own:
            if hasattr(part, "segment"):
                self._talk(part)
                continue
            paths = [part.onnx_path, *part.shard_paths]
            path = paths[part.ranks.index(rank) if part.shard_paths else 0]
            session = make_session(path, part.settings, stream=self.board.stream)
            specs = [spec for each in tensor_specs(session) for spec in each]
            if not can_bind(specs):
                return False
            if self.board.stream is not None and wants_host(session, outputs=True):
                return False
            places = {spec.name: self._place(spec, feeds) for spec in specs}
            inputs = {name: places[name] for name in part.inputs}
            outputs = {name: places[name] for name in part.outputs}
            self._parts.append(ResidentPart(session, str(path), inputs, outputs, self.board))
        return True

    def _place(self, spec: TensorSpec, feeds: Values) -> Place:
        if spec.name in self._places:
            return self._places[spec.name]
        shape = tuple(size for size in spec.shape if size is not None)
        place = self._new(spec.name, dtypes.numpy_dtype(spec.dtype), shape)
        if spec.name in feeds:
            staging = self.board.staging(place.address, place.size_bytes)
            np.copyto(array_at(staging, place.dtype, shape), feeds[spec.name])
            self.board.upload(place.address, staging, place.size_bytes)
        return place

    def _new(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Place:
        size = math.prod(shape) * dtype.itemsize
        place = Place(self.board.allocate(size), dtype, shape)
        self._places[name] = place
        self.sizes[name] = size
        return place

    def _talk(self, talk: Any) -> None:
        """The memory of a collective's result, for whoever reads it."""
        segment, given = talk.segment, self._places[talk.segment.tensor]
        shape, axis, ranks = list(given.shape), segment.axis, len(talk.ranks)
        if segment.operation == "all_gather":
            shape[axis] *= ranks
        elif axis is not None:
            shape[axis] //= ranks
        self._new(segment.result, given.dtype, tuple(shape))

    def span(self) -> Span:
        """Quartiles, without what it costs to start any work and to wait for it."""
        size = _TINY_BYTES
        spare = self.board.allocate(2 * size)
        _, idle, _ = self._timed(
            lambda: self.board.copy_rows(spare, size, spare + size, size, size, 1)
        )
        low, middle, high = self._timed(self._queue)
        least = low / 2  # `idle` is measured apart: its noise must not take all of a short chain
        return max(low - idle, least), max(middle - idle, least), max(high - idle, least)

    def _queue(self) -> None:
        for part in self._parts:
            part.queue()

    def _timed(self, work: Callable[[], None]) -> Span:
        for _ in range(_WARM_UP):
            work()
            self.board.finish()
        run = self.board.capture(work) or work
        samples: list[float] = []
        until = time.perf_counter() + _BUDGET_S
        while len(samples) < _FEWEST or (len(samples) < _RUNS and time.perf_counter() < until):
            start = time.perf_counter()
            run()
            self.board.finish()
            samples.append((time.perf_counter() - start) * 1e6)
        low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75))
        return float(low), float(middle), float(high)

    def close(self) -> None:
        """Sessions first: they use the board's stream."""
        self._parts.clear()
        self.board.close()
