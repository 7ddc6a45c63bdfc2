"""Engine directories with generated kernels: chosen path, refusals, device tensors, health."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from planner.emit.blueprint import Part
from planner.emit.engine import write_engine
from planner.errors import (
    DataError,
    EnvironmentMismatchError,
    ModelError,
    UsageError,
    VerificationError,
)
from planner.runtime.engine import load
from planner.runtime.fused.dlpack import DeviceTensor
from planner.runtime.integrity import VERIFIED, read_manifest
from planner.runtime.selection import write_verified
from planner.spec.manifest import FusedSegment
from planner.spec.verified import SegmentTiming, Verified
from tests.runtime import build, fake_cuda
from tests.runtime.fake_cuda import FakeDriver

X = np.arange(4, dtype=np.float32)
FOLDER = "parts/000/fused"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    return fake_cuda.install(monkeypatch)


def doubling(folder: Path) -> Part:
    """y = 4 x + 0.5 for ONNX Runtime."""
    model = build.make_model(
        [helper.make_node("Mul", ["x", "four"], ["h"]), helper.make_node("Add", ["h", "c"], ["y"])],
        [build.tensor("x", TensorProto.FLOAT, [4])],
        [build.tensor("y", TensorProto.FLOAT, [4])],
        {"four": np.array(4, np.float32), "c": np.array(0.5, np.float32)},
    )
    return build.part(build.save(model, folder / "source"))


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """y = 4 x by kernels that double twice; ONNX adds a little, so that the paths differ."""
    library = doubling(tmp_path)
    fake_cuda.engine(tmp_path / "kernels")
    made = replace(library, fused_path=tmp_path / "kernels", device="cuda")
    write_engine(
        tmp_path / "engine",
        replace(build.blueprint([made], {"x": X}), built_for="h200-sxm-141gb"),
    )
    return tmp_path / "engine"


def verified(engine: Path, choice: str, device: str = "7") -> None:
    """What `infopt verify` would have left; the stand-in's device is called 7."""
    timing = SegmentTiming.model_validate({"folder": FOLDER, "choice": choice})
    digest = read_manifest(engine).digest
    write_verified(
        engine,
        Verified(
            manifest_digest=digest, device=device, architecture=90, driver=7, segments=(timing,)
        ),
    )


def test_kernels_run_until_verify_has_found_otherwise(fake: FakeDriver, engine: Path) -> None:
    manifest = read_manifest(engine)
    assert isinstance(manifest.stages[0].segments[0], FusedSegment)
    assert manifest.built_for == "h200-sxm-141gb"
    with load(engine) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], 4 * X)
        assert session.is_healthy
    verified(engine, "library")
    with load(engine) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], 4 * X + 0.5)
        with pytest.raises(UsageError, match="ONNX Runtime runs a part"):
            session.run_on_device({"x": X})
    with load(engine, path="fused") as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], 4 * X)


def test_what_another_device_found_does_not_count(fake: FakeDriver, engine: Path) -> None:
    verified(engine, "library", device="another GPU")
    with load(engine) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], 4 * X)
    verified(engine, "library")
    whole = (engine / VERIFIED).read_text()
    past = whole.replace('"shared_percent": null', '"shared_percent": 101')
    assert past != whole
    for damaged in ("{", past):
        (engine / VERIFIED).write_text(damaged)
        with load(engine) as session:
            np.testing.assert_array_equal(session.run({"x": X})["y"], 4 * X)


def test_device_tensors_pass_through_the_engine(fake: FakeDriver, engine: Path) -> None:
    held = X.copy()
    given = DeviceTensor(held.ctypes.data, (4,), "float32", 0, lambda address: None)
    with load(engine) as session:
        made = session.run_on_device({"x": given})["y"]
        place = np.zeros(4, np.float32)
        target = DeviceTensor(place.ctypes.data, (4,), "float32", 0, lambda address: None)
        assert session.run_on_device({"x": given}, out={"y": target})["y"] is target
        with pytest.raises(DataError, match=r"output 'y': is no device tensor"):
            session.run_on_device({"x": given}, out={"y": place})
    assert list((ctypes.c_float * 4).from_address(made.address)) == list(4 * X)
    assert list(place) == list(4 * X)


@pytest.mark.parametrize(
    "file", [f"{FOLDER}/sm_90/double.cubin", f"{FOLDER}/fused.json", "parts/000/model.onnx"]
)
def test_an_altered_file_is_refused(fake: FakeDriver, engine: Path, file: str) -> None:
    data = bytearray((engine / file).read_bytes())
    data[-1] ^= 1
    (engine / file).write_bytes(data)
    with pytest.raises(VerificationError, match=Path(file).name):
        load(engine)


def test_without_a_gpu_the_library_path_still_runs(engine: Path) -> None:
    with pytest.raises(EnvironmentMismatchError):
        load(engine)
    with load(engine, path="library") as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], 4 * X + 0.5)


def test_a_closed_engine_frees_its_kernels(fake: FakeDriver, engine: Path) -> None:
    session = load(engine)
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.run({"x": X})
    with pytest.raises(UsageError, match="closed"):
        session.run_on_device({"x": X})


def test_parts_opened_before_one_that_cannot_be_give_their_memory_back(
    fake: FakeDriver, tmp_path: Path
) -> None:
    fake_cuda.engine(tmp_path / "kernels")
    first = replace(doubling(tmp_path), fused_path=tmp_path / "kernels", device="cuda")
    second = build.make_model(
        [helper.make_node("Neg", ["y"], ["z"])],
        [build.tensor("y", TensorProto.FLOAT, [4])],
        [build.tensor("z", TensorProto.FLOAT, [4])],
        {},
    )
    parts = [first, build.part(build.save(second, tmp_path / "second"))]
    engine = tmp_path / "engine"
    blueprint = build.blueprint(parts, {"x": X})
    write_engine(engine, replace(blueprint, built_for="h200-sxm-141gb"))
    with load(engine) as session:
        np.testing.assert_array_equal(session.run({"x": X})["z"], -4 * X)
        held = len(fake.memory)
    assert held > 0
    assert not fake.memory
    damaged = engine / "parts/001/model.onnx"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    with pytest.raises(ModelError, match="not an ONNX model"):
        load(engine, verify_hashes=False)
    assert not fake.memory
