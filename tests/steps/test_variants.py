"""Whatever holds a model in memory is allowed as much as the whole model takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from planner.compress.samples import Samples
from planner.graph.sandbox import MANY_RUNS, Bounds, Sandbox
from planner.profiling.store import Store
from planner.progress import Silent
from planner.steps import choices
from planner.steps.prepare import Prepared
from planner.steps.variant_files import Source
from planner.steps.workspace import Workspace

SIZE_BYTES = 10 * 2**30
"""Of a model whose own file is small: its weights lie beside it."""


def _suffices(bounds: Bounds) -> bool:
    return bounds.memory_size_bytes > 2 * SIZE_BYTES and bounds.wall_s > 600


def test_building_is_bounded_by_the_weights_beside_the_file(tmp_path: Path) -> None:
    assert _suffices(Source(tmp_path / "model.onnx", "model.onnx", SIZE_BYTES).sandbox.bounds)


def test_so_is_calibrating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Bounds] = []

    def call(sandbox: Sandbox, *_: Any) -> dict[str, tuple[float, float]]:
        seen.append(sandbox.bounds)
        return {"x": (0.0, 1.0)}

    monkeypatch.setattr(Sandbox, "call", call)
    loaded = SimpleNamespace(path=tmp_path / "model.onnx", size_bytes=SIZE_BYTES)
    prepared = SimpleNamespace(
        loaded=loaded, sha256="", samples=[SimpleNamespace(digest="")], model_path=loaded.path,
        graph=None,
    )  # fmt: skip
    store = Store(tmp_path / "store.sqlite")
    work = Workspace(store, tmp_path, tmp_path, Silent())
    samples = cast(Samples, prepared.samples[0])
    found = choices._ranges_on(samples, cast(Prepared, prepared), ["x"], work)
    store.close()
    assert found == {"x": (0.0, 1.0)}
    assert _suffices(seen[0])
    # It runs the model on all samples: an hour where one run was found to end, not a minute.
    assert seen[0].wall_s >= MANY_RUNS.wall_s
