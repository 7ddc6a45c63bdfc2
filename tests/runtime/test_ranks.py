"""Engines of several ranks, with real processes that talk through whatever library is installed."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from planner import runtime
from planner.emit.blueprint import Part, Talk
from planner.emit.engine import write_engine
from planner.errors import DataError, EnvironmentMismatchError, UsageError, VerificationError
from planner.runtime import integrity
from planner.runtime.ranks import fabric
from planner.runtime.ranks.channel import Channel
from planner.runtime.ranks.group import RankLostError
from planner.runtime.ranks.program import Compute, Receive, Send, Together, programs
from planner.runtime.ranks.session import GroupSession
from planner.runtime.verify import verify_outputs
from planner.spec.manifest import CollectiveSegment, Stage
from tests.runtime import build

LIBRARIES = {"mpi": "mpi4py", "gloo": "torch"}
HIDDEN = 16
PAIR = (0, 1)


@pytest.fixture(params=sorted(LIBRARIES))
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each library that ranks on CPUs can talk through."""
    if importlib.util.find_spec(LIBRARIES[request.param]) is None:
        pytest.skip(f"{LIBRARIES[request.param]} is not installed")
    monkeypatch.setattr("planner.runtime.ranks.session.choose", lambda device: request.param)
    return str(request.param)


def mlp(hidden: slice) -> onnx.ModelProto:
    """x -> relu(x W1[:, hidden]) W2[hidden]: whole, or a rank's summand of it."""
    rng = np.random.default_rng(3)
    first = rng.standard_normal((build.WIDTH, HIDDEN)).astype(np.float32)
    second = rng.standard_normal((HIDDEN, build.WIDTH)).astype(np.float32)
    return build.make_model(
        [
            helper.make_node("MatMul", ["x", "W1"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "W2"], ["y"]),
        ],
        [build.tensor("x", TensorProto.FLOAT, ["rows", build.WIDTH])],
        [build.tensor("y", TensorProto.FLOAT, ["rows", build.WIDTH])],
        {"W1": first[:, hidden], "W2": second[hidden]},
    )


def sharded(folder: Path) -> Path:
    """x -> mlp, each rank half of the hidden units, then the sum."""
    whole = build.part(build.save(mlp(slice(None)), folder / "whole"))
    half = HIDDEN // 2
    paths = [build.save(mlp(slice(n * half, (n + 1) * half)), folder / f"rank{n}") for n in PAIR]
    for path in paths:
        model = onnx.load(path)
        model.graph.node[-1].output[0] = model.graph.output[0].name = "part"
        onnx.save(model, path)
    parts = (
        Part(paths[0], ("x",), ("part",), build.SETTINGS, ranks=PAIR, shard_paths=(paths[1],)),
        Talk(CollectiveSegment(operation="all_reduce", tensor="part", result="y"), "cpu", PAIR),
    )
    plain = build.blueprint([whole], {"x": build.rows()})
    write_engine(folder / "engine", replace(plain, parts=parts))
    return folder / "engine"


def pipelined(folder: Path, places: tuple[int, ...] = (0, 1)) -> Path:
    """x -> h1 -> ... -> y, a stage each on the ranks given."""
    names = ["x", *(f"h{n}" for n in range(len(places) - 1)), "y"]
    parts = [
        build.part(build.save(build.affine(a, b, seed=n), folder / f"s{n}"))
        for n, (a, b) in enumerate(itertools.pairwise(names))
    ]
    plain = build.blueprint(parts, {"x": build.rows()})
    placed = [replace(part, ranks=(rank,)) for part, rank in zip(parts, places, strict=True)]
    write_engine(folder / "engine", replace(plain, parts=tuple(placed)))
    return folder / "engine"


@pytest.fixture
def session(library: str, tmp_path: Path) -> Iterator[GroupSession]:
    """The sharded engine, running."""
    with runtime.load(sharded(tmp_path)) as loaded:
        assert isinstance(loaded, GroupSession)
        yield loaded


