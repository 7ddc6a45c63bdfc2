"""A TCP socket to listen on: bound early with clear refusals, closed without resetting anybody."""

from __future__ import annotations

import contextlib
import errno
import select
import socket

from planner.errors import UsageError

_BACKLOG = 2048
_NEARBY_PORTS = 100
_ATTEMPTS = 50
_PLUG_WAIT_S = 0.002


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket; port 0 takes a free one.

    Raises:
        UsageError: the port is in use, needs more rights or does not exist; no such host here.
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
    # asyncio turns Nagle's algorithm off (40 ms an answer) only where the protocol is spelled out.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _refusal(error, host, port) from None
    return listener


def listen(listener: socket.socket) -> None:
    """From now on clients can connect.

    Raises:
        UsageError: somebody else listens on this port since it was bound.
    """
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _refusal(error, host, port) from None


def _refusal(error: OSError, host: str, port: int) -> UsageError:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        free = _free_port_after(host, port)
        fix = "stop the other server, or use --port 0 for any free port"
        return UsageError(
            "the port is in use", where=where, fix=fix if free is None else f"--port {free}"
        )
    if error.errno == errno.EACCES:
        return UsageError("ports below 1024 need special rights", where=where, fix="--port 8000")
    return UsageError(f"cannot listen there: {error.strerror}", where=where, fix="--host 127.0.0.1")


def _free_port_after(host: str, port: int) -> int | None:
    """The next port that can be bound now; None if all nearby are taken."""
    for candidate in range(port + 1, min(port + _NEARBY_PORTS, 65536)):
        with contextlib.suppress(OSError), socket.create_server((host, candidate)):
            return candidate
    return None


def close_gently(listener: socket.socket) -> list[socket.socket]:
    """Close a listening socket and return the connections that were waiting in its queue.

    Why not simply close it: the kernel resets whatever has connected and was not accepted yet, and
    new clients keep arriving between the last accept and the close. So the queue is shortened to
    one place, and a connection of our own takes that place; only then is nobody else in it.
    """
    accepted: list[socket.socket] = []
    address = listener.getsockname()
    listener.setblocking(False)
    listener.listen(0)
    for _ in range(_ATTEMPTS):
        accepted += _accept_all(listener)
        with socket.socket(listener.family, socket.SOCK_STREAM) as plug:
            plug.setblocking(False)
            plug.connect_ex(address)
            _, is_plugged, _ = select.select([], [plug], [], _PLUG_WAIT_S)
            if is_plugged:
                listener.close()
                return accepted
    listener.close()
    return accepted


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    accepted = []
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            accepted.append(connection)
    return accepted
