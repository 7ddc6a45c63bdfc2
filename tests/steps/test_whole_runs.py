"""Whole runs in the store: what failed for reasons of the moment is timed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from planner.profiling.race import Contestant
from planner.profiling.store import Store
from planner.progress import Silent
from planner.spec.session import SessionSettings
from planner.steps import whole_runs as module
from planner.steps.bench import Bench
from planner.steps.prepare import Prepared
from planner.steps.variants import Variant
from planner.steps.whole_runs import Observed, whole_runs
from planner.steps.workspace import Workspace


def _variant(name: str, realised: dict[str, str]) -> Variant:
    made = SimpleNamespace(key=name, build=lambda: Path(name))
    return cast("Variant", SimpleNamespace(name=name, realised=realised, executable=made))


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workspace]:
    store = Store(tmp_path / "store.sqlite")
    yield Workspace(store, tmp_path / "kept", tmp_path, Silent())
    store.close()


@pytest.mark.parametrize(
    ("failing", "moments", "times"),
    [("native", 9, 4), ("native", 3, 4), ("native", 1, 2), ("int8", 9, 1), ("", 0, 1)],
)
def test_a_native_variant_that_did_not_run_is_tried_again(
    failing: str, moments: int, times: int, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    seen: list[int] = []

    def race(contestants: Sequence[Contestant], *_: object, **__: object) -> dict[str, Any]:
        calls.append(len(contestants))
        lost = failing if len(calls) <= moments and failing else "?"
        return {one.name: {} for one in contestants if not one.name.startswith(lost)}

    monkeypatch.setattr(module, "race", race)
    entries = [
        Observed(_variant("native", {}), SessionSettings(intra_op_threads=1)),
        Observed(_variant("int8", {"a": "int8"}), SessionSettings(intra_op_threads=1)),
    ]
    shape = SimpleNamespace(feeds_digest="f", feeds_path=Path("f"))
    loaded = SimpleNamespace(size_bytes=1)
    prepared = cast("Prepared", SimpleNamespace(shapes=[shape], sha256="s", loaded=loaded))
    environment = SimpleNamespace(device_digest="d")
    bench = cast("Bench", SimpleNamespace(environment=environment, rest=lambda: None))
    for _ in range(2):
        seen.append(len(whole_runs(entries, 0, prepared, bench, work)))
    assert len(calls) == times
    assert seen == {9: [1, 1], 3: [1, 2], 1: [2, 2], 0: [2, 2]}[moments]
