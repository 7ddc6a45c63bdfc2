"""An engine behind somebody else's server: by hand, and on Ray where it is installed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from planner.emit.targets import target_named
from planner.emit.targets.base import Wishes
from planner.emit.targets.package import package
from planner.errors import EnvironmentMismatchError
from planner.runtime import load
from planner.serve.replica import Replica
from tests.endtoend import environment
from tests.runtime import build
from tests.serve.client import json_input


@pytest.fixture
def replica(engine: Path) -> Iterator[Replica]:
    """Of the tiny engine."""
    made = Replica(engine)
    yield made
    made.close()


def ask(replica: Replica, method: str, path: str, body: bytes = b"") -> Response:
    """One request as a server would hand it over, the body in two parts."""
    parts = [body[:5], body[5:]]

    async def receive() -> Message:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    return asyncio.run(replica(Request(scope, receive)))


def test_a_replica_speaks_the_protocol(replica: Replica, engine: Path) -> None:
    x = build.rows()
    document = json.dumps({"inputs": [json_input(x)]}).encode()
    answer = ask(replica, "POST", "/v2/models/tiny/infer", document)
    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(len(answer.body))
    (output,) = json.loads(bytes(answer.body))["outputs"]
    with load(engine) as session:
        wanted = session.run({"x": x})["y"]
    np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), wanted, rtol=1e-6)
    assert ask(replica, "GET", "/v2/health/ready").status_code == 200


def test_what_a_client_gets_wrong_is_answered(replica: Replica) -> None:
    answer = ask(replica, "POST", "/v2/models/tiny/infer", b"{nonsense")
    assert answer.status_code == 400
    assert "JSON" in json.loads(bytes(answer.body))["error"]
    assert ask(replica, "GET", "/v2/models/other").status_code == 404


def test_a_closed_replica_says_that_it_is_ill(replica: Replica) -> None:
    replica.check_health()
    replica.close()
    with pytest.raises(EnvironmentMismatchError, match="tiny: the engine is not ready"):
        replica.check_health()


# Ray listens on every interface, unless the only one there is loops back.
_ALONE = ("unshare", "-rn", "bash", "-c", 'ip link set lo up && exec "$@"', "_")
_CLIENT = Path(__file__).with_name("ray_client.py")


def _cannot_be_alone() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return True
    return subprocess.run([*_ALONE, "true"], capture_output=True, check=False).returncode != 0


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="ray is not installed: pip install 'infopt[ray]'",
)
def test_the_ray_application_answers_on_ray(engine: Path, tmp_path: Path) -> None:
    if _cannot_be_alone():
        pytest.skip("no network namespace of its own can be had here")
    folder = tmp_path / "app"
    package(target_named("ray"), engine, folder, Wishes(replicas=1))
    done = subprocess.run(
        [*_ALONE, sys.executable, str(_CLIENT)],
        cwd=folder,
        env=environment(tmp_path / "cache", RAY_USAGE_STATS_ENABLED="0"),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    with load(engine) as session:
        wanted = session.run({"x": np.full((2, build.WIDTH), 0.5, np.float32)})["y"]
    np.testing.assert_allclose(np.reshape(found["data"], wanted.shape), wanted, rtol=1e-5)
    assert found["refused"] == 400
