"""From a limit on memory that the weights break to an engine within it: real processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner import pipeline, runtime
from planner.errors import InfeasibleError
from planner.graph.load import load
from planner.profiling.context import runtime_size_bytes
from planner.progress import Silent
from planner.runtime.ort import make_session
from planner.spec.io import read_plan, sealed, write_plan
from planner.spec.plan import ModelRef, Plan, Promise, WorkloadShape
from planner.spec.session import SessionSettings
from planner.steps.streaming import decide
from planner.steps.streaming.plan import stream
from planner.steps.workspace import workspace
from tests.endtoend import Workshop
from tests.runtime.build import make_plan

thorough = pytest.mark.skipif(
    "INFOPT_EXAMPLES" not in os.environ,
    reason="half a minute of measuring: INFOPT_EXAMPLES=100 runs it",
)
WIDTH, LAYERS, WORDS = 1024, 9, 4000
ROOM = 26
"""MiB besides the runtime: less than what the products take, and too little for the table with the
first of them (20 MiB) beside two that stream, however long anything took."""
MIB = 2**20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Looked-up rows (16 MB), then nine products of 4 MiB with a residual around each."""
    rng = np.random.default_rng(3)
    weights = {"table": rng.standard_normal((WORDS, WIDTH), np.float32)}
    nodes = [helper.make_node("Gather", ["table", "ids"], ["x0"], "rows")]
    for n in range(LAYERS):
        weights[f"w{n}"] = rng.standard_normal((WIDTH, WIDTH), np.float32) / WIDTH**0.5
        nodes += [
            helper.make_node("MatMul", [f"x{n}", f"w{n}"], [f"h{n}"], f"product{n}"),
            helper.make_node("Tanh", [f"h{n}"], [f"t{n}"], f"tanh{n}"),
            helper.make_node("Add", [f"t{n}", f"x{n}"], [f"x{n + 1}"], f"add{n}"),
        ]
    graph = helper.make_graph(
        nodes, "stack",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows"])],
        [helper.make_tensor_value_info(f"x{LAYERS}", TensorProto.FLOAT, ["rows", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("model") / "stack.onnx"
    onnx.save(made, path)
    return path


@pytest.fixture(scope="module")
def limit(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Of the whole process."""
    return runtime_size_bytes(tmp_path_factory.mktemp("context")) + ROOM * MIB


def streamed(model: Path, limit: int, *rows: int, latency_us: float | None = None) -> Plan:
    """Of looked-up rows."""
    shapes = {f"rows{n}": {"ids": (n,)} for n in rows}
    return streamed_on(model, limit, shapes, latency_us=latency_us)


def streamed_on(
    model: Path,
    limit: int,
    given: Mapping[str, Mapping[str, tuple[int, ...]]],
    latency_us: float | None = None,
) -> Plan:
    """Straight from a plan that keeps all weights: planning that one is tested elsewhere."""
    known = load(model)
    plain = make_plan(next(iter(given.values())))
    shapes = tuple(WorkloadShape(name=name, shapes=dict(own)) for name, own in given.items())
    estimate = plain.prediction.latency_p50_us["default"]
    latency = {shape.name: estimate for shape in shapes}
    plan = plain.model_copy(
        update={
            "model": ModelRef(
                path=str(model), sha256=known.sha256, size_bytes=known.size_bytes, ops=28,
                parameters=known.parameters,
            ),
            "workload": shapes,
            "prediction": plain.prediction.model_copy(
                update={"latency_p50_us": latency, "latency_slo_us": latency}
            ),
        }
    )  # fmt: skip
    promise = Promise(memory_size_bytes=limit, latency_us=latency_us)
    with workspace(Silent()) as work:
        return sealed(stream(plan, promise, model, work))


@pytest.fixture(scope="module")
def plan(model: Path, limit: int, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Of two shapes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFOPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(decide, "SECONDS", 0.01)
        return streamed(model, limit, 2, 40)


def test_some_weights_stay_and_the_others_stream(plan: Plan, limit: int) -> None:
    found = plan.streaming
    assert found is not None
    assert found.whole_size_bytes > limit
    assert found.size_bytes <= limit
    assert found.table_size_bytes == 4 * WORDS * WIDTH
    assert 0 < found.streamed_parts < found.parts
    assert found.resident_size_bytes > 0
    memory = plan.prediction.memory_size_bytes
    assert memory.source == "measured"
    assert memory.expected <= limit
    for name in ("rows2", "rows40"):
        estimate = plan.prediction.latency_p50_us[name]
        assert 0 < estimate.low <= estimate.expected <= estimate.high


def test_its_engine_answers_alike_and_damage_is_told(
    workshop: Workshop, plan: Plan, model: Path, tmp_path: Path
) -> None:
    path, engine = tmp_path / "plan.json", tmp_path / "engine"
    write_plan(path, plan)
    ended = workshop.infopt("deploy", path, "--no-serve", "-q", "-o", engine)
    assert ended.code in (0, 4), ended.err
    assert "at its peak" in " ".join(ended.out.split())
    whole = make_session(model, SessionSettings())
    with runtime.load(engine) as session:
        for ids in ([0, 5], list(range(40))):
            feeds = {"ids": np.array(ids, np.int64)}
            found = session.run(feeds)[f"x{LAYERS}"]
            np.testing.assert_allclose(found, whole.run(None, feeds)[0], rtol=1e-3, atol=1e-4)
    refuses_damage(workshop, engine)


def refuses_damage(workshop: Workshop, engine: Path) -> None:
    """Of the weights beside a part."""
    weights = sorted(engine.rglob("streamed.bin"))
    data = bytearray(weights[-1].read_bytes())
    data[17] ^= 255
    weights[-1].write_bytes(data)
    ended = workshop.infopt("verify", engine, "-q")
    assert ended.code == 4
    assert "altered since it was built" in ended.err
    weights[-1].unlink()
    ended = workshop.infopt("verify", engine, "-q")
    assert ended.code == 4
    assert "missing from the engine" in ended.err


@thorough
def test_an_engine_that_takes_more_than_promised_is_told(
    workshop: Workshop, plan: Plan, tmp_path: Path
) -> None:
    promise = plan.promise.model_copy(update={"memory_size_bytes": 10 * MIB})
    with workshop.quick():
        broken = plan.model_copy(update={"promise": promise, "digest": ""})
        verdict = pipeline.verify(pipeline.build(broken, tmp_path / "engine"))
    assert not verdict.passed
    memory = next(check for check in verdict.checks if check.name == "memory")
    assert not memory.passed


@thorough
def test_a_latency_that_streaming_cannot_keep(model: Path, limit: int) -> None:
    with pytest.raises(InfeasibleError, match="weights must stream") as found:
        streamed(model, limit, 2, latency_us=1.0)
    assert "--slo" in (found.value.fix or "")


@thorough
@pytest.mark.parametrize(("less", "words"), [(20, "not enough even where"), (40, "no room for")])
def test_a_memory_that_is_too_little(model: Path, limit: int, less: int, words: str) -> None:
    with pytest.raises(InfeasibleError, match=words) as found:
        streamed(model, limit - less * MIB, 2)
    assert found.value.where == "target.memory"
    assert "--memory" in (found.value.fix or "")


@thorough
def test_the_command_line(workshop: Workshop, model: Path, limit: int, tmp_path: Path) -> None:
    path, engine = tmp_path / "plan.json", tmp_path / "engine"
    given = ("--shapes", "ids:8", "--max-error", "1e-9", "--formats", "fp32", "-q")
    ended = workshop.infopt("plan", model, *given, "--memory", f"{limit}B", "-o", path)
    assert ended.code == 0, ended.err
    assert "come with every run" in ended.out
    assert "instead of" in ended.out
    plan = read_plan(path)
    moved = {op for stage in plan.execution if stage.is_streamed for op in stage.ops}
    told = {each.op for each in plan.decisions if "stream" in each.reason}
    assert moved >= told != set()
    ended = workshop.infopt("deploy", path, "--no-serve", "-q", "-o", engine)
    assert ended.code in (0, 4), ended.err
    assert "at its peak" in " ".join(ended.out.split())
    ended = workshop.infopt("deploy", path, "--to", "triton", "-q", "-o", engine)
    assert ended.code in (2, 4)
    refuses_where_the_request_says_so(workshop, model, limit, tmp_path)


def refuses_where_the_request_says_so(
    workshop: Workshop, model: Path, limit: int, folder: Path
) -> None:
    """The same limit, and weights may rest nowhere but in memory."""
    path = folder / "c.yaml"
    path.write_text(
        f"model: {model}\ntarget: {{device: cpu, memory: {limit}B, offload: []}}\n"
        "workload: [{shapes: {ids: [8]}}]\n"
        "accuracy: {max_error: 1e-9}\ncompression: {formats: [fp32]}\n"
    )
    ended = workshop.infopt("plan", "-c", path, "-q", "-o", folder / "other.json")
    assert ended.code == 3
    assert "target.memory" in ended.err
