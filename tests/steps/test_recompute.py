"""Skip connections that are made again: a real engine of less memory, and the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner import pipeline, runtime
from planner.profiling.context import runtime_size_bytes
from planner.report.streaming import rows
from planner.runtime.ort import make_session
from planner.runtime.streaming.footprint import peak_size_bytes
from planner.runtime.tensors import write_tensors
from planner.spec.session import SessionSettings
from planner.steps.streaming import decide
from tests.endtoend import Workshop
from tests.steps.test_streaming import MIB, streamed_on

ROWS, SKIPS = 1024, 6
TIGHT = 25
"""MiB besides the runtime; keeping everything takes 32, and what processes take besides."""
INPUTS = {"x": (ROWS, 1024)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tensors of 4 MiB, each averaged at once and read again in the end, last made first."""
    nodes: list[onnx.NodeProto] = []
    scales: dict[str, np.ndarray[Any, Any]] = {}
    for n in range(SKIPS):
        scales[f"scale{n}"] = np.array([1.0 + n / 8], np.float32)
        nodes += [
            helper.make_node("Mul", ["x", f"scale{n}"], [f"scaled{n}"], f"scale{n}"),
            helper.make_node("Tanh", [f"scaled{n}"], [f"skip{n}"], f"skip{n}"),
            helper.make_node("ReduceMean", [f"skip{n}"], [f"mean{n}"], f"mean{n}", axes=[1]),
        ]
    last = [f"mean{n}" for n in range(SKIPS)]
    nodes.append(helper.make_node("Sum", last, ["code"], "code"))
    for n in reversed(range(SKIPS)):
        source = "code" if n == SKIPS - 1 else f"up{n + 1}"
        nodes += [
            helper.make_node("Mul", [f"skip{n}", source], [f"late{n}"], f"late{n}"),
            helper.make_node("ReduceMean", [f"late{n}"], [f"up{n}"], f"up{n}", axes=[1]),
        ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "skips",
        [value("x", TensorProto.FLOAT, list(INPUTS["x"]))],
        [value("up0", TensorProto.FLOAT, [ROWS, 1])],
        [numpy_helper.from_array(value, name) for name, value in scales.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("model") / "skips.onnx"
    onnx.save(made, path)
    return path


def test_a_tight_memory_makes_skips_again(
    workshop: Workshop, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "SECONDS", 0.01)
    limit = runtime_size_bytes(tmp_path) + TIGHT * MIB
    x = np.random.default_rng(0).standard_normal(INPUTS["x"]).astype(np.float32)
    write_tensors(tmp_path / "x.npz", {"x": x})
    plan = streamed_on(model, limit, {"default": INPUTS})
    found = plan.streaming
    assert found is not None
    assert found.recomputed
    told = dict(rows(plan))["made again"]
    assert all(each.tensor in told for each in found.recomputed)
    assert "more, since keeping" in told
    assert found.whole_size_bytes - limit > 6 * MIB
    with workshop.quick():
        engine = pipeline.build(plan, tmp_path / "engine")
    with runtime.load(engine) as session:
        answer = session.run({"x": x})["up0"]
    whole = make_session(model, SessionSettings()).run(None, {"x": x})[0]
    assert answer.tobytes() == whole.tobytes()
    peak = peak_size_bytes(engine, tmp_path / "x.npz")
    assert peak is None or peak <= limit
