"""A server in a process of its own, and the smallest client that can also lie."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
LENGTH = "Inference-Header-Content-Length"
_PROGRAM = """
import sys
from pathlib import Path
from planner.errors import InfoptError
from planner.serve import serve
try:
    serve(Path(sys.argv[1]), ready=lambda url, _: print(url, flush=True), **eval(sys.argv[2]))
except InfoptError as error:
    print(error.text, flush=True)
    sys.exit(error.exit_code)
"""


@dataclass(frozen=True)
class Answer:
    """Status, headers (lower case) and body of one response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The JSON document, without the binary part."""
        length = self.headers.get(LENGTH.lower())
        return json.loads(self.body[: int(length)] if length else self.body)

    @property
    def tail(self) -> bytes:
        """The binary part."""
        return self.body[int(self.headers[LENGTH.lower()]) :]

    @property
    def error(self) -> str:
        """The message of a refusal."""
        return str(self.json["error"])


class Server:
    """`planner.serve.serve` in a subprocess on a free port of 127.0.0.1."""

    def __init__(self, engine: Path, **options: Any) -> None:
        options = {"port": 0, **options}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(engine), repr(options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline().decode().strip()
        self.port = urlsplit(self.first_line).port or 0

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            return send(connection, method, path, body, headers)
        finally:
            connection.close()

    def infer(
        self,
        document: Any,
        tail: bytes = b"",
        headers: Mapping[str, str] | None = None,
        model: str = "tiny",
    ) -> Answer:
        """POST to a model; a tail makes it a binary request."""
        head = document if isinstance(document, bytes) else json.dumps(document).encode()
        lengths = {LENGTH: str(len(head))} if tail else {}
        return self.request(
            "POST", f"/v2/models/{model}/infer", head + tail, {**lengths, **(headers or {})}
        )

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """(exit code, stderr) after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """(exit code, stderr) of a process that ends by itself."""
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on an open connection."""
    connection.request(method, path, body, dict(headers or {}))
    response = connection.getresponse()
    found = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, found, response.read())


def json_input(x: np.ndarray[Any, Any], datatype: str = "FP32", name: str = "x") -> dict[str, Any]:
    """One input in JSON."""
    return {"name": name, "datatype": datatype, "shape": list(x.shape), "data": x.ravel().tolist()}


def binary_input(
    x: np.ndarray[Any, Any], datatype: str = "FP32", name: str = "x"
) -> dict[str, Any]:
    """One input whose values follow in binary."""
    return {
        "name": name,
        "datatype": datatype,
        "shape": list(x.shape),
        "parameters": {"binary_data_size": x.nbytes},
    }
