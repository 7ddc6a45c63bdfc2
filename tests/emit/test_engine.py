"""Engine directories: the same bytes for the same plan, and never half of one."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from planner.emit import engine as engine_module
from planner.emit import golden as golden_module
from planner.emit import swap
from planner.emit.blueprint import Blueprint, Part
from planner.emit.engine import is_current, write_engine
from planner.errors import InfoptError, ModelError, UsageError, VerificationError
from planner.runtime import load
from planner.runtime.verify import verify_outputs
from tests.runtime import build

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file with external weights."""
    return build.save(build.affine("x", "y", seed=1), tmp_path_factory.mktemp("s"), external=True)


@pytest.fixture
def blueprint(source: Path) -> Blueprint:
    """One segment with external weights."""
    return build.blueprint([build.part(source)], {"x": build.rows()})


def _contents(folder: Path) -> Mapping[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_is_written_loads_and_keeps_its_goldens(blueprint: Blueprint, tmp_path: Path) -> None:
    manifest = write_engine(tmp_path / "deep/er/engine", blueprint)
    session = load(tmp_path / "deep/er/engine")
    assert session.manifest == manifest
    assert manifest.plan_digest == blueprint.plan.digest
    assert all(check.is_kept for check in verify_outputs(session))
    assert sorted(_contents(session.directory)) == [
        *(
            "golden/default.inputs.npz",
            "golden/default.outputs.npz",
            "golden/default.reference.npz",
        ),
        *("manifest.json", "parts/000/model.onnx", "parts/000/weights.bin", "plan.json"),
    ]


def test_the_same_blueprint_makes_the_same_bytes(blueprint: Blueprint, tmp_path: Path) -> None:
    write_engine(tmp_path / "one", blueprint)
    write_engine(tmp_path / "two", blueprint)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")


def test_an_older_engine_is_replaced_and_nothing_is_left_beside(
    source: Path, tmp_path: Path
) -> None:
    feeds = {"x": build.rows()}
    for seed in (1, 2):
        write_engine(tmp_path / "engine", build.blueprint([build.part(source)], feeds, seed=seed))
    last = build.make_plan({"x": feeds["x"].shape}, seed=2)
    assert is_current(tmp_path / "engine", last.digest)
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_without_an_exchange_in_one_step_two_renames_do(
    blueprint: Blueprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_exchange", lambda *_: False)
    for _ in range(2):
        write_engine(tmp_path / "engine", blueprint)
    assert load(tmp_path / "engine").name == "tiny"
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_if_the_second_rename_fails_the_old_engine_comes_back(
    blueprint: Blueprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_engine(tmp_path / "engine", blueprint)
    before = _contents(tmp_path / "engine")
    real = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if "building" in self.name and not self.name.endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(swap, "_exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UsageError, match="Input/output error"):
        write_engine(tmp_path / "engine", blueprint)
    assert _contents(tmp_path / "engine") == before
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
@pytest.mark.parametrize("place", ["_pack", "write_goldens", "manifest_bytes"])
def test_an_interrupted_build_leaves_the_old_engine(
    blueprint: Blueprint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    failure: BaseException,
) -> None:
    write_engine(tmp_path / "engine", blueprint)
    before = _contents(tmp_path / "engine")

    def fail(*_: Any, **__: Any) -> Any:
        raise failure

    monkeypatch.setattr(engine_module, place, fail)
    expected = UsageError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write_engine(tmp_path / "engine", replace(blueprint, name="other"))
    if isinstance(caught.value, InfoptError):
        assert "No space left" in caught.value.text
        assert "-o" in caught.value.text
    assert _contents(tmp_path / "engine") == before
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


_KILLED = """
import sys, time
from pathlib import Path
from planner.emit import engine
from tests.runtime import build
real = engine.write_goldens
def slow(*arguments):
    print("building", flush=True)
    time.sleep(60)
engine.write_goldens = slow
feeds = {"x": build.rows()}
blueprint = build.blueprint([build.part(Path(sys.argv[1]))], feeds)
engine.write_engine(Path(sys.argv[2]), blueprint)
"""


def test_a_killed_build_leaves_the_old_engine_and_is_tidied_up_later(
    source: Path, blueprint: Blueprint, tmp_path: Path
) -> None:
    write_engine(tmp_path / "engine", blueprint)
    before = _contents(tmp_path / "engine")
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(source), str(tmp_path / "engine")],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"building\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert _contents(tmp_path / "engine") == before
    (leftover,) = [path for path in tmp_path.iterdir() if path.name != "engine"]
    old = time.time() - 3600
    os.utime(leftover, (old, old))
    write_engine(tmp_path / "engine", blueprint)
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_an_engine_moved_aside_by_a_killed_build_comes_back(
    blueprint: Blueprint, tmp_path: Path
) -> None:
    write_engine(tmp_path / "engine", blueprint)
    (tmp_path / "engine").rename(tmp_path / ".engine.building-1-abc.old")
    swap.remove_leftovers(tmp_path / "engine")
    assert load(tmp_path / "engine").name == "tiny"


@pytest.mark.parametrize("foreign", ["thesis.tex", "parts/000", "plan.json"])
def test_other_peoples_directories_are_not_overwritten(
    blueprint: Blueprint, tmp_path: Path, foreign: str
) -> None:
    path = tmp_path / "engine" / foreign
    path.parent.mkdir(parents=True)
    path.write_text("years of work")
    with pytest.raises(UsageError, match="no part of an engine"):
        write_engine(tmp_path / "engine", blueprint)
    assert path.read_text() == "years of work"


def test_an_engine_with_a_users_file_in_it_is_not_overwritten(
    blueprint: Blueprint, tmp_path: Path
) -> None:
    write_engine(tmp_path / "engine", blueprint)
    (tmp_path / "engine/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        write_engine(tmp_path / "engine", blueprint)


def test_a_file_in_the_way(blueprint: Blueprint, tmp_path: Path) -> None:
    (tmp_path / "engine").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        write_engine(tmp_path / "engine", blueprint)
    with pytest.raises(UsageError, match="cannot be written"):
        write_engine(tmp_path / "engine/below", blueprint)


def test_an_empty_directory_is_filled(blueprint: Blueprint, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    write_engine(tmp_path / "engine", blueprint)
    assert load(tmp_path / "engine").name == "tiny"


def test_a_read_only_place(
    blueprint: Blueprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(UsageError, match="read-only: write elsewhere with -o"):
        write_engine(tmp_path / "engine", blueprint)


def test_reuse_asks_for_the_same_plan_and_an_intact_manifest(
    blueprint: Blueprint, tmp_path: Path
) -> None:
    target = tmp_path / "engine"
    assert not is_current(target, blueprint.plan.digest)
    write_engine(target, blueprint)
    assert is_current(target, blueprint.plan.digest)
    assert not is_current(target, "f" * 64)
    (target / "manifest.json").write_text("{}")
    with pytest.raises(VerificationError):
        is_current(target, blueprint.plan.digest)
    write_engine(target, blueprint)
    assert is_current(target, blueprint.plan.digest)


def test_temporary_weights_are_linked_and_others_copied(source: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(source.parent, tmp_path / "own")) / source.name
    for is_temporary, links in ((True, 2), (False, 1)):
        item = replace(build.part(own), is_temporary=is_temporary)
        write_engine(tmp_path / "engine", build.blueprint([item], {"x": build.rows()}))
        assert (tmp_path / "engine/parts/000/weights.bin").stat().st_nlink == links


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "a/../../b", "model.onnx"])
def test_external_data_may_not_leave_its_folder(
    source: Path, tmp_path: Path, location: str
) -> None:
    model = onnx.load(source, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="leaves its folder"):
        engine_module.external_locations(tmp_path / "model.onnx")


def test_parts_that_are_missing_or_damaged(
    blueprint: Blueprint, source: Path, tmp_path: Path
) -> None:
    lost = Path(shutil.copytree(source.parent, tmp_path / "lost")) / source.name
    (lost.parent / "weights.bin").unlink()
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"\xff" * 99)
    for path, words in ((lost, "weights.bin"), (garbage, "garbage.onnx"), (tmp_path / "no", "no")):
        (part,) = blueprint.parts
        assert isinstance(part, Part)
        broken = replace(blueprint, parts=(replace(part, onnx_path=path),))
        with pytest.raises(ModelError, match=words):
            write_engine(tmp_path / "engine", broken)
        assert not (tmp_path / "engine").exists()


def test_names_that_cannot_be_part_of_a_url(blueprint: Blueprint, tmp_path: Path) -> None:
    for name in ("", "a/b", "a b", "é"):
        with pytest.raises(UsageError, match="model name"):
            write_engine(tmp_path / "engine", replace(blueprint, name=name))
    assert engine_module.served_name(Path("/models/My model (v2).onnx")) == "My_model_v2"
    assert engine_module.served_name(Path("模型.onnx")) == "model"
    assert engine_module.served_name(Path("/models/kws conformer/model.onnx")) == "kws_conformer"
    assert engine_module.served_name(Path("/model.onnx")) == "model"


def test_goldens_of_shapes_whose_names_clash(blueprint: Blueprint, tmp_path: Path) -> None:
    first = blueprint.goldens[0]
    both = (replace(first, shape="a/b"), replace(first, shape="a b"))
    manifest = write_engine(tmp_path / "engine", replace(blueprint, goldens=both))
    assert len({check.inputs for check in manifest.golden}) == 2


def test_skipped_outputs_are_not_stored(blueprint: Blueprint, tmp_path: Path) -> None:
    golden = replace(blueprint.goldens[0], skipped=("y",))
    (tmp_path / "g").mkdir()
    (check,) = golden_module.write_goldens(tmp_path / "g", [golden])
    assert check.skipped == ("y",)
    assert np.load(tmp_path / "g" / check.outputs).files == []
