"""The measuring process: what it answers, how it dies, how it comes back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from planner.errors import ModelError
from planner.profiling.ceilings import Timed
from planner.profiling.client import MeasuringProcess, WorkerDied
from tests.profiling.build import model, perceptron, random, save


@pytest.fixture(scope="module")
def process() -> Iterator[MeasuringProcess]:
    with MeasuringProcess(1) as made:
        yield made


def _pid(process: MeasuringProcess) -> int:
    return process._process.pid


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_kernels_are_analysed_and_timed(process: MeasuringProcess, tmp_path: Path) -> None:
    model_path, feeds_path = save(tmp_path, *perceptron())
    found = process.analyse(model_path, "all", feeds_path)
    assert [kernel.op_type for kernel in found.kernels] == ["FusedGemm", "Gemm"]
    assert found.tensors["y"] == ("float32", (2, 16))
    assert "x" not in found.constants
    assert found.constant_size_bytes == 4 * (64 * 64 + 64 + 64 * 16 + 16)
    requests = [(0, "first", 20), (1, "second", 20)]
    times = dict(process.measure(found, requests, budget_s=0.1))
    assert set(times) == {"first", "second"}
    assert all(0 < t.low_us <= t.latency_us <= t.high_us for t in times.values())
    assert not any(t.in_context for t in times.values())
    assert process.overhead(found).latency_us > 0
    assert process.reference_us(0.01) > 0


def test_a_call_that_answers_with_a_sequence_only(
    process: MeasuringProcess, tmp_path: Path
) -> None:
    feeds = {"x": random(2, 3)}
    made = model([helper.make_node("SplitToSequence", ["x"], ["s"], axis=0)], feeds, ["s"])
    model_path, feeds_path = save(tmp_path, made, feeds)
    found = process.analyse(model_path, "all", feeds_path)
    assert process.overhead(found).latency_us > 0


def test_types_that_numpy_lacks_are_timed_alone(process: MeasuringProcess, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["b"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.BFLOAT16),
    ]
    feeds = {"x": random(2, 3)}
    model_path, feeds_path = save(tmp_path, model(nodes, feeds, ["y"]), feeds)
    found = process.analyse(model_path, "disabled", feeds_path)
    assert found.tensors["a"] == found.tensors["y"] == ("bfloat16", (2, 3))
    times = dict(process.measure(found, [(i, f"{i}", 0) for i in range(4)], budget_s=0.1))
    assert not any(t.in_context for t in times.values())
    assert process.overhead(found).latency_us > 0


def test_a_kernel_that_cannot_run_alone_is_timed_in_its_graph(
    process: MeasuringProcess, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], name="split", axis=0),
        helper.make_node("SequenceLength", ["s"], ["y"], name="length"),
    ]
    feeds = {"x": random(2, 3)}
    model_path, feeds_path = save(tmp_path, model(nodes, feeds, ["y"]), feeds)
    found = process.analyse(model_path, "all", feeds_path)
    times = dict(process.measure(found, [(0, "a", 0), (1, "b", 0)], budget_s=0.1))
    assert set(times) == {"a", "b"}
    assert all(t.in_context and t.latency_us > 0 for t in times.values())


def test_what_onnxruntime_refuses_is_a_model_error_and_the_process_goes_on(
    process: MeasuringProcess, tmp_path: Path
) -> None:
    model_path, feeds_path = save(tmp_path, *perceptron())
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(model_path.read_bytes()[:-100])
    pid = _pid(process)
    with pytest.raises(ModelError, match="ONNX Runtime refused it"):
        process.analyse(broken, "all", feeds_path)
    assert process.analyse(model_path, "all", feeds_path).kernels
    assert _pid(process) == pid


def test_probes_are_timed_and_refused_ones_say_why(process: MeasuringProcess) -> None:
    specs = [("nodes", 4), ("read", 2**16), ("copy", 2**16), ("gemm", "fp32", 4, 64, 32)]
    found = process.probe([*specs, ("gemm", "int4_wo", 1, 40, 8)], 0.05)
    assert len(found) == 5
    assert all(isinstance(timed, Timed) for timed in found[:4])
    product = found[3]
    assert isinstance(product, Timed)
    assert product.work == 2 * 4 * 64 * 32
    rate = product.rate
    assert 0 < rate.low <= rate.median <= rate.high


def test_a_process_that_dies_is_said_to_and_comes_back(tmp_path: Path) -> None:
    model_path, feeds_path = save(tmp_path, *perceptron())
    with MeasuringProcess(1) as process:
        found = process.analyse(model_path, "all", feeds_path)
        first = _pid(process)
        os.kill(first, 9)
        process._process.wait()
        with pytest.raises(WorkerDied):
            list(process.measure(found, [(0, "k", 20)], budget_s=0.1))
        process.restart()
        assert _pid(process) != first
        assert process.analyse(model_path, "all", feeds_path).number == 0
        second = _pid(process)
        os.kill(second, 9)
        process._process.wait()
        with pytest.raises(ModelError, match="died"):
            process.analyse(model_path, "all", feeds_path)
        assert process.analyse(model_path, "all", feeds_path).kernels
        third = _pid(process)
    assert not any(_is_alive(pid) for pid in (first, second, third))


def test_the_process_ends_with_its_stdin() -> None:
    process = MeasuringProcess(1)
    pid = _pid(process)
    start = time.perf_counter()
    process.close()
    assert time.perf_counter() - start < 5
    assert not _is_alive(pid)


def test_reading_goes_on_only_to_the_end_of_one_measurement(tmp_path: Path) -> None:
    """A caller that stops in the middle must not read old replies as new ones."""
    model_path, feeds_path = save(tmp_path, *perceptron())
    with MeasuringProcess(1) as process:
        found = process.analyse(model_path, "all", feeds_path)
        times = process.measure(found, [(0, "a", 20), (1, "b", 20)], budget_s=0.1)
        next(iter(times))
        times.close()  # type: ignore[attr-defined]
        assert process.reference_us(0.01) > 0


def test_files_of_the_current_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    with MeasuringProcess(1) as process:
        assert process.reference_us(0.01) > 0


def test_forgetting_one_analysis_leaves_the_others_alone(
    process: MeasuringProcess, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    model_path, feeds_path = save(tmp_path, *perceptron())
    feeds = {"x": random(1, 4)}
    relu = model([helper.make_node("Relu", ["x"], ["y"])], feeds, ["y"])
    other_path, other_feeds = save(tmp_path / "other", relu, feeds)
    first = process.analyse(other_path, "all", other_feeds)
    kept = process.analyse(model_path, "all", feeds_path)
    process.forget(first)
    again = process.analyse(other_path, "all", other_feeds)
    assert len({first.number, kept.number, again.number}) == 3
    times = dict(process.measure(kept, [(1, "second layer", 20)], budget_s=0.05))
    assert set(times) == {"second layer"}
    with pytest.raises(ModelError):
        process.overhead(first)


def test_strings_go_in(process: MeasuringProcess, tmp_path: Path) -> None:
    feeds = {"x": np.array(["a", "bc"], object)}
    nodes = [
        helper.make_node("StringConcat", ["x", "x"], ["d"], name="twice"),
        helper.make_node("StringConcat", ["d", "x"], ["y"], name="thrice"),
    ]
    model_path, feeds_path = save(tmp_path, model(nodes, feeds, ["y"], opset=20), feeds)
    found = process.analyse(model_path, "all", feeds_path)
    times = dict(process.measure(found, [(0, "a", 0), (1, "b", 0)], budget_s=0.05))
    assert not any(time.in_context for time in times.values())
    assert len(times) == 2
    assert process.overhead(found).latency_us > 0
