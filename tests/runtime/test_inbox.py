"""Callers that read the answers of ranks for each other."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from planner.runtime.ranks.channel import Channel
from planner.runtime.ranks.group import RankLostError
from planner.runtime.ranks.inbox import Inbox
from planner.runtime.ranks.windows import Street

_PATIENCE_S = 10.0


class _Interrupted(Channel):
    """Whoever receives from it is interrupted in the middle of a message."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.may_go_on = threading.Event()
        self.is_read = threading.Event()
        self.readers = 0

    def receive(self) -> Any:
        self.readers += 1
        self.is_read.set()
        self.may_go_on.wait(_PATIENCE_S)
        raise KeyboardInterrupt


def test_nobody_reads_on_in_the_middle_of_a_message() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(2) as pool:
        channel = _Interrupted(ours)
        inbox = Inbox({0: channel}, {0: Street(ours, 0)}, [()], lambda _: None, 0.0)
        runs = [inbox.expect(number) for number in (1, 2)]
        theirs.send(b"half an answer")
        first = pool.submit(inbox.collect, runs[0], _PATIENCE_S)
        assert channel.is_read.wait(_PATIENCE_S)
        second = pool.submit(inbox.collect, runs[1], _PATIENCE_S)
        channel.may_go_on.set()
        with pytest.raises(KeyboardInterrupt):
            first.result(_PATIENCE_S)
        with pytest.raises(TimeoutError):  # it waits to be told
            second.result(0.3)
        inbox.fail(RankLostError("a run was interrupted"))
        with pytest.raises(RankLostError):
            second.result(_PATIENCE_S)
        assert channel.readers == 1
