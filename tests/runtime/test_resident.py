"""Engines of fixed shapes on memory that never moves: real processes, and a GPU that stands in."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
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
from planner.errors import DataError, UsageError
from planner.runtime import integrity
from planner.runtime.devices import count_gpus
from planner.runtime.fused.driver import Driver
from planner.runtime.ort import make_session, tensor_specs
from planner.runtime.ranks import part as parts
from planner.runtime.ranks import windows
from planner.runtime.ranks.bench import measure_links
from planner.runtime.ranks.board import CudaBoard, HostBoard
from planner.runtime.ranks.fabric import choose
from planner.runtime.ranks.layout import kinds_of
from planner.runtime.ranks.nccl import library_path
from planner.runtime.ranks.program import Compute, Program, programs
from planner.runtime.ranks.resident import Resident
from planner.runtime.ranks.session import GroupSession
from planner.runtime.ranks.shares import measure_shares
from planner.runtime.ranks.talk import HostTalk
from planner.runtime.verify import verify_outputs
from planner.spec.manifest import CollectiveSegment
from planner.spec.session import SessionSettings
from tests.runtime import build, fake_cuda

PAIR = (0, 1)
needs_library = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None and importlib.util.find_spec("torch") is None,
    reason="neither mpi4py nor torch is installed",
)
needs_two_gpus = pytest.mark.skipif(
    count_gpus() < 2 or library_path() is None, reason="needs two GPUs and NCCL"
)
ROWS, HIDDEN = 6, 16
AXES = {"all_reduce": None, "all_gather": 1, "reduce_scatter": 0}


def engine_of(
    folder: Path, kind: str, session_settings: SessionSettings = build.SETTINGS, device: str = "cpu"
) -> tuple[Path, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]]:
    """x -> product on each rank -> a collective -> product -> y, and what it answers."""
    first = [build.drawn(build.WIDTH, HIDDEN, 10 + rank) for rank in PAIR]
    gathers, scatters = kind == "all_gather", kind == "reduce_scatter"
    second = build.drawn(2 * HIDDEN if gathers else HIDDEN, build.WIDTH, 1)
    rows = ROWS // 2 if scatters else ROWS

    def save(model: onnx.ModelProto, name: str) -> Path:
        return build.save(model, folder / name)

    firsts = [save(build.product("x", "part", first[rank], ROWS), f"first{rank}") for rank in PAIR]
    last = "z" if scatters else "y"
    other = save(build.product("joined", last, second, rows), "second")
    joined = CollectiveSegment(operation=kind, tensor="part", result="joined", axis=AXES[kind])  # type: ignore[arg-type]
    steps: list[Part | Talk] = [
        Part(
            firsts[0], ("x",), ("part",), session_settings, ranks=PAIR, shard_paths=(firsts[1],),
            device=device,
        ),
        Talk(joined, device, PAIR),
        Part(
            other, ("joined",), (last,), session_settings, ranks=PAIR, shard_paths=(other,),
            device=device,
        ),
    ]  # fmt: skip
    if scatters:
        back = CollectiveSegment(operation="all_gather", tensor="z", result="y", axis=0)
        steps.append(Talk(back, device, PAIR))

    def answer(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        hidden = [np.tanh(x @ weight) for weight in first]
        whole = np.concatenate(hidden, 1) if gathers else np.sum(hidden, axis=0)
        found: np.ndarray[Any, Any] = np.tanh(whole @ second)
        return found

    first_plain = save(build.affine("x", "y", seed=0), "plain")
    plain = build.blueprint([build.part(first_plain)], {"x": build.rows(ROWS)})
    x = build.rows(ROWS)
    answers = {"y": answer(x)}
    golden = replace(plain.goldens[0], outputs=answers, reference=answers)
    shaped = [
        tuple(spec.model_copy(update={"shape": (ROWS, build.WIDTH)}) for spec in specs)
        for specs in (plain.inputs, plain.outputs)
    ]
    blueprint = replace(
        plain, parts=tuple(steps), goldens=(golden,), inputs=shaped[0], outputs=shaped[1]
    )
    write_engine(folder / "engine", blueprint)
    return folder / "engine", answer


@needs_library
@pytest.mark.parametrize("kind", AXES)
def test_a_sharded_engine_of_fixed_shapes_answers_alike(tmp_path: Path, kind: str) -> None:
    engine, answer = engine_of(tmp_path, kind)
    with runtime.load(engine) as session:
        assert isinstance(session, GroupSession)
        assert all(told == {"resident": True, "captured": False} for told in _told(session))
        assert all(check.is_kept for check in verify_outputs(session))
        given = [build.rows(ROWS, seed) for seed in range(3)]
        found = [session.run({"x": x})["y"] for x in given]
        for x, y in zip(given, found, strict=True):
            np.testing.assert_allclose(y, answer(x), rtol=1e-4, atol=1e-5)


def _told(session: GroupSession) -> list[Any]:
    return list(session.group.told.values())


@needs_library
@pytest.mark.parametrize("places", [(0, 1), (1, 0, 1, 2)])
def test_a_pipeline_of_fixed_shapes_answers_alike(tmp_path: Path, places: tuple[int, ...]) -> None:
    names = ["x", *(f"h{n}" for n in range(len(places) - 1)), "y"]
    weights = [build.drawn(build.WIDTH, build.WIDTH, n) for n in range(len(places))]
    steps = [
        replace(
            build.part(build.save(build.product(a, b, weights[n], ROWS), tmp_path / f"s{n}")),
            ranks=(places[n],),
        )
        for n, (a, b) in enumerate(itertools.pairwise(names))
    ]
    x = build.rows(ROWS)
    write_engine(tmp_path / "engine", build.blueprint(steps, {"x": x}))
    for weight in weights:
        x = np.tanh(x @ weight)
    with runtime.load(tmp_path / "engine") as session:
        assert isinstance(session, GroupSession)
        assert all(told["resident"] for told in _told(session))
        np.testing.assert_allclose(session.run({"x": build.rows(ROWS)})["y"], x, rtol=1e-4)


@needs_library
def test_a_fault_on_fixed_memory_leaves_the_ranks_in_step(tmp_path: Path) -> None:
    """What a rank cannot compute is told; the others, who got something else, go on."""
    gather = build.make_model(
        [helper.make_node("Gather", ["table", "x"], ["h"])],
        [build.tensor("x", TensorProto.INT64, [2])],
        [build.tensor("h", TensorProto.FLOAT, [2, 2])],
        {"table": np.arange(8, dtype=np.float32).reshape(4, 2)},
    )
    double = build.make_model(
        [helper.make_node("Add", ["h", "h"], ["y"])],
        [build.tensor("h", TensorProto.FLOAT, [2, 2])],
        [build.tensor("y", TensorProto.FLOAT, [2, 2])],
    )
    steps = [build.part(build.save(m, tmp_path / f"s{n}")) for n, m in enumerate((gather, double))]
    placed_steps = [replace(step, ranks=(n,)) for n, step in enumerate(steps)]
    plain = build.blueprint(steps, {"x": np.array([1, 2])})
    write_engine(tmp_path / "engine", replace(plain, parts=tuple(placed_steps)))
    with runtime.load(tmp_path / "engine") as session:
        assert isinstance(session, GroupSession)
        assert all(told["resident"] for told in _told(session))
        for _ in range(3):
            with pytest.raises(DataError, match="refuses these inputs"):
                session.run({"x": np.array([1, 99])})
            assert session.run({"x": np.array([3, 0])})["y"].tolist() == [[12, 14], [0, 2]]
        assert session.restarts == 0


@needs_library
def test_large_results_are_read_where_they_lie(tmp_path: Path) -> None:
    """By many callers at once, each of whom keeps what it got."""
    wide = windows.LEAST_BYTES // (4 * ROWS) + 1
    weights = [build.drawn(build.WIDTH, build.WIDTH, 0), build.drawn(build.WIDTH, wide, 1)]
    steps = [
        replace(
            build.part(build.save(build.product(a, b, weights[n], ROWS), tmp_path / f"s{n}")),
            ranks=(n,),
        )
        for n, (a, b) in enumerate([("x", "m"), ("m", "y")])
    ]
    write_engine(tmp_path / "engine", build.blueprint(steps, {"x": build.rows(ROWS)}))
    given = [build.rows(ROWS, seed) for seed in range(40)]
    with runtime.load(tmp_path / "engine") as session, ThreadPoolExecutor(6) as pool:
        assert isinstance(session, GroupSession)
        assert len(session.group._streets[1]._windows) == 1
        found = list(pool.map(lambda x: session.run({"x": x})["y"], given))
    for x, y in zip(given, found, strict=True):
        np.testing.assert_allclose(
            y, np.tanh(np.tanh(x @ weights[0]) @ weights[1]), rtol=1e-4, atol=1e-5
        )


@needs_library
def test_large_inputs_and_results_of_many_runs_at_once_do_not_wait_in_a_circle(
    tmp_path: Path,
) -> None:
    """More than a socket holds, both ways, while the first stage is two runs ahead of the last."""
    wide = 40_000
    weights = [build.drawn(wide, build.WIDTH, 0), build.drawn(build.WIDTH, wide, 1)]
    steps = [
        replace(
            build.part(build.save(build.product(a, b, weights[n], ROWS), tmp_path / f"s{n}")),
            ranks=(n,),
        )
        for n, (a, b) in enumerate([("x", "m"), ("m", "y")])
    ]
    x = build.drawn(ROWS, wide, 2)
    write_engine(tmp_path / "engine", build.blueprint(steps, {"x": x}))
    expected = np.tanh(np.tanh(x @ weights[0]) @ weights[1])
    with runtime.load(tmp_path / "engine") as session, ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda _: session.run({"x": x})["y"], range(24)):
            np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)
        assert isinstance(session, GroupSession)
        assert session.restarts == 0


@needs_library
def test_the_share_of_talking_is_measured(tmp_path: Path) -> None:
    found = measure_shares(engine_of(tmp_path, "all_reduce")[0])
    assert len(found) == 2
    assert all(one.alone_us > 0 and 0 <= one.talking < 1 and not one.is_captured for one in found)


@needs_library
def test_links_between_places_are_measured() -> None:
    links = measure_links(choose("cpu"), 2, on_device=True)
    assert set(links.times_us) == {"all_reduce", "all_gather", "reduce_scatter", "send"}
    for times in (*links.times_us.values(), links.driver_us):
        assert all(0 < low <= middle <= high for low, middle, high in times.values())


def plain_program(folder: Path) -> tuple[Program, dict[str, Any]]:
    """One rank's: x -> tanh(x W) twice, and its sessions."""
    steps = [
        build.part(build.save(build.product(a, b, build.drawn(4, 4, n), ROWS), folder / f"s{n}"))
        for n, (a, b) in enumerate([("x", "h"), ("h", "y")])
    ]
    write_engine(folder / "engine", build.blueprint(steps, {"x": build.rows(ROWS)}))
    (program,) = programs(integrity.read_manifest(folder / "engine"))
    files = [step.file for step in program.steps if isinstance(step, Compute)]
    return program, {file: make_session(folder / "engine" / file, build.SETTINGS) for file in files}


