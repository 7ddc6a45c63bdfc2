"""Waiting awake: a message is heard at once, none is waited for longer than asked."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from planner.runtime.ranks import spin


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


def _poll(connection: socket.socket) -> select.poll:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return poll


@pytest.mark.parametrize("awake_s", [0.0, 0.05])
def test_what_comes_is_heard(pair: tuple[socket.socket, socket.socket], awake_s: float) -> None:
    one, other = pair
    threading.Timer(0.1, other.send, (b"x",)).start()
    ((descriptor, _),) = spin.until_told(_poll(one), awake_s)
    assert descriptor == one.fileno()


@pytest.mark.parametrize("awake_s", [0.0, 0.01, 60.0])
def test_silence_ends_when_asked(pair: tuple[socket.socket, socket.socket], awake_s: float) -> None:
    started = time.monotonic()
    assert spin.until_told(_poll(pair[0]), awake_s, started + 0.1) == []
    assert 0.09 < time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("cores", "ranks", "is_awake"), [(2, 2, False), (5, 2, False), (6, 2, True)]
)
def test_nobody_is_awake_where_cores_are_short(
    monkeypatch: pytest.MonkeyPatch, cores: int, ranks: int, is_awake: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert (spin.spin_s(ranks) > 0) is is_awake
