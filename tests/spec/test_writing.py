"""Files are written whole, through links, into pipes and where standard output stands."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from planner.errors import UsageError
from planner.spec import writing


@pytest.mark.parametrize(
    ("number", "fix"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "read-only")]
)
def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fix: str
) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b"old")

    def refuse(_descriptor: int) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(UsageError, match=fix) as refused:
        writing.write_atomically(path, b"new")
    assert refused.value.exit_code == 2
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_an_interrupted_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        writing.write_atomically(tmp_path / "plan.json", b"new")
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_and_files_in_the_way_are_named(tmp_path: Path) -> None:
    writing.write_atomically(tmp_path / "a" / "b" / "plan.json", b"x")
    assert (tmp_path / "a/b/plan.json").read_bytes() == b"x"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        writing.write_atomically(tmp_path / "file" / "plan.json", b"x")
    with pytest.raises(UsageError, match="folder"):
        writing.write_atomically(tmp_path / "a", b"x")


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    """As /dev/null and /dev/stdout must: root could put a file in their place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    writing.refuse_unwritable(pipe)
    writing.write_atomically(pipe, b"plan")
    reader.join(timeout=10)
    assert found == [b"plan"]
    assert pipe.is_fifo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"]


def test_standard_output_goes_on_where_it_stands(tmp_path: Path) -> None:
    """`--html /dev/stdout > file` keeps what was printed before, and what is printed after."""
    code = (
        "from pathlib import Path; from planner.spec import writing; print('before'); "
        "path = Path('/dev/stdout'); writing.refuse_unwritable(path); "
        "writing.write_atomically(path, b'written\\n'); print('after')"
    )
    shown = tmp_path / "shown"
    with shown.open("wb") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert shown.read_text() == "before\nwritten\nafter\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["shown"]


def test_an_open_file_that_is_none_is_refused() -> None:
    path = Path("/dev/fd/987654321")
    with pytest.raises(UsageError, match="Bad file descriptor"):
        writing.refuse_unwritable(path)
    with pytest.raises(UsageError, match="Bad file descriptor"):
        writing.write_atomically(path, b"x")


def test_an_open_file_that_is_only_read_is_told_before_long_work(tmp_path: Path) -> None:
    (tmp_path / "shown").write_bytes(b"old")
    with (
        (tmp_path / "shown").open("rb") as file,
        pytest.raises(UsageError, match="Bad file descriptor"),
    ):
        writing.refuse_unwritable(Path(f"/dev/fd/{file.fileno()}"))
    with (tmp_path / "shown").open("ab") as file:
        writing.refuse_unwritable(Path(f"/dev/fd/{file.fileno()}"))
        writing.write_atomically(Path(f"/dev/fd/{file.fileno()}"), b" and new")
    assert (tmp_path / "shown").read_bytes() == b"old and new"


def test_an_open_file_is_written_to_where_nothing_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python has no stream of what was closed when it started (`2>&-`)."""
    monkeypatch.setattr("sys.stderr", None)
    with (tmp_path / "shown").open("wb") as file:
        writing.write_atomically(Path(f"/dev/fd/{file.fileno()}"), b"x")
    assert (tmp_path / "shown").read_bytes() == b"x"


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "plan.json").write_bytes(b"old")
    link = tmp_path / "plan.json"
    link.symlink_to("real/plan.json")
    writing.write_atomically(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real" / "plan.json").read_bytes() == b"new"
    assert [entry.name for entry in (tmp_path / "real").iterdir()] == ["plan.json"]


def test_a_link_to_where_nothing_can_be_written_is_told_before_long_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    link = tmp_path / "plan.json"
    link.symlink_to("file/plan.json")
    with pytest.raises(UsageError, match="cannot be written"):
        writing.refuse_unwritable(link)
