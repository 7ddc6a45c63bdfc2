"""Commands run in this process, against a pipeline that answers at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import planner
from planner.cli.exits import run
from tests.cli.fake_pipeline import FakePipeline, Infopt


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    """Stands in for planning, building and verifying."""
    fake = FakePipeline()
    monkeypatch.setitem(sys.modules, "planner.pipeline", fake)
    monkeypatch.setattr(planner, "pipeline", fake, raising=False)
    return fake


@pytest.fixture
def infopt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Infopt]:
    """`infopt("plan", "model.onnx")` in an empty folder; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield lambda *arguments: run([str(argument) for argument in arguments])
    signal.signal(signal.SIGTERM, before)
