"""The protocol's paths: admission, body limits, timeouts; the work happens in the service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

import pydantic_core
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from planner import __version__
from planner.serve import reply
from planner.serve.faults import ClientFault, shown
from planner.serve.protocol import HEADER
from planner.serve.reply import Reply
from planner.serve.service import RETRY, Arrival, Service

_OUTCOMES = {200: "ok", 500: "error", 503: "busy", 504: "timeout"}
_DISCONNECTED = 499
"""Nobody is there to read it; a number for the metrics."""
Handler = Callable[[Request], Awaitable[Response]]


def make_app(service: Service) -> Starlette:
    """The ASGI application of one service."""
    model = "/v2/models/{model}"
    versioned = model + "/versions/{version}"
    return Starlette(
        routes=[
            Route("/v2", _json(lambda: (200, _server()))),
            Route("/v2/health/live", _json(lambda: (200, {"live": True}))),
            Route("/v2/health/ready", _json(lambda: _readiness(service, {}))),
            Route("/metrics", _metrics(service)),
            *(Route(base, _of_model(service, _metadata)) for base in (model, versioned)),
            *(Route(f"{base}/ready", _of_model(service, _ready)) for base in (model, versioned)),
            *(
                Route(f"{base}/infer", _of_model(service, _infer), methods=["POST"])
                for base in (model, versioned)
            ),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _crash},
    )


def _server() -> dict[str, object]:
    return {"name": "infopt", "version": __version__, "extensions": ["binary_tensor_data"]}


def _readiness(service: Service, content: dict[str, object]) -> tuple[int, dict[str, object]]:
    is_ready = service.is_ready and service.session.is_healthy
    return (200 if is_ready else 503), {**content, "ready": is_ready}


def _json(make: Callable[[], tuple[int, dict[str, object]]]) -> Handler:
    async def handle(_: Request) -> Response:
        status, content = make()
        return Response(pydantic_core.to_json(content), status, media_type=reply.JSON)

    return handle


def _metrics(service: Service) -> Handler:
    async def handle(_: Request) -> Response:
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    return handle


def _of_model(service: Service, work: Callable[[Service, Request], Awaitable[Reply]]) -> Handler:
    """Answer for the model that is served here, 404 for any other."""

    async def handle(request: Request) -> Response:
        name, version = request.path_params["model"], request.path_params.get("version")
        if name != service.name:
            found = reply.refusal(
                404, f"unknown model {shown(name)}; served here: {service.name!r}"
            )
        elif version not in (None, reply.VERSION):
            found = reply.refusal(
                404, f"unknown version {shown(version)}; there is {reply.VERSION!r}"
            )
        else:
            found = await work(service, request)
        return Response(found.body, found.status, headers=dict(found.headers))

    return handle


async def _metadata(service: Service, _: Request) -> Reply:
    return Reply(200, pydantic_core.to_json(service.metadata()))


async def _ready(service: Service, _: Request) -> Reply:
    status, content = _readiness(service, {"name": service.name})
    return Reply(status, pydantic_core.to_json(content))


async def _infer(service: Service, request: Request) -> Reply:
    start = time.perf_counter()
    found = await _admitted(service, request)
    outcome = _OUTCOMES.get(found.status, "client_error")
    service.metrics.requests.labels(outcome).inc()
    service.metrics.request_seconds.observe(time.perf_counter() - start)
    return found


async def _admitted(service: Service, request: Request) -> Reply:
    """Refuse early; once the body is here, hold one place until the work is really over, not only
    abandoned."""
    limits = service.limits
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        return reply.refusal(415, f"Content-Encoding {shown(encoding)} is not supported")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limits.max_body_bytes:
        return reply.refusal(413, f"the body has more than {limits.max_body_bytes} bytes")
    if service.is_full:
        return _busy(service)
    try:
        async with asyncio.timeout(limits.request_timeout_s):
            with service.arriving() as arrival:
                body = await _body(request, arrival)
    except (TimeoutError, ClientFault, ClientDisconnect) as error:
        return _unread(error)
    if not service.admit():
        return _busy(service)
    future = service.submit(body, request.headers.get(HEADER))
    future.add_done_callback(lambda _: service.release())
    return await _outcome(future, limits.request_timeout_s)


def _busy(service: Service) -> Reply:
    return reply.refusal(503, f"{service.limits.max_in_flight} requests are in flight", **RETRY)


async def _outcome(future: Future[Reply], timeout_s: float) -> Reply:
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(asyncio.wrap_future(future))
    except TimeoutError:
        future.cancel()
        return reply.refusal(504, f"no answer within {timeout_s:g} s")


def _unread(error: Exception) -> Reply:
    if isinstance(error, ClientFault):
        return reply.refusal(error.status, str(error), **(RETRY if error.status == 503 else {}))
    if isinstance(error, ClientDisconnect):
        return reply.refusal(_DISCONNECTED, "the client went away")
    return reply.refusal(408, "the body did not arrive in time", connection="close")


async def _body(request: Request, arrival: Arrival) -> bytes:
    chunks = []
    async for chunk in request.stream():
        arrival.take(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


async def _http_error(request: Request, error: Exception) -> Response:
    """404 and 405 in the protocol's form."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    method, path = request.method, shown(request.url.path)
    words = {
        404: f"no such path {path}; see /v2, /v2/models/<name> and /v2/models/<name>/infer",
        405: f"{method} is not allowed on {path}; use {headers.get('Allow', 'GET')}",
    }
    found = reply.refusal(status, words.get(status, f"refused with status {status}"), **headers)
    return Response(found.body, found.status, headers=dict(found.headers))


async def _crash(_: Request, __: Exception) -> Response:
    found = reply.refusal(500, "internal error; the server's log has the details")
    return Response(found.body, found.status, headers=dict(found.headers))
