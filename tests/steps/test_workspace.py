"""Results are computed once, whoever computes them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from planner.profiling.store import Store
from planner.progress import Silent
from planner.steps import workspace as module
from planner.steps.workspace import Workspace, workspace


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


def test_a_folder_that_another_planner_removes_meanwhile_is_no_matter(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    with workspace(Silent(), store) as work:
        work.kept.mkdir(parents=True)
        (work.kept / "gone").symlink_to(tmp_path / "nothing")  # is listed, and is not there
    store.close()


def test_a_folder_that_cannot_be_kept_is_not_made_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def full(path: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "no space")

    def make(folder: Path) -> None:
        made.append(folder)
        assert len(made) == 1

    store = Store(tmp_path / "store.sqlite")
    with workspace(Silent(), store) as work:
        monkeypatch.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="no space"):
            work.kept_folder("key", make)
    store.close()


def test_a_folder_in_use_outlives_another_planner_that_tidies_up(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")

    def model(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(b"x")

    with workspace(Silent(), store) as ours:
        folder = ours.kept_folder("in use", model)
        for number in range(2 * module._KEEP_MODELS):
            with workspace(Silent(), store) as theirs:
                theirs.kept_folder(f"other {number}", model)
        assert (folder / "model.onnx").exists()
        kept = [one for one in ours.kept.iterdir() if not one.name.startswith(".")]
        assert len(kept) == module._KEEP_MODELS + 1
        for number in range(module._KEEP_MODELS):
            ours.kept_folder(f"another {number}", model)
    for number in range(2 * module._KEEP_MODELS):
        with workspace(Silent(), store) as theirs:
            theirs.kept_folder(f"later {number}", model)
    assert not folder.exists()
    assert not [one for one in folder.parent.iterdir() if one.name.startswith(".")]
    store.close()
