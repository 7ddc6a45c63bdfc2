"""Documents on disk: canonical, whole, and told apart from what a hand changed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from planner.errors import SpecError, UsageError, VerificationError
from planner.spec import io
from tests.plans import make_plan


def test_a_plan_reads_back_and_writes_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    written = io.write_plan(path, make_plan())
    first = path.read_bytes()
    assert io.read_plan(path) == written
    io.write_plan(path, written)
    assert path.read_bytes() == first
    assert len(written.digest) == 64


def test_reformatting_is_no_edit(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    io.write_plan(path, make_plan())
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert io.read_plan(path).shipped == "plan"


def test_a_plan_from_before_a_field_existed_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    io.write_plan(path, make_plan())
    older = {**json.loads(path.read_text()), "digest": ""}
    del older["execution"], older["settings"]["cuda_graph"]
    digest = hashlib.sha256(io.canonical_bytes(older)).hexdigest()
    path.write_bytes(io.canonical_bytes({**older, "digest": digest}))
    plan = io.read_plan(path)
    (tmp_path / "again.json").write_bytes(io.canonical_json(plan))  # as an engine holds it
    assert io.read_plan(tmp_path / "again.json") == plan
    assert plan.digest == io.plan_digest(make_plan())
    path.write_bytes(io.canonical_bytes({**older, "digest": digest, "simplified": False}))
    with pytest.raises(VerificationError, match="edited"):
        io.read_plan(path)


def test_an_edit_is_told(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    io.write_plan(path, make_plan())
    path.write_text(path.read_text().replace('"int8_dynamic"', '"int8_static"', 1))
    with pytest.raises(VerificationError, match="edited") as refused:
        io.read_plan(path)
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ("{}", "not a plan: it has no schema_version"),
        ('{"schema_version": 99}', "schema_version 99"),
        ('{"schema_version": NaN}', "NaN"),
        ('{"schema_version": 1}', "problems"),
        ('{"schema_version": 1, "a": ' + "[" * 100_000, "not a plan"),
        ("\xff", "not"),
    ],
)
def test_files_that_are_no_plan(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SpecError, match=what):
        io.read_plan(path)


def test_a_wrong_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    io.write_plan(path, make_plan())
    data = json.loads(path.read_text())
    data["solver"]["gap"] = "none"
    path.write_text(json.dumps(data))
    with pytest.raises(SpecError) as refused:
        io.read_plan(path)
    assert refused.value.where == f"{path}: solver.gap"


def test_an_absent_plan_gets_the_nearest_name(tmp_path: Path) -> None:
    io.write_plan(tmp_path / "plan.json", make_plan())
    with pytest.raises(SpecError, match=r"did you mean .*plan\.json"):
        io.read_plan(tmp_path / "plam.json")


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
        io.write_atomically(path, b"new")
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
        io.write_atomically(tmp_path / "plan.json", b"new")
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_and_files_in_the_way_are_named(tmp_path: Path) -> None:
    io.write_atomically(tmp_path / "a" / "b" / "plan.json", b"x")
    assert (tmp_path / "a/b/plan.json").read_bytes() == b"x"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        io.write_atomically(tmp_path / "file" / "plan.json", b"x")
    with pytest.raises(UsageError, match="folder"):
        io.write_atomically(tmp_path / "a", b"x")


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    """As /dev/null and /dev/stdout must: root could put a file in their place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    io.refuse_unwritable(pipe)
    io.write_atomically(pipe, b"plan")
    reader.join(timeout=10)
    assert found == [b"plan"]
    assert pipe.is_fifo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "plan.json").write_bytes(b"old")
    link = tmp_path / "plan.json"
    link.symlink_to("real/plan.json")
    io.write_atomically(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real" / "plan.json").read_bytes() == b"new"
    assert [entry.name for entry in (tmp_path / "real").iterdir()] == ["plan.json"]


def test_a_link_to_where_nothing_can_be_written_is_told_before_long_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    link = tmp_path / "plan.json"
    link.symlink_to("file/plan.json")
    with pytest.raises(UsageError, match="cannot be written"):
        io.refuse_unwritable(link)
