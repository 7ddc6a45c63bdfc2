"""Weights that stream: real files, real sessions, real memory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from planner import runtime
from planner.emit.blueprint import Blueprint
from planner.emit.engine import write_engine
from planner.emit.partition import StageCut, partition, read
from planner.errors import (
    DataError,
    EnvironmentMismatchError,
    UsageError,
    VerificationError,
)
from planner.runtime.fingerprint import this_environment
from planner.runtime.ort import make_session, tensor_specs
from planner.runtime.streaming import on_device
from planner.runtime.streaming import session as session_of
from planner.runtime.streaming import stream as streaming
from planner.runtime.streaming.mapped import Mapped
from planner.spec.manifest import Manifest, OrtSegment, StreamedTensor, StreamedWeights
from tests.runtime import fake_cuda
from tests.runtime.build import SETTINGS, make_model, make_plan, tensor

WORDS, WIDTH, LAYERS = 2000, 256, 6


def stack(layers: int = LAYERS, width: int = WIDTH, words: int = WORDS) -> onnx.ModelProto:
    """Looked-up rows, then products with a residual around each: weights of 256 KiB."""
    rng = np.random.default_rng(1)
    nodes = [helper.make_node("Gather", ["table", "ids"], ["x0"], "rows")]
    weights = {"table": rng.standard_normal((words, width), np.float32)}
    for n in range(layers):
        weights[f"w{n}"] = rng.standard_normal((width, width), np.float32) / width**0.5
        nodes += [
            helper.make_node("MatMul", [f"x{n}", f"w{n}"], [f"h{n}"], f"product{n}"),
            helper.make_node("Tanh", [f"h{n}"], [f"t{n}"], f"tanh{n}"),
            helper.make_node("Add", [f"t{n}", f"x{n}"], [f"x{n + 1}"], f"add{n}"),
        ]
    made = f"x{layers}"
    return make_model(
        nodes,
        [tensor("ids", TensorProto.INT64, ["rows"])],
        [tensor(made, TensorProto.FLOAT, ["rows", width])],
        weights,
    )


def engine_of(
    model: onnx.ModelProto, folder: Path, streamed: str = "yny" * LAYERS
) -> tuple[Path, Manifest]:
    """Each layer (and the table) a part; those with a `y` stream."""
    path = folder / "whole.onnx"
    onnx.save(model, path)
    proto, (graph,) = read(path)
    ends = [n + 1 for n, op in enumerate(graph.ops) if op.op_type in ("Gather", "Add")]
    starts = [0, *ends[:-1]]
    cuts = [
        StageCut((0,), frozenset(op.name for op in graph.ops[a:b]), is_streamed=mark == "y")
        for a, b, mark in zip(starts, ends, streamed, strict=False)
    ]
    parts = partition(proto, (graph,), cuts, folder / "parts", SETTINGS, folder)
    inputs, outputs = tensor_specs(make_session(path, SETTINGS))
    plan = make_plan({"ids": (3,)})
    engine = folder / "engine"
    manifest = write_engine(
        engine,
        Blueprint(
            name="stack", plan=plan, parts=parts, inputs=inputs, outputs=outputs, goldens=(),
            environment=this_environment(),
            predicted_latency_us=plan.prediction.latency_p50_us,
        ),
    )  # fmt: skip
    return engine, manifest


def whole(folder: Path, ids: np.ndarray[Any, Any]) -> Any:
    return make_session(folder / "whole.onnx", SETTINGS).run(None, {"ids": ids})[0]


@pytest.mark.parametrize(
    "marks", ["yyyyyyy", "nynynyn", "ynnnnnn", "nnynnnn", "nnnnnny", "yynnnyy"]
)
def test_any_parts_may_stream_and_answers_stay(marks: str, tmp_path: Path) -> None:
    engine, manifest = engine_of(stack(), tmp_path, marks)
    assert [s.streamed is not None for s in manifest.ort_segments] == [m == "y" for m in marks]
    with runtime.load(engine) as session:
        for ids in ([0, 1999, -1], [7], [5] * 40):
            given = np.array(ids, np.int64)
            found = session.run({"ids": given})[f"x{LAYERS}"]
            np.testing.assert_allclose(found, whole(tmp_path, given), rtol=1e-4, atol=1e-4)


def test_tables_are_read_where_they_lie(tmp_path: Path) -> None:
    _, manifest = engine_of(stack(), tmp_path, "y" * 7)
    kinds = [t.is_table for s in manifest.ort_segments if s.streamed for t in s.streamed.tensors]
    assert kinds == [True] + [False] * LAYERS


def test_many_callers_get_their_own_answers(tmp_path: Path) -> None:
    engine, _ = engine_of(stack(), tmp_path)
    given = [np.array([n, n + 1], np.int64) for n in range(24)]
    with runtime.load(engine) as session, ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda ids: session.run({"ids": ids})[f"x{LAYERS}"], given))
    for ids, found in zip(given, answers, strict=True):
        np.testing.assert_allclose(found, whole(tmp_path, ids), rtol=1e-4, atol=1e-4)


def test_a_refused_run_leaves_the_next_one_right(tmp_path: Path) -> None:
    engine, _ = engine_of(stack(), tmp_path, "nyyyyyy")
    good = np.array([3], np.int64)
    with runtime.load(engine) as session:
        with pytest.raises(DataError):
            session.run({"ids": np.array([WORDS + 5], np.int64)})
        found = session.run({"ids": good})[f"x{LAYERS}"]
        np.testing.assert_allclose(found, whole(tmp_path, good), rtol=1e-4, atol=1e-4)


def test_a_closed_session_refuses_and_has_no_thread_left(tmp_path: Path) -> None:
    engine, _ = engine_of(stack(), tmp_path)
    session = runtime.load(engine)
    session.run({"ids": np.array([3], np.int64)})
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.run({"ids": np.array([3], np.int64)})
    assert not [t for t in threading.enumerate() if t.name.startswith("weights")]


@pytest.mark.parametrize("damage", ["altered", "missing", "short", "extra"])
def test_a_damaged_weights_file_is_refused(damage: str, tmp_path: Path) -> None:
    engine, manifest = engine_of(stack(), tmp_path, "y" * 7)
    file = engine / [s.streamed for s in manifest.ort_segments if s.streamed][2].file
    data = bytearray(file.read_bytes())
    if damage == "altered":
        data[1000] ^= 1
        file.write_bytes(data)
    elif damage == "missing":
        file.unlink()
    elif damage == "short":
        file.write_bytes(data[:-8])
    else:
        file.with_name("streamed2.bin").write_bytes(b"x")
    with pytest.raises(VerificationError) as found:
        runtime.load(engine)
    words = {
        "altered": "altered since",
        "missing": "missing from",
        "short": "bytes",
        "extra": "not",
    }
    assert words[damage] in found.value.what
    assert "streamed" in (found.value.where or "")


CUT = """
import sys
from pathlib import Path
import numpy as np
from planner import runtime
from planner.errors import VerificationError
feeds = {"ids": np.array([3], np.int64)}
file = Path(sys.argv[2])
with runtime.load(sys.argv[1]) as session:
    session.run(feeds)
    file.open("r+b").truncate(int(sys.argv[3]))
    try:
        session.run(feeds)
    except VerificationError as error:
        print(error.where, error.what)
