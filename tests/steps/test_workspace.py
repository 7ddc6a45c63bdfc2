"""Results are computed once, whoever computes them."""

from __future__ import annotations

from pathlib import Path

from planner.profiling.store import Store
from planner.progress import Silent
from planner.steps.workspace import Workspace


def test_what_another_planner_kept_meanwhile_is_what_both_go_on_with(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    ours, theirs = Store(path), Store(path)
    work = Workspace(ours, tmp_path, tmp_path, Silent())

    def slower() -> list[int]:
        theirs.keep("contest", {"key": [1]})
        return [2]

    assert work.once("contest", "key", slower) == [1]
    assert work.once("contest", "key", lambda: [3]) == [1]
    ours.close()
    theirs.close()
