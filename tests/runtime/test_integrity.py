"""An engine that is not exactly what was built is refused, naming the file."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner.errors import EnvironmentMismatchError, UsageError, VerificationError
from planner.runtime import load
from planner.runtime.integrity import manifest_bytes, read_manifest
from planner.spec.manifest import FileEntry, Manifest, Stage


@pytest.fixture
def engine(tiny: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(tiny, tmp_path / "engine"))


def _refused(engine: Path, *words: str) -> None:
    with pytest.raises(VerificationError) as caught:
        load(engine)
    assert all(word in caught.value.text for word in words), caught.value.text


def _edit(engine: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = engine / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, sort_keys=True, indent=2) + "\n")


def _reseal(engine: Path, **changes: Any) -> Manifest:
    manifest = read_manifest(engine).model_copy(update=changes)
    (engine / "manifest.json").write_bytes(manifest_bytes(manifest))
    return manifest


def test_a_flipped_bit_anywhere_is_found(engine: Path) -> None:
    rng = random.Random(3)
    for path in sorted(item for item in engine.rglob("*") if item.is_file()):
        original = path.read_bytes()
        for at in {0, len(original) - 1, rng.randrange(len(original))}:
            spoilt = bytearray(original)
            spoilt[at] ^= 1 << rng.randrange(8)
            path.write_bytes(spoilt)
            _refused(engine, path.name)
        path.write_bytes(original)
    load(engine)


def test_a_missing_file(engine: Path) -> None:
    (engine / "golden/default.outputs.npz").unlink()
    _refused(engine, "default.outputs.npz", "missing")


@pytest.mark.parametrize("name", ["notes.txt", "parts/000/more.bin", "golden/.hidden"])
def test_an_extra_file(engine: Path, name: str) -> None:
    (engine / name).write_text("mine")
    _refused(engine, name, "not listed")


def test_a_truncated_file(engine: Path) -> None:
    path = engine / "parts/000/model.onnx"
    path.write_bytes(path.read_bytes()[:-5])
    _refused(engine, "model.onnx", "bytes")


def test_links_are_refused_even_to_the_same_contents(engine: Path, tmp_path: Path) -> None:
    path = engine / "parts/000/model.onnx"
    path.rename(tmp_path / "elsewhere.onnx")
    path.symlink_to(tmp_path / "elsewhere.onnx")
    _refused(engine, "model.onnx", "symbolic link")
    path.unlink()
    (engine / "parts/000").rmdir()
    (tmp_path / "folder").mkdir()
    (engine / "parts/000").symlink_to(tmp_path / "folder")
    _refused(engine, "000", "symbolic link")


def test_the_engine_itself_may_be_reached_by_a_link(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(engine)
    assert load(tmp_path / "current").name == "tiny"


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "a/./b", "a\\b", "", ".", "manifest.json", "a\0b"]
)
def test_paths_that_leave_the_engine(engine: Path, name: str) -> None:
    files = read_manifest(engine).files
    _reseal(engine, files=(*files, FileEntry(path=name, size_bytes=0, sha256="0" * 64)))
    _refused(engine, "manifest.json", "plain path")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "JSON"),
        (b"\0" * 100, "JSON"),
        (b"[]", "manifest"),
        (b"{}", "manifest"),
        (b'{"manifest_version": NaN}', "manifest.json"),
        (b"[" * 100_000, "manifest"),
    ],
)
def test_a_garbled_manifest(engine: Path, data: bytes, words: str) -> None:
    (engine / "manifest.json").write_bytes(data)
    _refused(engine, words)


def test_another_version_says_which_one_is_read(engine: Path) -> None:
    _edit(engine, lambda document: document.update(manifest_version=2))
    _refused(engine, "manifest.json", "2", "1")


def test_an_unknown_or_missing_key(engine: Path) -> None:
    _edit(engine, lambda document: document.update(colour="blue"))
    _refused(engine, "manifest.json", "colour")
    _edit(engine, lambda document: (document.pop("colour"), document.pop("stages")))
    _refused(engine, "manifest.json", "stages")


def test_an_edited_promise(engine: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["predicted_latency_us"]["default"]["expected"] *= 2

    _edit(engine, edit)
    _refused(engine, "manifest.json", "digest")


def test_not_an_engine(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="nowhere: no such directory"):
        load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="a file, not an engine directory"):
        load(tmp_path / "file")
    _refused(tmp_path / "empty", "not an engine directory")


def test_segments_must_fit_together(engine: Path) -> None:
    (segment,) = read_manifest(engine).ort_segments

    def stage(**changes: Any) -> tuple[Stage, ...]:
        return (Stage(segments=(segment.model_copy(update=changes),)),)

    _reseal(engine, stages=stage(file="parts/000/other.onnx"))
    _refused(engine, "other.onnx")
    _reseal(engine, stages=stage(inputs=("z",)))
    _refused(engine, "'z'")
    _reseal(engine, stages=stage(outputs=("q",)))
    _refused(engine, "'y'")


def test_a_provider_this_machine_lacks_is_no_silent_fallback(engine: Path) -> None:
    (segment,) = read_manifest(engine).ort_segments
    settings = segment.settings.model_copy(update={"provider": "cuda"})
    changed = Stage(segments=(segment.model_copy(update={"settings": settings}),))
    _reseal(engine, stages=(changed,))
    if _can_run_cuda():
        pytest.skip("this machine has the provider")
    with pytest.raises(EnvironmentMismatchError, match="cuda"):
        load(engine)


def _can_run_cuda() -> bool:
    return Path("/dev/nvidia0").exists()


def test_hashes_can_be_left_to_an_earlier_check(engine: Path) -> None:
    path = engine / "golden/default.inputs.npz"
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    assert load(engine, verify_hashes=False).name == "tiny"