class _Pretended(CudaBoard):
    """Memory and graphs of a stand-in for the driver; ONNX Runtime finds host memory there."""

    device = "cpu"


class _Alone(HostTalk):
    def __init__(self, board: Any) -> None:
        self.board = board


def resident_of(folder: Path, board: Any) -> Resident:
    """The program above on a board."""
    program, sessions = plain_program(folder)
    known = [spec for each in sessions.values() for specs in tensor_specs(each) for spec in specs]
    kinds = kinds_of(program, known)
    assert kinds is not None
    return Resident(program, kinds, sessions, {}, _Alone(board))


@pytest.mark.parametrize("spoils", [False, True])
def test_a_run_is_captured_unless_the_graph_answers_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoils: bool
) -> None:
    fake = fake_cuda.install(monkeypatch)
    queue = parts.ResidentPart.queue
    spoilt = build.drawn(ROWS, build.WIDTH, 3)

    def recorded(part: parts.ResidentPart) -> None:
        def work() -> None:
            queue(part)
            if spoils and fake.recorded is None and replaying:
                np.copyto(resident._returns[0].place.array, spoilt)

        if fake.recorded is None:
            work()
        else:
            replaying.append(True)
            fake.recorded.append(work)

    replaying: list[bool] = []
    monkeypatch.setattr(parts.ResidentPart, "queue", recorded)
    resident = resident_of(tmp_path, _Pretended(Driver()))
    resident.prepare(lambda holds: holds)
    assert resident.is_captured is not spoils
    replaying.clear()
    for seed in range(3):
        x = build.rows(ROWS, seed)
        fault, (y,) = resident([x])
        assert fault is None
        for n in range(2):
            x = np.tanh(x @ build.drawn(4, 4, n))
        np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-6)


