"""Messages between the driver and a rank: a Python value with its arrays, over a local socket.

The socket lies in a folder that only this user can enter, and both ends are this program, so the
values travel pickled, their arrays beside them without a copy.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct
import threading
from collections.abc import Sequence
from typing import Any

_COUNT = struct.Struct("<Q")
_MOST_PIECES = 512
"""Pieces in one call of sendmsg: Linux takes 1024."""


class Channel:
    """One end of a connection. Several threads may send, another one receives meanwhile."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = self.connection = connection
        self._sending = threading.Lock()

    def limit(self, stall_s: float) -> None:
        """From now on, a message that stops in its middle for so long counts as the end."""
        whole, part = divmod(stall_s, 1)
        value = struct.pack("@ll", int(whole), int(part * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)

    def send(self, value: Any) -> None:
        """Raises OSError: the other end is gone."""
        buffers: list[pickle.PickleBuffer] = []
        body = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
        sizes = [len(body), *(view.nbytes for view in views)]
        head = _COUNT.pack(len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
        with self._sending:
            self._send_all([memoryview(head), memoryview(body), *views])

    def _send_all(self, pieces: Sequence[memoryview]) -> None:
        left = [piece for piece in pieces if piece.nbytes]
        while left:
            sent = self._socket.sendmsg(left[:_MOST_PIECES])
            while left and sent >= left[0].nbytes:
                sent -= left.pop(0).nbytes
            if sent:
                left[0] = left[0][sent:]

    def receive(self) -> Any:
        """The next message.

        Raises:
            EOFError: the other end is gone.
        """
        (count,) = _COUNT.unpack(self._read(_COUNT.size))
        sizes = struct.unpack(f"<{count}Q", self._read(8 * count))
        body, *buffers = [self._read(size) for size in sizes]
        return pickle.loads(body, buffers=buffers)

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view.nbytes:
            try:
                got = self._socket.recv_into(view)
            except OSError:
                got = 0
            if not got:
                raise EOFError("the other end is gone")
            view = view[got:]
        return data

    def close(self) -> None:
        """Both directions end; whoever waits is woken."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
