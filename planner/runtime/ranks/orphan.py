"""No rank outlives its driver.

A driver that is killed in the middle of a run leaves ranks that wait for each other in a library
that polls: one that noticed has left, the other would spin for ever.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time

GRACE_S = 5.0
"""For a rank that can still leave in order once the driver has hung up."""


def follow(connection: socket.socket, grace_s: float = GRACE_S) -> None:
    """Ends this process soon after the other end of the connection has gone, whatever it does."""
    watch = threading.Thread(target=_watch, args=(connection, grace_s), name="driver", daemon=True)
    watch.start()


def _watch(connection: socket.socket, grace_s: float) -> None:
    poll = select.poll()
    poll.register(connection, 0)  # no event asked for: hanging up is always told
    poll.poll()
    time.sleep(grace_s)
    os._exit(1)
