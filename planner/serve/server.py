"""Runs the application on uvicorn: binds, warms up, tells when it is ready, and drains on a signal.

Draining loses nothing: readiness turns false and every answer asks its client to reconnect; then
the listening socket closes; then what is in flight or has just connected is answered; then the
process returns normally, so that its exit code is 0 and not that of a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from planner.errors import EnvironmentMismatchError, UsageError
from planner.runtime.engine import Session, load
from planner.runtime.tensors import read_tensors
from planner.serve.app import make_app
from planner.serve.service import Limits, Service

LAST_CALL_S = 0.3
"""Time for clients and load balancers to see that readiness is false before the socket closes."""
QUIET_S = 0.2
"""Time for a request on a connection that was accepted just before the socket closed."""
DRAIN_S = 30.0
"""After this, whatever still runs is given up."""
_BACKLOG = 2048
_NEARBY_PORTS = 100
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(engine: Path, host: str, port: int, limits: Limits, ready: Callable[[str], None]) -> None:
    """Serve until a signal. See `planner.serve.serve`."""
    with contextlib.closing(bind(host, port)) as listener, load(engine) as session:
        service = Service(session, limits)
        _warm_up(session)
        _listen(listener, host)
        asyncio.run(_Server(service, listener, ready).answer_until_drained())
        service.close()


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket; port 0 takes a free one.

    Raises:
        EnvironmentMismatchError: the port is in use, or needs more rights.
        UsageError: no such host on this machine, or no such port.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"port {port} does not exist", fix="--port 8000")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"host {host!r} does not resolve: {error}", fix="--host 127.0.0.1"
        ) from None
    family, address = found[0][0], found[0][4]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _bind_error(error, host, port) from None
    return listener


def _bind_error(error: OSError, host: str, port: int) -> EnvironmentMismatchError | UsageError:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        free = _free_port_after(host, port)
        fix = "stop the other server, or use --port 0 for any free port"
        return EnvironmentMismatchError(
            "the port is in use", where=where, fix=fix if free is None else f"--port {free}"
        )
    if error.errno == errno.EACCES:
        return EnvironmentMismatchError(
            "ports below 1024 need special rights", where=where, fix="--port 8000"
        )
    return UsageError(f"cannot listen there: {error.strerror}", where=where, fix="--host 127.0.0.1")


def _free_port_after(host: str, port: int) -> int | None:
    """The next port that can be bound now; None if all nearby are taken."""
    for candidate in range(port + 1, min(port + _NEARBY_PORTS, 65536)):
        with contextlib.suppress(OSError), socket.create_server((host, candidate)):
            return candidate
    return None


def _listen(listener: socket.socket, host: str) -> None:
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise _bind_error(error, host, listener.getsockname()[1]) from None


def _warm_up(session: Session) -> None:
    """Arenas grow and threads start before the first client waits for them."""
    for golden in session.manifest.golden:
        session.run(read_tensors(session.directory / golden.inputs))


class _Server(uvicorn.Server):
    """uvicorn, with its own signal handling replaced: it would re-raise what it caught."""

    def __init__(
        self, service: Service, listener: socket.socket, ready: Callable[[str], None]
    ) -> None:
        self._service = service
        self._listener = listener
        self._ready = ready
        self._draining: asyncio.Task[None] | None = None
        super().__init__(
            uvicorn.Config(
                self._closing_when_draining(make_app(service)),
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
        with _handlers(self._on_signal):
            await self.serve(sockets=[self._listener])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_on_signal`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Ready from the moment connections are accepted."""
        await super().startup(sockets)
        self._service.is_ready = True
        host, port = self._listener.getsockname()[:2]
        self._ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    def _on_signal(self) -> None:
        """The first signal drains, the second gives up."""
        if self._draining is not None:
            self.should_exit = self.force_exit = True
            return
        self._service.is_ready = False
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        await asyncio.sleep(LAST_CALL_S)
        for server in self.servers:
            server.close()
        until = asyncio.get_running_loop().time() + DRAIN_S
        await asyncio.sleep(QUIET_S)
        while self._service.in_flight and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)
        self.should_exit = True

    def _closing_when_draining(self, app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            async def closing(message: Message) -> None:
                if self._draining is not None and message["type"] == "http.response.start":
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
