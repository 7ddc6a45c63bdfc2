"""Answers of ranks, taken in by the callers themselves.

Whoever waits for a run reads what all ranks say until its own run is done; others that wait
meanwhile are told, and one of them goes on reading. No thread stands between a rank and its caller:
a thread would have to be woken first, then wake the caller, some fifty microseconds each.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.runtime.ranks.channel import Channel
from planner.runtime.ranks.fault import Fault, first
from planner.runtime.ranks.spin import until_told
from planner.runtime.ranks.windows import TAKEN, Street


@dataclass(slots=True)
class Pending:
    """A run in flight."""

    left: int
    """Ranks that have not answered."""
    outputs: dict[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    error: BaseException | None = None
    is_done: bool = False

    @property
    def is_divided(self) -> bool:
        """Whether some ranks failed and others have not answered."""
        return bool(self.faults) and not self.is_done

    def answer(self) -> dict[str, Any]:
        """What the ranks made; raises what went wrong."""
        if self.error is not None:
            raise self.error
        return self.outputs


class Inbox:
    """What ranks answer, by the number of the run."""

    def __init__(
        self,
        channels: Mapping[int, Channel],
        streets: Mapping[int, Street],
        returns: Sequence[Sequence[str]],
        on_divided: Callable[[int], None],
        spin_s: float,
    ) -> None:
        """
        Args:
            returns: names of what each rank hands back.
            on_divided: told the number of a run that failed on a rank while others go on.
            spin_s: how long to look before going to sleep.
        """
        self._channels, self._streets, self._returns = channels, streets, returns
        self._on_divided, self._spin_s = on_divided, spin_s
        self._changed = threading.Condition()
        """Of all that follows, held for no longer than it takes to look at it."""
        self._pending: dict[int, Pending] = {}
        self._is_read = False
        self._rank_of = {channel.connection.fileno(): n for n, channel in channels.items()}
        self._poll = select.poll()
        for descriptor in self._rank_of:
            self._poll.register(descriptor, select.POLLIN)

    def expect(self, number: int) -> Pending:
        """A run that is about to be sent."""
        pending = Pending(len(self._channels))
        with self._changed:
            self._pending[number] = pending
        return pending

    def divided(self, number: int) -> Pending | None:
        """A run that some ranks have not answered, though others failed."""
        with self._changed:
            pending = self._pending.get(number)
        return pending if pending is not None and pending.is_divided else None

    def fail(self, error: BaseException) -> None:
        """No run in flight will be answered; faults that ranks told say more than `error`."""
        with self._changed:
            for one in self._pending.values():
                one.error = first(one.faults).error if one.faults else error
                one.is_done = True
            self._pending.clear()
            self._changed.notify_all()

    def failed(self, pending: Pending) -> dict[str, Any]:
        """What went wrong with a run, once all have been told to `fail`; raises it."""
        with self._changed:
            self._changed.wait_for(lambda: pending.is_done)
        return pending.answer()

    def collect(self, pending: Pending, timeout_s: float) -> dict[str, Any]:
        """Waits for a run. Where taking a message in fails, nobody reads on in its middle: others
        wait for `fail`, which the caller owes them.

        Raises:
            TimeoutError: not all ranks answered.
            EOFError: a rank has gone.
            BaseException: what was told to `fail`, or what a rank could not do.
        """
        until = time.monotonic() + timeout_s
        while self._is_mine(pending, until):
            self._read(pending, until)
            with self._changed:
                self._is_read = False
                self._changed.notify_all()
        return pending.answer()

    def _is_mine(self, pending: Pending, until: float) -> bool:
        """Whether the caller is to read; False once its run is done. Waits while others read."""
        with self._changed:
            while self._is_read and not pending.is_done:
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._changed.wait(left)
            if pending.is_done:
                return False
            self._is_read = True
            return True

    def _read(self, pending: Pending, until: float) -> None:
        while not pending.is_done:
            heard = until_told(self._poll, self._spin_s, until)
            if not heard:
                raise TimeoutError
            for descriptor, _ in heard:
                self._take(self._rank_of[descriptor])

    def _take(self, rank: int) -> None:
        channel = self._channels[rank]
        number, fault, told = channel.receive()
        returned, was_shown = self._streets[rank].taken(told)
        if was_shown:
            channel.send(TAKEN)
        names = self._returns[rank] if fault is None else ()
        self._answered(number, fault, dict(zip(names, returned, strict=True)))

    def _answered(self, number: int, fault: Fault | None, outputs: Mapping[str, Any]) -> None:
        with self._changed:
            pending = self._pending.get(number)
            if pending is None:
                return
            pending.left -= 1
            pending.outputs.update(outputs)
            if fault is not None:
                pending.faults.append(fault)
            if not pending.left:
                del self._pending[number]
                pending.error = first(pending.faults).error if pending.faults else None
                pending.is_done = True
                self._changed.notify_all()
        if fault is not None and pending.is_divided:
            self._on_divided(number)