"""
"""In a process of its own: what is not told ends it."""


@pytest.mark.parametrize(
    ("which", "length"), [("first", 0), ("middle", 4096), ("table", 4096), ("resident", 0)]
)
def test_a_file_cut_off_while_it_is_used_is_told(which: str, length: int, tmp_path: Path) -> None:
    """First: its weights came behind the last part of the run before, and are there. Table: what
    is looked up is read where it lies. Resident: ONNX Runtime maps it."""
    marks = {"table": "yyyyyyy", "resident": "nnyyyyy"}.get(which, "nyyyyyy")
    engine, manifest = engine_of(stack(), tmp_path, marks)
    streamed = [engine / s.streamed.file for s in manifest.ort_segments if s.streamed is not None]
    beside = [
        engine / entry.path
        for entry in manifest.files
        if entry.path.startswith(str(Path(manifest.ort_segments[0].file).parent))
        and entry.path != manifest.ort_segments[0].file
    ]
    file = {"first": streamed[0], "middle": streamed[3], "table": streamed[0]}.get(which, beside[0])
    done = subprocess.run(
        [sys.executable, "-c", CUT, str(engine), str(file), str(length)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(file) in done.stdout


def test_a_manifest_that_declares_other_weights_is_refused(tmp_path: Path) -> None:
    engine, _ = engine_of(stack(), tmp_path, "y" * 7)
    from planner.runtime.integrity import MANIFEST, manifest_bytes, read_manifest

    manifest = read_manifest(engine)
    text = json.dumps(manifest.model_dump(mode="json")).replace("[256, 256]", "[512, 128]")
    (engine / MANIFEST).write_bytes(manifest_bytes(Manifest.model_validate_json(text)))
    with pytest.raises(VerificationError, match="not those the manifest declares"):
        runtime.load(engine)


def test_pages_come_and_go(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(np.arange(2**20, dtype=np.float32).tobytes())
    mapped = Mapped(file, (StreamedTensor(name="w", dtype="float32", shape=(2**20,), offset=0),))
    mapped.fetch()
    assert _resident_kib("weights.bin") >= 4096
    np.testing.assert_array_equal(mapped.arrays["w"], np.arange(2**20, dtype=np.float32))
    mapped.release()
    assert _resident_kib("weights.bin") == 0
    assert mapped.arrays["w"][77] == 77  # a late read brings its page again


def test_kernels_without_that_advice_touch_every_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.runtime.streaming.mapped._POPULATE_READ", 9999)
    test_pages_come_and_go(tmp_path)


def _resident_kib(name: str) -> int:
    found, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.split(" ")[0].count("-") == 1 and ":" not in line.split(" ")[0]:
            mine = line.endswith(name)
        if mine and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


class Recorder:
    """A source that notes what is there."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.there: set[int] = set()
        self.most = 0

    def start(self, number: int) -> None:
        self.there.add(number)
        self.most = max(self.most, len(self.there))

    def finish(self, number: int) -> dict[str, int]:
        return {"w": number}

    def release(self, number: int) -> None:
        self.there.discard(number)

    def close(self) -> None:
        assert not self.there


