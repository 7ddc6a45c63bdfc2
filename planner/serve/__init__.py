"""Open Inference Protocol v2 over HTTP, with the binary tensor extension and Prometheus metrics.

    GET  /v2  /v2/health/live  /v2/health/ready  /metrics
    GET  /v2/models/{model}[/versions/1][/ready]
    POST /v2/models/{model}[/versions/1]/infer

Whatever a client gets wrong is answered with 4xx and `{"error": "..."}` that names the field.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from planner.errors import EnvironmentMismatchError

MAX_BODY_BYTES = 64 << 20
MAX_IN_FLIGHT = 64
REQUEST_TIMEOUT_S = 30.0


def reserve(host: str = "127.0.0.1", port: int = 8000) -> socket.socket:
    """A place to serve at, taken before long work; nobody can connect until `serve` listens there.

    The caller closes it, unless `serve` gets it.

    Raises:
        UsageError: the port is in use, or the host does not exist here.
        EnvironmentMismatchError: the extra `serve` is not installed.
    """
    try:
        from planner.serve import listener, server  # noqa: F401 - what `serve` will need
    except ModuleNotFoundError as error:
        raise EnvironmentMismatchError(
            f"serving needs the package {error.name}", fix="pip install 'infopt[serve]'"
        ) from None
    return listener.bind(host, port)


def serve(
    engine: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    place: socket.socket | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    max_in_flight: int = MAX_IN_FLIGHT,
    request_timeout_s: float = REQUEST_TIMEOUT_S,
    ready: Callable[[str, str], None] | None = None,
) -> None:
    """Load an engine and answer until SIGTERM or SIGINT; returns once nothing is in flight.

    `ready` is called with the base URL and the model's name when the first request can be answered;
    port 0 takes a free one; a `place` that was reserved stands for both and is closed in the end.
    More than `max_in_flight` requests at once are answered 503, larger bodies 413.

    Raises:
        VerificationError: the engine is not what was built.
        EnvironmentMismatchError: a provider is absent, or the extra `serve` is not installed.
        UsageError: the port is in use, the host does not exist here, or an input has a type the
            protocol lacks.
    """
    bound = reserve(host, port) if place is None else place
    from planner.serve import server, service

    limits = service.Limits(max_body_bytes, max_in_flight, request_timeout_s)
    with contextlib.closing(bound):
        server.run(engine, bound, limits, ready or (lambda url, name: None))
