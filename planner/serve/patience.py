"""Ends connections on which nothing moves: a server that waits for ever runs out of descriptors.

uvicorn times how long a connection rests between two requests, and the application how long a body
takes. Neither sees a client that connects and sends half a head, or that never reads its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

_LOOKS = 4
"""Looks within one patience: a connection ends after 1 .. 1.25 times the patience."""


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A connection as it was when it last moved."""

    cycle: Any
    unsent_bytes: int
    at_s: float


async def end_the_stuck(connections: Collection[Any], patience_s: float) -> None:
    """Watch uvicorn's connections until cancelled; `patience_s` without any movement ends one."""
    now_s = asyncio.get_running_loop().time
    seen: dict[Any, _Seen] = {}
    while True:
        await asyncio.sleep(patience_s / _LOOKS)
        seen = {one: _look(one, seen.get(one), now_s()) for one in tuple(connections)}
        for connection, state in seen.items():
            if now_s() - state.at_s >= patience_s:
                _end(connection, state)


def _look(connection: Any, before: _Seen | None, now_s: float) -> _Seen:
    unsent = _unsent_bytes(connection)
    cycle = connection.cycle  # uvicorn makes one per request, when its head is complete
    is_at_work = cycle is not None and not cycle.response_complete and not unsent
    if before is None or is_at_work or (before.cycle, before.unsent_bytes) != (cycle, unsent):
        return _Seen(cycle, unsent, now_s)
    return before


def _unsent_bytes(connection: Any) -> int:
    transport = connection.transport
    return 0 if transport is None else int(transport.get_write_buffer_size())


def _end(connection: Any, state: _Seen) -> None:
    if state.unsent_bytes:
        connection.transport.abort()  # closing would wait for the client that does not read
    elif connection.transport is not None:
        connection.transport.close()


def allow_many_connections() -> None:
    """Raise the limit of open files to what the system grants; each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # an unlimited hard limit above the kernel's
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
