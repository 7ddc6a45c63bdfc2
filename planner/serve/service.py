"""One engine behind a bounded pool of threads: admits, runs, refuses. Knows no HTTP."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from planner.errors import DataError, EnvironmentMismatchError, UsageError
from planner.runtime.engine import Session
from planner.runtime.fingerprint import usable_cores
from planner.runtime.ranks.group import RankLostError
from planner.runtime.tensors import read_tensors
from planner.serve import protocol, reply
from planner.serve.datatypes import DATATYPES
from planner.serve.faults import ClientFault
from planner.serve.metrics import Metrics
from planner.spec.manifest import TensorSpec

_LOG = logging.getLogger(__name__)
RETRY = {"retry-after": "1"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server accepts."""

    max_body_bytes: int
    max_in_flight: int
    request_timeout_s: float


class Arrival:
    """One body that is being sent, and how much of it is here."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.size_bytes = 0

    def take(self, size_bytes: int) -> None:
        """So many more bytes are here.

        Raises:
            ClientFault: one body too large (413), or all together (503).
        """
        limit = self._service.limits.max_body_bytes
        if self.size_bytes + size_bytes > limit:
            raise ClientFault(f"the body has more than {limit} bytes", status=413)
        self._service._take(size_bytes)
        self.size_bytes += size_bytes


class Service:
    """The engine with what it serves; `admit` and `release` bound the work taken on, `arriving`
    the memory of bodies that are still being sent."""

    def __init__(self, session: Session, limits: Limits) -> None:
        _refuse_unservable(session.inputs)
        self.session = session
        self.limits = limits
        self.name = session.name
        self.inputs = session.inputs
        self.outputs = tuple(spec for spec in session.outputs if spec.dtype in DATATYPES)
        self.metrics = Metrics(session)
        self.is_ready = False
        self._in_flight = 0
        self._arriving = 0
        self._arrived_bytes = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(
            min(limits.max_in_flight, max(2, usable_cores())), thread_name_prefix="infer"
        )

    def warm_up(self) -> None:
        """Arenas grow and threads start before the first client waits for them."""
        for golden in self.session.manifest.golden:
            self.session.run(read_tensors(self.session.directory / golden.inputs))

    @property
    def in_flight(self) -> int:
        """Requests whose body arrives, or that are admitted, and not yet answered."""
        return self._in_flight + self._arriving

    @property
    def is_full(self) -> bool:
        """Whether no further request would be admitted now."""
        return self._in_flight >= self.limits.max_in_flight

    @contextlib.contextmanager
    def arriving(self) -> Iterator[Arrival]:
        """A body that is being sent. It takes no place from requests that could be answered: a
        client that sends slowly, or never ends, holds up nobody. Called by one thread only."""
        arrival = Arrival(self)
        self._arriving += 1
        try:
            yield arrival
        finally:
            self._arriving -= 1
            self._arrived_bytes -= arrival.size_bytes

    def _take(self, size_bytes: int) -> None:
        """All bodies that arrive may together hold what admitted ones may."""
        limit = self.limits.max_in_flight * self.limits.max_body_bytes
        if self._arrived_bytes + size_bytes > limit:
            raise ClientFault("too much is being sent at the same time", status=503)
        self._arrived_bytes += size_bytes

    def admit(self) -> bool:
        """Take on one more request, if the limit allows; each must be released."""
        with self._lock:
            if self.is_full:
                return False
            self._in_flight += 1
        self.metrics.in_flight.inc()
        return True

    def release(self) -> None:
        """One admitted request has been answered or dropped."""
        with self._lock:
            self._in_flight -= 1
        self.metrics.in_flight.dec()

    def submit(self, body: bytes, header: str | None) -> Future[reply.Reply]:
        """Parse, run and encode in a thread of the pool; the future never raises."""
        self.metrics.queued.inc()
        future = self._pool.submit(self._respond, body, header)
        future.add_done_callback(
            lambda done: self.metrics.queued.dec() if done.cancelled() else None
        )
        return future

    def _respond(self, body: bytes, header: str | None) -> reply.Reply:
        self.metrics.queued.dec()
        try:
            return self._infer(body, header)
        except ClientFault as fault:
            return reply.refusal(fault.status, str(fault))
        except DataError as error:
            return reply.refusal(400, error.text)
        except RankLostError:
            return reply.refusal(503, "a rank of the engine was lost; it is started again", **RETRY)
        except (EnvironmentMismatchError, MemoryError):
            return reply.refusal(503, "not enough memory for these inputs now", **RETRY)
        except Exception:  # noqa: BLE001 - the last line of defence: one request, not the server
            _LOG.exception("inference failed")
            return reply.refusal(500, "internal error; the server's log has the details")

    def _infer(self, body: bytes, header: str | None) -> reply.Reply:
        request = protocol.parse(body, header, self.inputs, self.outputs)
        start = time.perf_counter()
        values = self.session.run(request.feeds)
        self.metrics.observe_inference(request.feeds, time.perf_counter() - start)
        return reply.answer(self.name, request, values, self.outputs)

    def close(self) -> None:
        """Stop the threads once they are done; nothing is admitted any more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.session.close()

    def metadata(self) -> dict[str, Any]:
        """The model's description in the protocol's words."""
        return {
            "name": self.name,
            "versions": [reply.VERSION],
            "platform": "onnxruntime_onnxv1",
            "inputs": [_described(spec) for spec in self.inputs],
            "outputs": [_described(spec) for spec in self.outputs],
        }


def _described(spec: TensorSpec) -> dict[str, Any]:
    shape = [-1 if dim is None else dim for dim in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def _refuse_unservable(inputs: tuple[TensorSpec, ...]) -> None:
    for spec in inputs:
        if spec.dtype not in DATATYPES:
            raise UsageError(
                f"element type {spec.dtype} has no datatype in the Open Inference Protocol",
                where=f"input {spec.name!r}",
                fix="call the engine in process: planner.runtime.load(engine).run(...)",
            )
