"""Collectives and messages between places: what a rank queues on its board."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from planner.runtime.ranks.board import Board, HostBoard
from planner.runtime.ranks.place import Place


class Talk(Protocol):
    """A rank's way to the others, from memory to memory."""

    board: Board

    def together(
        self, group: Any, operation: str, axis: int | None, source: Place, target: Place
    ) -> Any:
        """Queues a collective; `source` and `target` may be the same place for a sum."""

    def send(self, place: Place, to: int) -> None:
        """Queues a message; the other rank knows its shape."""

    def receive(self, place: Place, source: int) -> None:
        """Queues the arrival of the next one."""


class HostTalk:
    """Through whatever the fabric does with arrays (MPI, gloo)."""

    def __init__(self, fabric: Any) -> None:
        self._fabric = fabric
        self.board: Board = HostBoard()

    def together(
        self, group: Any, operation: str, axis: int | None, source: Place, target: Place
    ) -> None:
        """Done when it returns."""
        more = () if axis is None else (axis,)
        np.copyto(target.array, getattr(group, operation)(source.array, *more))

    def send(self, place: Place, to: int) -> None:
        """Done when it returns."""
        self._fabric.send(place.array, to)

    def receive(self, place: Place, source: int) -> None:
        """Done when it returns."""
        np.copyto(place.array, self._fabric.receive(source))
