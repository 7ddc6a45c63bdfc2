"""One engine behind somebody else's HTTP server: a request in, an answer of the protocol out.

Ray Serve makes one of these in each replica's process and calls it with Starlette's requests.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from planner.errors import EnvironmentMismatchError
from planner.runtime.engine import load
from planner.serve import MAX_BODY_BYTES, MAX_IN_FLIGHT, REQUEST_TIMEOUT_S
from planner.serve.app import make_app
from planner.serve.service import Limits, Service


class Replica:
    """An engine that answers the Open Inference Protocol v2; ready once it is made.

    Raises:
        VerificationError: the engine is not what was built.
        EnvironmentMismatchError: a provider is absent here, or the memory does not suffice.
        UsageError: an input has a type that the protocol lacks.
    """

    MAX_IN_FLIGHT: ClassVar[int] = MAX_IN_FLIGHT

    def __init__(self, engine: Path) -> None:
        limits = Limits(MAX_BODY_BYTES, self.MAX_IN_FLIGHT, REQUEST_TIMEOUT_S)
        self._service = Service(load(engine), limits)
        self._service.warm_up()
        self._service.is_ready = True
        self._app = make_app(self._service)

    async def __call__(self, request: Request) -> Response:
        """The answer to one request, whole."""
        answer = Response()
        parts: list[bytes] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status_code = message["status"]
                answer.raw_headers = list(message["headers"])
            else:
                parts.append(message.get("body", b""))

        await self._app(request.scope, request.receive, keep)
        answer.body = b"".join(parts)
        return answer

    def check_health(self) -> None:
        """Ray asks this every few seconds and replaces a replica that raises.

        Raises:
            EnvironmentMismatchError: it does not answer any more.
        """
        if not (self._service.is_ready and self._service.session.is_healthy):
            raise EnvironmentMismatchError("the engine is not ready", where=self._service.name)

    def close(self) -> None:
        """Gives threads and weights back."""
        self._service.is_ready = False
        self._service.close()