def expected(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the unsharded model answers."""
    weights = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in mlp(slice(None)).graph.initializer
    }
    found: np.ndarray[Any, Any] = np.maximum(rows @ weights["W1"], 0) @ weights["W2"]
    return found


def test_large_values_of_open_shapes_do_not_wait_in_a_circle(library: str, tmp_path: Path) -> None:
    """More than a socket holds, both ways, from several threads: who sends a run waits for a rank,
    which waits for whoever takes its last answer."""
    session = runtime.load(pipelined(tmp_path))
    rows = build.rows(200_000)
    expected = session.run({"x": rows})["y"]
    alike: list[bool] = []

    def call() -> None:
        for _ in range(4):
            alike.append(bool(np.array_equal(session.run({"x": rows})["y"], expected)))

    threads = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 60
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0.0))
    assert alike == [True] * 16
    session.close()


def test_a_sharded_engine_answers_as_the_whole_model(session: GroupSession) -> None:
    assert all(check.is_kept for check in verify_outputs(session))
    for seed, count in enumerate((1, 7, 300)):
        rows = build.rows(count, seed)
        np.testing.assert_allclose(
            session.run({"x": rows})["y"], expected(rows), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("places", [(0, 1), (0, 1, 0), (1, 0, 1, 2)])
def test_a_pipelined_engine_answers_as_the_whole_model(
    library: str, tmp_path: Path, places: tuple[int, ...]
) -> None:
    with runtime.load(pipelined(tmp_path, places)) as session:
        assert all(check.is_kept for check in verify_outputs(session))


def test_many_callers_at_once_each_get_their_own_answer(session: GroupSession) -> None:
    given = [build.rows(1 + seed % 5, seed) for seed in range(60)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda rows: session.run({"x": rows})["y"], given))
    for rows, answer in zip(given, answers, strict=True):
        np.testing.assert_allclose(answer, expected(rows), rtol=1e-4, atol=1e-5)


def test_callers_that_wait_awake_get_the_same(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine of many cores."""
    monkeypatch.setattr("planner.runtime.ranks.group.spin_s", lambda ranks: 0.02)
    with runtime.load(sharded(tmp_path)) as session, ThreadPoolExecutor(3) as pool:
        given = [build.rows(1 + seed % 5, seed) for seed in range(30)]
        answers = list(pool.map(lambda rows: session.run({"x": rows})["y"], given))
    for rows, answer in zip(given, answers, strict=True):
        np.testing.assert_allclose(answer, expected(rows), rtol=1e-4, atol=1e-5)


def test_a_caller_interrupted_while_it_sends_leaves_no_half_run_behind(
    session: GroupSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rank has the run, the other has not: nobody may be kept waiting for the other."""
    first, second = build.rows(2, 1), build.rows(2, 2)
    send, sent = Channel.send, itertools.count()

    def interrupted(channel: Channel, value: Any) -> None:
        if next(sent):
            raise KeyboardInterrupt
        send(channel, value)

    with monkeypatch.context() as patched:
        patched.setattr(Channel, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.run({"x": first})
    start = time.monotonic()
    np.testing.assert_allclose(
        session.run({"x": second})["y"], expected(second), rtol=1e-4, atol=1e-5
    )
    assert session.restarts == 1
    assert time.monotonic() - start < 60


def test_an_interrupted_caller_leaves_no_answer_behind(
    session: GroupSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows where in a message it was: the next call gets new ranks, and its own answer."""
    first, second = build.rows(2, 1), build.rows(2, 2)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("planner.runtime.ranks.inbox.until_told", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.run({"x": first})
    np.testing.assert_allclose(
        session.run({"x": second})["y"], expected(second), rtol=1e-4, atol=1e-5
    )
    assert session.restarts == 1


def test_bad_inputs_are_refused_before_any_rank_sees_them(session: GroupSession) -> None:
    with pytest.raises(DataError, match="shape"):
        session.run({"x": np.zeros((2, 3), np.float32)})
    with pytest.raises(DataError, match="missing"):
        session.run({"z": build.rows()})
    assert session.group.is_alive


@pytest.mark.parametrize("victim", PAIR)
def test_a_dead_rank_is_noticed_and_replaced(session: GroupSession, victim: int) -> None:
    rows = build.rows()
    before = session.run({"x": rows})["y"]
    pids = dict(session.group.pids)
    os.kill(pids[victim], signal.SIGKILL)
    after = session.run({"x": rows})["y"]
    np.testing.assert_array_equal(before, after)
    assert session.restarts == 1
    assert not set(pids.values()) & set(session.group.pids.values())
    assert _are_gone(pids.values())


def _are_gone(pids: Iterable[int]) -> bool:
    """Whether the processes end within a moment."""
    until = time.monotonic() + 10
    while any(map(_runs, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(map(_runs, pids))


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_rank_that_hangs_does_not_hang_its_caller(
    session: GroupSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.kill(session.group.pids[1], signal.SIGSTOP)
    with pytest.raises(RankLostError, match="no answer"):
        session.group.run({"x": build.rows()}, 0.5)
    assert not session.group.is_alive
    assert session.run({"x": build.rows()})["y"].shape == (2, build.WIDTH)


def test_no_run_in_flight_is_lost_when_a_rank_dies(session: GroupSession) -> None:
    stop = threading.Event()
    wrong: list[str] = []
    done = [0]

    def keep_asking(seed: int) -> None:
        rows = build.rows(3, seed)
        while not stop.is_set():
            try:
                np.testing.assert_allclose(
                    session.run({"x": rows})["y"], expected(rows), rtol=1e-4, atol=1e-5
                )
                done[0] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
                wrong.append(repr(error))

    with ThreadPoolExecutor(3) as pool:
        for seed in range(3):
            pool.submit(keep_asking, seed)
        while done[0] < 50 and not wrong:
            time.sleep(0.01)
        os.kill(session.group.pids[0], signal.SIGKILL)
        target = done[0] + 50
        while done[0] < target and not wrong:
            time.sleep(0.01)
        stop.set()
    assert not wrong
    assert session.restarts == 1


def test_a_closed_session_has_no_ranks(session: GroupSession) -> None:
    pids = list(session.group.pids.values())
    session.close()
    assert _are_gone(pids)
    with pytest.raises(UsageError, match="closed"):
        session.run({"x": build.rows()})


def test_a_rank_that_cannot_run_says_why_and_the_others_go_on(library: str, tmp_path: Path) -> None:
    gather = build.make_model(
        [helper.make_node("Gather", ["table", "x"], ["h"])],
        [build.tensor("x", TensorProto.INT64, ["rows"])],
        [build.tensor("h", TensorProto.FLOAT, ["rows", 2])],
        {"table": np.arange(8, dtype=np.float32).reshape(4, 2)},
    )
    double = build.make_model(
        [helper.make_node("Add", ["h", "h"], ["y"])],
        [build.tensor("h", TensorProto.FLOAT, ["rows", 2])],
        [build.tensor("y", TensorProto.FLOAT, ["rows", 2])],
    )
    parts = [build.part(build.save(m, tmp_path / f"s{n}")) for n, m in enumerate((gather, double))]
    plain = build.blueprint(parts, {"x": np.array([1, 2])})
    placed = tuple(replace(part, ranks=(n,)) for n, part in enumerate(parts))
    write_engine(tmp_path / "engine", replace(plain, parts=placed))
    with runtime.load(tmp_path / "engine") as session:
        assert isinstance(session, GroupSession)
        for _ in range(3):
            with pytest.raises(DataError, match="refuses these inputs"):
                session.run({"x": np.array([1, 99])})
            assert session.run({"x": np.array([3])})["y"].tolist() == [[12.0, 14.0]]
        assert session.restarts == 0


def test_ranks_that_cannot_load_say_why(library: str, tmp_path: Path) -> None:
    engine = sharded(tmp_path)
    broken = engine / "parts/000/rank1/model.onnx"
    manifest = integrity.read_manifest(engine)
    broken.write_bytes(b"\xff" * broken.stat().st_size)
    entries = [
        integrity.file_entry(engine, broken) if entry.path.endswith("rank1/model.onnx") else entry
        for entry in manifest.files
    ]
    altered = build.resealed(manifest, files=tuple(entries))
    (engine / integrity.MANIFEST).write_bytes(integrity.manifest_bytes(altered))
    with pytest.raises(UsageError, match="not an ONNX model"):
        runtime.load(engine)


def test_a_machine_with_too_few_gpus_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = sharded(tmp_path)
    manifest = integrity.read_manifest(engine)
    stages = tuple(stage.model_copy(update={"device": "cuda"}) for stage in manifest.stages)
    altered = build.resealed(manifest, stages=stages)
    (engine / integrity.MANIFEST).write_bytes(integrity.manifest_bytes(altered))
    monkeypatch.setattr("planner.runtime.ranks.session.count_gpus", lambda: 1)
    with pytest.raises(EnvironmentMismatchError, match="needs 2 GPUs; this machine has 1"):
        runtime.load(engine)


def test_no_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentMismatchError, match="mpi4py") as found:
        fabric.choose("cpu")
    assert "infopt[mpi]" in found.value.text
    with pytest.raises(EnvironmentMismatchError, match="NCCL"):
        fabric.choose("cuda")


def test_programs_of_a_sharded_pipeline(tmp_path: Path) -> None:
    reduce = CollectiveSegment(operation="all_reduce", tensor="a", result="b")
    plain = integrity.read_manifest(build.tiny_engine(tmp_path))
    manifest = plain.model_copy(
        update={
            "inputs": (build.spec("x"), build.spec("mask")),
            "outputs": (build.spec("y"), build.spec("b")),
            "stages": (
                Stage(ranks=(0, 1), segments=(build.segment(("x",), ("a",), 2), reduce)),
                Stage(ranks=(2,), segments=(build.segment(("b", "mask"), ("c",)),)),
                Stage(ranks=(3, 1), segments=(build.segment(("c", "b"), ("y",), 2),)),
            ),
        }
    )
    zero, one, two, three = programs(manifest)
    assert [type(step) for step in zero.steps] == [Compute, Together, Send, Send]
    assert [(step.tensor, step.to) for step in zero.steps if isinstance(step, Send)] == [
        ("b", 2),
        ("b", 3),
    ]
    assert [type(step) for step in one.steps] == [Compute, Together, Receive, Compute]
    assert [step.file for step in one.steps if isinstance(step, Compute)] == [
        "parts/a/1.onnx",
        "parts/y/1.onnx",
    ]
    assert [type(step) for step in two.steps] == [Receive, Compute, Send, Send]
    assert [type(step) for step in three.steps] == [Receive, Receive, Compute]
    assert (zero.feeds, one.feeds, two.feeds, three.feeds) == (("x",), ("x",), ("mask",), ())
    assert (zero.returns, one.returns, three.returns) == (("b",), (), ("y",))
    assert one.steps[0].dead == ("x",)
    assert one.steps[1].dead == ("a",)


def test_programs_refuse_what_nobody_makes(tmp_path: Path) -> None:
    manifest = integrity.read_manifest(build.tiny_engine(tmp_path))
    (stage,) = manifest.stages
    late = stage.model_copy(update={"ranks": (1,), "segments": (build.segment(("lost",), ("y",)),)})
    with pytest.raises(VerificationError, match="'lost'"):
        programs(manifest.model_copy(update={"stages": (late,)}))
