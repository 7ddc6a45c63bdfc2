"""A TCP socket to listen on: bound early with clear refusals, closed without resetting anybody."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import time

from planner.errors import UsageError

_BACKLOG = 2048
_NEARBY_PORTS = 100
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python does not name it
# Classic BPF (socket filters see the segment from its TCP header on): byte 13 holds the flags;
# drop the segment if SYN (0x02) is set, keep the whole of it otherwise.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # ldb [13]
    (0x45, 0, 1, 0x02),  # jset #0x02
    (0x06, 0, 0, 0),  # ret 0
    (0x06, 0, 0, 0xFFFFFFFF),  # ret -1
)
_HANDSHAKE_S = 0.02


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
    new clients keep arriving between the last accept and the close. So a filter keeps further
    clients from beginning a handshake (their kernel tries again, and is then refused), those that
    had begun get the time to end it, and only then is nobody in the queue.
    """
    listener.setblocking(False)
    _refuse_handshakes(listener)
    accepted = _accept_all(listener)
    deadline_s = time.monotonic() + _HANDSHAKE_S
    while time.monotonic() < deadline_s:
        time.sleep(_HANDSHAKE_S / 10)
        accepted += _accept_all(listener)
    listener.close()
    return accepted


def _refuse_handshakes(listener: socket.socket) -> None:
    """Drop what opens a connection; without effect where the system knows no socket filters."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(buffer))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    accepted = []
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            accepted.append(connection)
    return accepted
