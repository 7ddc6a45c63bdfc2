"""Runs the application on uvicorn: binds, warms up, tells when it is ready, and drains on a signal.

Draining loses nothing: readiness turns false; then the listening socket closes; then what is in
flight or has just connected is answered, each answer asking its client to leave; then the process
returns normally, so that its exit code is 0 and not that of a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from planner.runtime.engine import load
from planner.serve import listener, patience
from planner.serve.app import make_app
from planner.serve.service import Limits, Service

LAST_CALL_S = 0.3
"""Time for clients and load balancers to see that readiness is false before the socket closes."""
QUIET_S = 0.2
"""Time for a request on a connection that was accepted just before the socket closed."""
DRAIN_S = 30.0
"""After this, whatever still runs is given up."""
Ready = Callable[[str, str], None]
"""Told the base URL and the model's name once the first request can be answered."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(engine: Path, bound: socket.socket, limits: Limits, ready: Ready) -> None:
    """Serve at a bound socket until a signal. See `planner.serve.serve`."""
    with load(engine) as session:
        service = Service(session, limits)
        service.warm_up()
        patience.allow_many_connections()
        listener.listen(bound)
        asyncio.run(_Server(service, bound, ready).answer_until_drained())
        service.close()


class _Server(uvicorn.Server):
    """uvicorn, with its own signal handling replaced: it would re-raise what it caught."""

    def __init__(self, service: Service, bound: socket.socket, ready: Ready) -> None:
        self._service = service
        self._bound = bound
        self._ready = ready
        self._draining: asyncio.Task[None] | None = None
        self._is_closed = False
        super().__init__(
            uvicorn.Config(
                self._closing_when_closed(make_app(service)),
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(DRAIN_S),
            )
        )

    async def answer_until_drained(self) -> None:
        """Returns after a signal, once nothing is in flight."""
        limit_s = self._service.limits.request_timeout_s
        stuck = patience.end_the_stuck(self.server_state.connections, limit_s)
        watch = asyncio.create_task(stuck)
        with _handlers(self._on_signal):
            await self.serve(sockets=[self._bound.dup()])
        watch.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_on_signal`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Ready from the moment connections are accepted."""
        await super().startup(sockets)
        self._service.is_ready = True
        host, port = self._bound.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._ready(url, self._service.name)

    def _on_signal(self) -> None:
        """The first signal drains, the second gives up."""
        if self._draining is not None:
            self.should_exit = self.force_exit = True
            return
        self._service.is_ready = False
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(LAST_CALL_S)
        for server in self.servers:
            server.close()  # its duplicate: the socket itself stays open
        waiting = listener.close_gently(self._bound)
        self._is_closed = True
        for connection in waiting:
            await loop.connect_accepted_socket(self._protocol, connection)
        until = loop.time() + DRAIN_S
        await asyncio.sleep(QUIET_S)
        while self._service.in_flight and loop.time() < until:
            await asyncio.sleep(0.02)
        self.should_exit = True

    def _protocol(self) -> asyncio.Protocol:
        """uvicorn's, for a connection that it has not accepted itself."""
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state={})

    def _closing_when_closed(self, app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            async def closing(message: Message) -> None:
                if self._is_closed and message["type"] == "http.response.start":
                    MutableHeaders(scope=message)["connection"] = "close"
                await send(message)

            await app(scope, receive, closing)

        return wrapped


@contextlib.contextmanager
def _handlers(on_signal: Callable[[], None]) -> Iterator[None]:
    """Catch SIGTERM and SIGINT in the event loop, and give the old handlers back afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