@pytest.mark.parametrize("seed", range(40))
def test_never_more_than_two_and_always_the_right_one(seed: int) -> None:
    """Whatever order parts are taken in, and wherever runs break off."""
    rng = np.random.default_rng(seed)
    source = Recorder(int(rng.integers(1, 6)))
    stream = streaming.Stream(source)
    for _ in range(60):
        number = int(rng.integers(source.count))
        with stream.taken(number) as weights:
            assert weights == {"w": number}
            coming = int(rng.integers(source.count))
            if rng.random() < 0.7 and coming != number:
                stream.start(coming)
        assert len(source.there) <= 1
    assert source.most <= 2
    stream.close()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> fake_cuda.FakeDriver:
    """Host memory as a GPU's: engines for the CPU take the way of those for a GPU."""
    driver = fake_cuda.install(monkeypatch)

    def slots(directory: Path, streamed: Sequence[StreamedWeights], _: str) -> Any:
        return on_device.Slots([(directory / each.file, each.tensors) for each in streamed])

    def part(made: Any, segment: OrtSegment) -> Any:
        return on_device.DevicePart(made, segment.outputs)

    monkeypatch.setattr(on_device, "_DEVICE", "cpu")
    monkeypatch.setattr(session_of, "_source", slots)
    monkeypatch.setattr(session_of, "_call", part)
    monkeypatch.setattr(session_of, "_host", lambda _: on_device.on_host)
    return driver


@pytest.mark.parametrize("marks", ["yyyyyyy", "nynynyn", "nnynnnn"])
def test_weights_stream_into_two_places_on_a_device(
    marks: str, tmp_path: Path, device: fake_cuda.FakeDriver
) -> None:
    engine, _ = engine_of(stack(), tmp_path, marks)
    with runtime.load(engine) as session:
        for ids in ([0, 1999, -1], [7], [5] * 40):
            given = np.array(ids, np.int64)
            found = session.run({"ids": given})[f"x{LAYERS}"]
            assert isinstance(found, np.ndarray)
            np.testing.assert_allclose(found, whole(tmp_path, given), rtol=1e-4, atol=1e-4)


def test_a_device_without_room_for_two_parts(tmp_path: Path, device: fake_cuda.FakeDriver) -> None:
    engine, _ = engine_of(stack(), tmp_path, "nyyyyyy")
    device.memory_limit_bytes = 4 * WIDTH * WIDTH - 1
    with pytest.raises(EnvironmentMismatchError, match="left"):
        runtime.load(engine)


MEMORY = """
import json, sys, numpy as np
from planner import runtime
with runtime.load(sys.argv[1]) as session:
    for _ in range(3):
        session.run({"ids": np.array([1, 2, 3])})
lines = dict(l.split(":", 1) for l in open("/proc/self/status"))
print(int(lines["VmHWM"].split()[0]) * 1024)
"""


def test_what_streams_is_not_in_memory(tmp_path: Path) -> None:
    """24 MiB of products and a table of 8 MiB, two products of 4 MiB at a time."""
    model = stack(6, 1024, 2000)
    sizes = {}
    for marks in ("n" * 7, "y" * 7):
        folder = tmp_path / marks[0]
        folder.mkdir()
        engine, _ = engine_of(model, folder, marks)
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(engine)], capture_output=True, text=True, check=True
        )
        sizes[marks[0]] = int(done.stdout)
    assert sizes["n"] - sizes["y"] > 18 * 2**20