def test_a_rank_alone_with_its_graph_goes_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cuda.install(monkeypatch)
    resident = resident_of(tmp_path, _Pretended(Driver()))
    resident.prepare(lambda holds: False)
    assert not resident.is_captured
    fault, _ = resident([build.rows(ROWS + 1)])
    assert fault is not None
    assert fault.kind is DataError
    assert resident([build.rows(ROWS)])[0] is None


def test_a_board_gives_back_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_cuda.install(monkeypatch)
    freed: list[int] = []

    def free(address: int) -> tuple[int, int]:
        freed.append(address)
        return 0, 0

    monkeypatch.setattr(fake, "cuMemFree", free, raising=False)
    monkeypatch.setattr(fake, "cuMemFreeHost", free, raising=False)
    board = CudaBoard(Driver())
    address = board.allocate(1000)
    taken = {address, board.staging(address, 1000), board.allocate(0)}
    board.close()
    assert set(freed) == taken


@pytest.mark.parametrize("of_gpu", [False, True])
def test_a_board_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch, of_gpu: bool) -> None:
    fake_cuda.install(monkeypatch)
    before = len(list(Path("/proc/self/fd").iterdir()))
    board = CudaBoard(Driver()) if of_gpu else HostBoard()
    address = board.allocate(windows.LEAST_BYTES)
    assert board.block(board.staging(address, windows.LEAST_BYTES)) is not None
    board.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.gpu
@needs_two_gpus
@pytest.mark.parametrize("kind", AXES)
def test_two_gpus_answer_as_numpy_does_with_one_graph_a_run(tmp_path: Path, kind: str) -> None:
    cuda = SessionSettings(provider="cuda", intra_op_threads=1, spinning=False)
    engine, answer = engine_of(tmp_path, kind, cuda, "cuda")
    with runtime.load(engine) as session:
        assert isinstance(session, GroupSession)
        assert all(told == {"resident": True, "captured": True} for told in _told(session))
        for seed in range(3):
            x = build.rows(ROWS, seed)
            np.testing.assert_allclose(session.run({"x": x})["y"], answer(x), rtol=2e-2, atol=2e-3)


def test_shares_of_open_shapes_are_refused(tmp_path: Path) -> None:
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    names = ["x", "m", "y"]
    steps = [
        replace(build.part(build.save(build.affine(a, b, seed=n), tmp_path / f"{n}")), ranks=(n,))
        for n, (a, b) in enumerate(itertools.pairwise(names))
    ]
    write_engine(tmp_path / "engine", build.blueprint(steps, {"x": build.rows()}))
    with pytest.raises(UsageError, match="open"):
        measure_shares(tmp_path / "engine")
