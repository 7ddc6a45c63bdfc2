"""A rank's program on memory that never moves: nothing is allocated, and the host waits once a run.

    staging -> upload -> part -> collective -> part -> ... -> download -> staging     (one order)

On a GPU all of it is queued on one stream, ONNX Runtime's kernels and NCCL's alike; where it can be
captured, a run is one CUDA graph. On a CPU the same steps are done one by one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.errors import DataError, InfoptError
from planner.runtime.ranks.fault import Fault, fault_of
from planner.runtime.ranks.layout import Kind, placed
from planner.runtime.ranks.part import ResidentPart
from planner.runtime.ranks.place import Array, Place, array_at
from planner.runtime.ranks.program import Compute, Program, Send, Step, Together
from planner.runtime.ranks.talk import Talk
from planner.runtime.ranks.windows import Block

_WARM_UP_RUNS = 2
"""Libraries choose kernels and take memory in the first; the second is what later ones are like."""
_REPLAYS = 2
_TOLERANCE = 1e-3
"""Of a graph's answers against those of the runs that it was made of, relative."""


@dataclass(frozen=True, slots=True)
class Move:
    """A step, ready to be queued."""

    queue: Callable[[], None]
    is_talk: bool
    """Others wait for it, so it is done even where a step before has failed."""


@dataclass(frozen=True, slots=True)
class _Door:
    """Where a tensor of the engine comes in or goes out."""

    place: Place
    staging: int

    @property
    def array(self) -> Array:
        return array_at(self.staging, self.place.dtype, self.place.shape)


class Resident:
    """Ready to run; one run at a time."""

    def __init__(
        self,
        program: Program,
        kinds: Mapping[str, Kind],
        sessions: Mapping[str, Any],
        groups: Mapping[tuple[int, ...], Any],
        talk: Talk,
    ) -> None:
        """
        Args:
            kinds: what each tensor is (`layout.kinds_of`).
            sessions: ONNX Runtime's, by file.

        Raises:
            EnvironmentMismatchError: not enough memory, or a sum that the library cannot make.
        """
        self.board = talk.board
        self._program = program
        first, *places, last = placed(program, kinds, self.board)
        self._feeds = [self._door(first[name]) for name in program.feeds]
        self._returns = [self._door(last[name]) for name in program.returns]
        self.moves = [
            _move(step, at, sessions, groups, talk)
            for step, at in zip(program.steps, places, strict=True)
        ]
        self._replay: Callable[[], None] | None = None

    def _door(self, place: Place) -> _Door:
        return _Door(place, self.board.staging(place.address, place.size_bytes))

    @property
    def windows(self) -> list[Block]:
        """What the driver may look into for results."""
        found = (self.board.block(door.staging) for door in self._returns)
        return [block for block in found if block is not None]

    @property
    def is_captured(self) -> bool:
        """Whether a run is one graph."""
        return self._replay is not None

    def __call__(self, feeds: Sequence[Array]) -> tuple[Fault | None, list[Array]]:
        """What went wrong, and views of what the rank hands back: good until the next run.

        Raises:
            InfoptError: the device failed, and with it this rank.
        """
        fault = self._fill(feeds)
        fault = self.replay() if fault is None else self.queue(fault)
        self.board.finish()
        return fault, [] if fault else [door.array for door in self._returns]

    def _fill(self, feeds: Sequence[Array]) -> Fault | None:
        for name, door, value in zip(self._program.feeds, self._feeds, feeds, strict=True):
            if value.shape != door.place.shape:
                return fault_of(
                    DataError(f"the shape of {name!r} is {value.shape}, not {door.place.shape}")
                )
            np.copyto(door.array, value)
        return None

    def replay(self) -> Fault | None:
        """Queues a run, at once where it was captured."""
        if self._replay is None:
            return self.queue()
        self._replay()
        return None

    def queue(self, fault: Fault | None = None, *, talks: bool = True) -> Fault | None:
        """Queues a run step by step.

        Args:
            fault: what is known to be wrong before it.
            talks: False leaves out collectives and messages, to see what they cost.
        """
        for door in self._feeds:
            self.board.upload(door.place.address, door.staging, door.place.size_bytes)
        for move in self.moves:
            if not (talks if move.is_talk else fault is None):
                continue
            try:
                move.queue()
            except InfoptError as error:
                fault = fault or fault_of(error)
        for door in self._returns:
            self.board.download(door.staging, door.place.address, door.place.size_bytes)
        return fault

    def prepare(self, agreed: Callable[[bool], bool]) -> None:
        """Makes a graph of a run, where the board has any; all ranks do this side by side.

        The graph must answer as the runs it was made of; else, or if any rank's does not, all go on
        step by step.

        Args:
            agreed: whether something holds on all ranks.
        """
        if self.board.stream is None:
            return
        self._fill(self._samples())
        for _ in range(_WARM_UP_RUNS):
            self.queue()
            self.board.finish()
        expected = [door.array.copy() for door in self._returns]
        replay = self.board.capture(self._whole)
        if not agreed(replay is not None) or replay is None:
            return
        is_alike = True
        for _ in range(_REPLAYS):
            for door in self._returns:
                door.array.fill(0)
            replay()
            self.board.finish()
            is_alike &= all(
                _is_close(door.array, value)
                for door, value in zip(self._returns, expected, strict=True)
            )
        self._replay = replay if agreed(is_alike) else None

    def _whole(self) -> None:
        fault = self.queue()
        if fault is not None:
            raise fault.error

    def _samples(self) -> list[Array]:
        """Values that every model takes: drawn where they are floats, else zeros (an index)."""
        return [
            _sample(name, door.place)
            for name, door in zip(self._program.feeds, self._feeds, strict=True)
        ]


def _sample(name: str, place: Place) -> Array:
    if place.dtype.kind != "f":
        return np.zeros(place.shape, place.dtype)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.standard_normal(place.shape).astype(place.dtype)


def _is_close(found: Array, expected: Array) -> bool:
    if found.dtype.kind != "f":
        return bool(np.array_equal(found, expected))
    scale = float(np.nanmax(np.abs(expected), initial=0.0))
    return bool(np.allclose(found, expected, _TOLERANCE, _TOLERANCE * scale, equal_nan=True))


def _move(
    step: Step,
    places: Mapping[str, Place],
    sessions: Mapping[str, Any],
    groups: Mapping[tuple[int, ...], Any],
    talk: Talk,
) -> Move:
    if isinstance(step, Compute):
        own = step.segment
        part = ResidentPart(
            sessions[step.file],
            step.file,
            {name: places[name] for name in own.inputs},
            {name: places[name] for name in own.outputs},
            talk.board,
        )
        return Move(part.queue, is_talk=False)
    if isinstance(step, Together):
        segment, group = step.segment, groups[step.ranks]
        source, target = places[segment.tensor], places[segment.result]
        return Move(
            lambda: talk.together(group, segment.operation, segment.axis, source, target),
            is_talk=segment.operation != "split",
        )
    place = places[step.tensor]
    if isinstance(step, Send):
        return Move(lambda: talk.send(place, step.to), is_talk=True)
    return Move(lambda: talk.receive(place, step.source), is_talk=True)
