"""One server for all tests that do not stop it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime import build
from tests.serve.client import Server


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One affine segment `x` -> `y`."""
    return build.tiny_engine(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def server(engine: Path) -> Iterator[Server]:
    """Bodies up to 64 KiB; must still be alive and well in the end."""
    with Server(engine, max_body_bytes=1 << 16, request_timeout_s=5.0) as running:
        yield running
        assert running.stop() == (0, "")
