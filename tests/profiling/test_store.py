"""The store of measurements: many writers, sudden death, damage."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from planner.errors import UsageError
from planner.profiling.store import KernelTime, Store, default_path

_WRITER = """
import sys
from pathlib import Path
from planner.profiling.store import KernelTime, Store
store = Store(Path(sys.argv[1]))
name, count = sys.argv[2], int(sys.argv[3])
for number in range(count):
    store.put("kernel", {f"{name}-{number}": KernelTime(1.0, 0.5, 2.0, 1.0, 20)})
    print(number, flush=True)
"""


def _writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WRITER, str(path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _read(path: Path, key: str) -> None:
    store = Store(path)
    try:
        store.get(key)
    finally:
        store.close()


def test_what_was_put_is_found_by_the_next_store(tmp_path: Path) -> None:
    time_found = KernelTime(2.0, 1.5, 2.5, 0.7, 35, in_context=True)
    first = Store(tmp_path / "a" / "store.sqlite")
    first.put("kernel", {"k": time_found})
    first.put("variant", {"v": {"size_bytes": 3, "nodes": [["n", "Relu"]]}})
    first.close()
    again = Store(tmp_path / "a" / "store.sqlite")
    assert again.kernel("k") == time_found
    assert again.get("v") == {"size_bytes": 3, "nodes": [["n", "Relu"]]}
    assert again.get("absent") is None
    assert again.kernel("absent") is None
    assert again.counts() == {"kernel": 1, "variant": 1}
    again.close()


def test_an_entry_is_replaced_forgotten_and_kinds_are_removed(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    store.put("a", {"1": 1, "2": 2})
    store.put("b", {"3": 3})
    store.put("a", {"1": "newer"})
    assert store.get("1") == "newer"
    store.forget("2")
    store.forget("2")
    assert store.counts() == {"a": 1, "b": 1}
    assert store.remove(["a"]) == 1
    assert store.counts() == {"b": 1}
    assert store.remove() == 1
    assert store.counts() == {}
    store.close()


def test_the_first_of_two_planners_decides_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    ours, theirs = Store(path), Store(path)
    theirs.keep("kernel", {"both": KernelTime(1, 1, 1, 1, 1)})
    ours.keep("kernel", {"both": KernelTime(2, 2, 2, 2, 2), "mine": KernelTime(3, 3, 3, 3, 3)})
    found = [ours.kernel(key) for key in ("both", "mine")]
    assert found == [KernelTime(1, 1, 1, 1, 1), KernelTime(3, 3, 3, 3, 3)]
    ours.close()
    theirs.close()


def test_a_payload_that_is_no_number_writes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put("a", {"good": 1, "bad": float("nan")})
    assert store.counts() == {}
    store.close()


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    path, count = tmp_path / "store.sqlite", 40
    writers = [_writer(path, name, count) for name in ("a", "b", "c")]
    codes = [writer.wait() for writer in writers if writer.communicate()]
    assert codes == [0, 0, 0]
    store = Store(path)
    assert store.counts() == {"kernel": 3 * count}
    assert all(store.kernel(f"{name}-{n}") for name in "abc" for n in range(count))
    store.close()


def test_kill_in_the_middle_of_writing_keeps_what_was_put(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    survivor = Store(path)
    writer = _writer(path, "dying", 100_000)
    assert writer.stdout is not None
    written = [int(writer.stdout.readline()) for _ in range(25)][-1]
    writer.kill()
    rest = writer.communicate()[0].split()
    written = max([written, *map(int, rest)])
    survivor.put("kernel", {"mine": KernelTime(1, 1, 1, 1, 1)})
    survivor.close()
    store = Store(path)
    assert all(store.kernel(f"dying-{number}") for number in range(written + 1))
    assert store.kernel("mine")
    assert store.counts()["kernel"] in (written + 2, written + 3)  # one more may have been put
    store.close()


def test_a_writer_waits_for_another_ones_transaction(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = Store(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer = _writer(path, "patient", 1)
    time.sleep(0.5)
    assert store.get("patient-0") is None
    other.execute("COMMIT")
    assert writer.communicate()[0].split() == ["0"]
    assert store.kernel("patient-0") is not None
    other.close()
    store.close()


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_file_is_named_with_a_way_out(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        Store(path)
    assert caught.value.where == str(path)
    assert "INFOPT_CACHE" in (caught.value.fix or "")


def test_a_page_damaged_later_is_a_usage_error_too(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = Store(path)
    store.put("a", {str(number): "x" * 400 for number in range(200)})
    store.close()
    with path.open("r+b") as stream:
        stream.seek(0, os.SEEK_END)
        size = stream.tell()
        stream.seek(4096)
        stream.write(b"\xa5" * (size - 4096))
    with pytest.raises(UsageError) as caught:
        _read(path, "7")
    assert caught.value.where == str(path)


def test_an_entry_of_another_shape_is_a_usage_error(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    store.put("kernel", {"k": {"latency_us": 1.0, "from": "a newer version"}})
    with pytest.raises(UsageError, match="cannot read"):
        store.kernel("k")
    store.close()


def test_a_folder_where_the_store_should_be(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.mkdir()
    with pytest.raises(UsageError, match="cannot open the store"):
        Store(path)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(UsageError, match="cannot open the store"):
        Store(tmp_path / "cache" / "store.sqlite")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UsageError, match="cannot open the store"):
            Store(tmp_path / "store.sqlite")
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match="Read-only file system"):
        Store(tmp_path / "cache" / "store.sqlite")


def test_the_cache_folder_may_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFOPT_CACHE", str(tmp_path / "mine"))
    assert default_path().parent == tmp_path / "mine"
    store = Store()
    store.put("a", {"1": 1})
    store.close()
    assert default_path().is_file()
