"""Measurements that move between machines: all of them, or a refusal and nothing changed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from planner.errors import EnvironmentMismatchError, UsageError
from planner.profiling.exchange import Imported, export_measurements, import_measurements
from planner.profiling.store import KernelTime, Store
from planner.runtime.fingerprint import this_environment

HERE = this_environment()


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """One with measurements, one with another of its own."""
    full, other = Store(tmp_path / "full.sqlite"), Store(tmp_path / "other.sqlite")
    full.put("kernel", {f"k{n}": KernelTime(1.0 / (n + 1), 0.1, 2.0, 0.5, 20) for n in range(50)})
    full.put("variant", {"v": {"nodes": [["模", "Relu"]], "size_bytes": 3}})
    other.put("kernel", {"k7": KernelTime(99.0, 98.0, 100.0, 0.5, 20)})
    yield full, other
    full.close()
    other.close()


def everything(store: Store) -> list[tuple[str, str, str, float]]:
    return list(store.rows())


def test_what_is_imported_is_what_was_exported(stores: tuple[Store, Store], tmp_path: Path) -> None:
    full, _ = stores
    path = tmp_path / "deep" / "m.gz"
    assert export_measurements(full, path, HERE) == 51
    fresh = Store(tmp_path / "fresh.sqlite")
    assert import_measurements(fresh, path, HERE) == Imported(51, 0)
    assert everything(fresh) == everything(full)
    fresh.close()


def test_an_import_merges_and_what_was_measured_here_stays(
    stores: tuple[Store, Store], tmp_path: Path
) -> None:
    full, other = stores
    export_measurements(full, tmp_path / "m.gz", HERE)
    assert import_measurements(other, tmp_path / "m.gz", HERE) == Imported(50, 1)
    kept = other.kernel("k7")
    assert kept is not None
    assert kept.latency_us == 99.0
    assert other.counts() == {"kernel": 50, "variant": 1}
    assert import_measurements(other, tmp_path / "m.gz", HERE) == Imported(0, 51)


def test_the_same_measurements_make_the_same_bytes(
    stores: tuple[Store, Store], tmp_path: Path
) -> None:
    full, _ = stores
    for name in ("a", "b"):
        export_measurements(full, tmp_path / name, HERE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_empty_store_is_a_file_too(tmp_path: Path) -> None:
    empty = Store(tmp_path / "empty.sqlite")
    assert export_measurements(empty, tmp_path / "m.gz", HERE) == 0
    assert import_measurements(empty, tmp_path / "m.gz", HERE) == Imported(0, 0)
    empty.close()


def test_another_device_is_refused_by_name(stores: tuple[Store, Store], tmp_path: Path) -> None:
    full, other = stores
    elsewhere = HERE.model_copy(update={"device": "Far CPU", "device_digest": "0" * 64})
    export_measurements(full, tmp_path / "m.gz", elsewhere)
    before = everything(other)
    with pytest.raises(EnvironmentMismatchError, match="'Far CPU'"):
        import_measurements(other, tmp_path / "m.gz", HERE)
    assert everything(other) == before


def _lines(content: bytes) -> list[bytes]:
    return gzip.decompress(content).splitlines(keepends=True)


def _packed(*lines: bytes) -> bytes:
    return gzip.compress(b"".join(lines))


def _edited(content: bytes) -> bytes:
    return gzip.compress(gzip.decompress(content).replace(b"0.5", b"0.6", 1))


def _other_format(content: bytes) -> bytes:
    head, *rest = _lines(content)
    return _packed(
        json.dumps({**json.loads(head), "infopt_measurements": 9}).encode(), b"\n", *rest
    )


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "no bytes": lambda content: b"",
    "text": lambda content: b"what is this?",
    "cut": lambda content: content[: len(content) // 2],
    "a flipped byte": lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    "a flipped byte in the device": lambda content: _packed(
        _lines(content)[0].replace(HERE.device_digest.encode(), b"f" * 64), *_lines(content)[1:]
    ),
    "a flipped checksum": lambda content: content[:-6] + bytes([content[-6] ^ 1]) + content[-5:],
    "more behind it": lambda content: content + gzip.compress(b"more"),
    "an edited number": _edited,
    "a lost entry": lambda content: _packed(*_lines(content)[:5], *_lines(content)[6:]),
    "a lost end": lambda content: _packed(*_lines(content)[:-1]),
    "another format": _other_format,
    "another document": lambda content: gzip.compress(b'{"a": 1}\n'),
    "not JSON": lambda content: _packed(_lines(content)[0], b"{nonsense\n"),
    "not an entry": lambda content: _packed(_lines(content)[0], b'["key", "kind"]\n'),
    "no payload": lambda content: _packed(_lines(content)[0], b'["k", "kind", 1.0, "{"]\n'),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_refused_and_changes_nothing(
    stores: tuple[Store, Store], tmp_path: Path, name: str
) -> None:
    full, other = stores
    path = tmp_path / "m.gz"
    export_measurements(full, path, HERE)
    path.write_bytes(DAMAGE[name](path.read_bytes()))
    before = everything(other)
    with pytest.raises(UsageError, match=r"m\.gz: ") as refused:
        import_measurements(other, path, HERE)
    assert "infopt cache export" in (refused.value.fix or "")
    assert everything(other) == before
    other.put("kernel", {"after": KernelTime(1.0, 1.0, 1.0, 1.0, 1)})  # still in good order


def test_a_missing_file_and_a_folder(stores: tuple[Store, Store], tmp_path: Path) -> None:
    for path in (tmp_path / "absent.gz", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            import_measurements(stores[1], path, HERE)
