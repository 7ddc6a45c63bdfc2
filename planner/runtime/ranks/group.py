"""The ranks of one engine as the driver sees them: started together, ended together.

No rank is ever waited for alone: when one ends, its socket ends, and whoever notices ends all
others and tells every run in flight. A group does not come back; who needs it starts another.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from planner.errors import EnvironmentMismatchError, InfoptError
from planner.runtime.ranks.channel import Channel
from planner.runtime.ranks.fabric import JOIN_S
from planner.runtime.ranks.fault import first
from planner.runtime.ranks.inbox import Inbox, Pending
from planner.runtime.ranks.launch import launch
from planner.runtime.ranks.program import Program
from planner.runtime.ranks.spin import spin_s
from planner.runtime.ranks.windows import Street

WORKER = "planner.runtime.ranks.worker"
_LOAD_S = 600.0
"""Loading all parts must not take longer."""
_POLL_S = 0.2
_DISAGREE_S = 5.0
"""Once a rank has reported a fault, the others answer within this time or wait for it forever."""
_STALL_S = 60.0
"""A message that stops in its middle for so long does not go on."""
_WORDS = 400


class RankLostError(EnvironmentMismatchError):
    """A rank's process ended or hung; the group is gone with it."""


class RankGroup:
    """Running ranks. `run` may be called from several threads: stages then work side by side."""

    def __init__(
        self, directory: Path, programs: Sequence[Program], library: str, module: str = WORKER
    ) -> None:
        """Starts the ranks (processes of `module`) and waits until all have loaded.

        Raises:
            EnvironmentMismatchError: they do not start, meet or load (or what a rank says).
        """
        self._programs = programs
        self._module = module
        self.told: dict[int, Any] = {}
        """What a rank had to say when it was ready."""
        self._lock = threading.Lock()
        """Of what follows, for no longer than it takes to look at it."""
        self._sending = threading.Lock()
        """All ranks get all runs in one order. Not the lock above: who sends may wait for a rank
        whose last answer has not been taken, and whoever takes it needs that one."""
        self._number = 0
        self._reason: str | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="infopt-ranks-")
        self._log = Path(self._folder.name, "log")
        self._waiting: list[Channel] = []
        """Connected, but nobody knows yet which rank it is."""
        self._channels: dict[int, Channel] = {}
        self._streets: dict[int, Street] = {}
        self.pids: dict[int, int] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._start(directory, library)
        except BaseException:
            self._end()
            self._folder.cleanup()
            raise
        returns = [program.returns for program in programs]
        self._inbox = Inbox(
            self._channels, self._streets, returns, self._on_divided, spin_s(len(programs))
        )
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()

    def _start(self, directory: Path, library: str) -> None:
        world = len(self._programs)
        address = str(Path(self._folder.name, "driver"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(world)
            listener.settimeout(_POLL_S)
            meeting = str(Path(self._folder.name, "meeting"))
            arguments = [str(directory), address, library, str(world), meeting]
            self._processes = launch(self._module, library, arguments, world, self._log)
            self._accept(listener, time.monotonic() + JOIN_S)
        until = time.monotonic() + _LOAD_S
        for channel in self._waiting:
            rank, pid, told, windows = self._await_ready(channel, until)
            self._channels[rank] = channel
            self._streets[rank] = Street(channel.connection, windows)
            channel.limit(_STALL_S)
            self.pids[rank] = pid
            self.told[rank] = told

    def _accept(self, listener: socket.socket, until: float) -> None:
        while len(self._waiting) < len(self._programs):
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.settimeout(None)
                self._waiting.append(Channel(connection))
                continue
            if any(process.poll() is not None for process in self._processes):
                raise EnvironmentMismatchError(f"the ranks do not start: {self._last_words()}")
            if time.monotonic() > until:
                raise EnvironmentMismatchError(f"the ranks did not start in {JOIN_S:.0f} s")

    def _await_ready(self, channel: Channel, until: float) -> tuple[int, int, Any, int]:
        timer = threading.Timer(max(until - time.monotonic(), 0.0), channel.close)
        timer.daemon = True
        timer.start()
        try:
            word, *rest = channel.receive()
        except EOFError:
            raise EnvironmentMismatchError(
                f"a rank ended before it was ready: {self._last_words()}"
            ) from None
        finally:
            timer.cancel()
        if word != "ready":
            raise rest[0].error
        return int(rest[0]), int(rest[1]), rest[2], int(rest[3])

    def run(self, feeds: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """The outputs that ranks make, by name.

        Raises:
            RankLostError: a rank ended, or nobody answered in time.
            InfoptError: what a rank could not do.
        """
        with self._sending:
            number, pending = self._begun()
            try:
                self._send(number, feeds)
            except BaseException:  # nobody knows which ranks have it, or half of it
                self.end("a run was interrupted")
                raise
        try:
            return self._inbox.collect(pending, timeout_s)
        except TimeoutError:
            reason = f"no answer from all ranks within {timeout_s:g} s"
        except (EOFError, OSError):
            reason = f"a rank ended: {self._last_words()}"
        except InfoptError:
            raise
        except Exception as error:  # noqa: BLE001 - all who wait for an answer must hear of it
            reason = f"a rank does not make sense: {error!r}"
        except BaseException:  # nobody knows where in a message
            self.end("a run was interrupted")
            raise
        self.end(reason)
        return self._inbox.failed(pending)

    def _send(self, number: int, feeds: Mapping[str, Any]) -> None:
        for rank, program in enumerate(self._programs):
            try:
                self._channels[rank].send((number, [feeds[name] for name in program.feeds]))
            except OSError:  # the others would wait for it
                self.end(self._ended(rank))
                return

    def _begun(self) -> tuple[int, Pending]:
        """The number of a run that is about to be sent."""
        with self._lock:
            if self._reason is not None:
                raise RankLostError(self._reason)
            self._number += 1
            return self._number, self._inbox.expect(self._number)

    def _watch(self) -> None:
        """Ends the group once a rank has gone, though nobody waits for it."""
        poll = select.poll()
        with self._lock:
            if self._reason is not None:
                return
            ranks = {each.connection.fileno(): rank for rank, each in self._channels.items()}
        for descriptor in ranks:
            poll.register(descriptor, 0)  # no event asked for: hanging up is always told
        for descriptor, _ in poll.poll():
            self.end(self._ended(ranks[descriptor]))

    def _ended(self, rank: int) -> str:
        return f"rank {rank} ended: {self._last_words()}"

    def _on_divided(self, number: int) -> None:
        timer = threading.Timer(_DISAGREE_S, self._settle, (number,))
        timer.daemon = True
        timer.start()

    def _settle(self, number: int) -> None:
        """Some ranks failed, others still wait for them: only a new group can go on."""
        pending = self._inbox.divided(number)
        if pending is not None:
            self.end(f"only some ranks failed: {first(pending.faults).what}")

    @property
    def is_alive(self) -> bool:
        """Whether runs are still taken."""
        return self._reason is None

    def end(self, reason: str = "closed") -> None:
        """Ends every rank; runs in flight raise."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
        self._end()
        self._inbox.fail(RankLostError(reason))
        self._folder.cleanup()

    def _end(self) -> None:
        for channel in self._waiting:
            channel.close()
        for pid in self.pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _last_words(self) -> str:
        """What a rank's process said before it ended."""
        time.sleep(_POLL_S)
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            kept = [line.strip() for line in lines if line.strip(" =|")]
            return " ".join(kept)[-_WORDS:] or "it said nothing"
        return "it said nothing"
