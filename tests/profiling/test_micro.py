"""Micro-models of all kinds of nodes: built from what an analysis saw, run alone, timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from planner.profiling import analyse as analysing
from planner.profiling import micro
from planner.profiling.analyse import (
    Analysis,
    analyse,
    context_times_us,
    micro_inputs,
    quiet_options,
)
from planner.profiling.item import Request
from planner.profiling.measure import Meter
from planner.profiling.store import KernelTime
from tests.profiling.build import Array, model, perceptron, random, save

WRITE_OPTIMISED = analysing._write_optimised
Made = tuple[onnx.ModelProto, dict[str, Array]]


def _convolution() -> Made:
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", pads=[1, 1, 1, 1])
    weights = {"w": random(8, 8, 3, 3), "b": random(8)}
    feeds = {"x": random(1, 8, 6, 6)}
    return model([node], feeds, ["y"], weights), feeds


def _branches() -> Made:
    def branch(kind: str) -> onnx.GraphProto:
        node = helper.make_node(kind, ["x"], ["made"])
        return helper.make_graph([node], kind, [], [onnx.ValueInfoProto(name="made")])

    node = helper.make_node(
        "If", ["flag"], ["y"], name="if", then_branch=branch("Exp"), else_branch=branch("Neg")
    )
    feeds = {"flag": np.array(True), "x": random(3, 4)}
    return model([node], feeds, ["y"]), feeds


def _strings() -> Made:
    node = helper.make_node("StringConcat", ["x", "x"], ["y"], name="concat")
    feeds = {"x": np.array(["a", "bc"], object)}
    return model([node], feeds, ["y"], opset=20), feeds


def _several_outputs() -> Made:
    node = helper.make_node("TopK", ["x", "k"], ["values", "indices"], name="topk")
    feeds = {"x": random(2, 16)}
    return model([node], feeds, ["values", "indices"], {"k": np.array([3], np.int64)}), feeds


def _first_output_omitted() -> Made:
    node = helper.make_node("GRU", ["x", "w", "r"], ["", "last"], name="gru", hidden_size=4)
    feeds = {"x": random(3, 1, 8)}
    weights = {"w": random(1, 12, 8), "r": random(1, 12, 4)}
    return model([node], feeds, ["last"], weights), feeds


def _optional_inputs() -> Made:
    node = helper.make_node("Clip", ["x", "", "high"], ["y"], name="clip")
    feeds = {"x": random(2, 16)}
    return model([node], feeds, ["y"], {"high": np.array(0.5, np.float32)}), feeds


def _same_input_twice() -> Made:
    node = helper.make_node("Mul", ["x", "x"], ["y"], name="square")
    feeds = {"x": random(2, 16)}
    return model([node], feeds, ["y"]), feeds


def _only_constants() -> Made:
    node = helper.make_node("RandomUniform", [], ["noise"], name="r", shape=[4, 4])
    feeds = {"x": random(4, 4)}
    return model([node, helper.make_node("Add", ["x", "noise"], ["y"])], feeds, ["y"]), feeds


_MODELS: dict[str, Callable[[], Made]] = {
    "gemm": perceptron,
    "conv": _convolution,
    "if": _branches,
    "strings": _strings,
    "several outputs": _several_outputs,
    "first output omitted": _first_output_omitted,
    "optional inputs": _optional_inputs,
    "same input twice": _same_input_twice,
    "only constants": _only_constants,
}


def _analysis(made: Made, folder: Path) -> Analysis:
    model_path, _ = save(folder, *made)
    return analyse(model_path, "all", made[1], folder)


def _built(found: Analysis, index: int, copies: int) -> micro.MicroModel:
    """The micro-model of one kernel."""
    constants, activations = micro_inputs(found, index)
    return micro.build(
        found.model.graph.node[index],
        constants,
        activations,
        opsets=found.model.opset_import,
        ir_version=found.model.ir_version,
        copies=copies,
    )


def _run(found: Analysis, index: int, copies: int) -> None:
    built = _built(found, index, copies)
    options = quiet_options("disabled")
    options.use_per_session_threads = True
    session = ort.InferenceSession(
        b"".join(built.parts()), options, providers=["CPUExecutionProvider"]
    )
    assert len(session.run(None, dict(built.feeds))) == 1
    assert built.copies == copies


@pytest.mark.parametrize("name", _MODELS)
def test_every_kernel_runs_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _own_threads(monkeypatch)
    found = _analysis(_MODELS[name](), tmp_path)
    assert found.kernels
    assert not found.unmeasurable
    for index in range(len(found.kernels)):
        _run(found, index, copies=3)


def _own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared pool exists in a measuring process only."""

    def options(level: str) -> ort.SessionOptions:
        made = quiet_options(level)
        made.use_per_session_threads = True
        made.intra_op_num_threads = 1
        return made

    monkeypatch.setattr("planner.profiling.analyse.quiet_options", options)
    monkeypatch.setattr("planner.profiling.measure.quiet_options", options)


def test_copies_own_their_weights_and_share_small_constants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _own_threads(monkeypatch)
    found = _analysis(perceptron(), tmp_path)
    built = _built(found, 0, copies=4)
    names = {
        tensor.name for tensor in onnx.load_from_string(b"".join(built.parts())).graph.initializer
    }
    assert {f"w1#{copy}" for copy in range(4)} <= names
    assert sum(name.startswith("b1") for name in names) == 1


def test_the_analysis_tells_shapes_constants_and_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _own_threads(monkeypatch)
    found = _analysis(perceptron(), tmp_path)
    assert [kernel.op_type for kernel in found.kernels] == ["FusedGemm", "Gemm"]
    first = found.kernels[0]
    assert first.constant_size_bytes == 4 * (64 * 64 + 64)
    assert first.output_size_bytes == 4 * 2 * 64
    assert found.values["y"].shape == (2, 16)


def test_a_kernel_of_sequences_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _own_threads(monkeypatch)
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], name="split", axis=0),
        helper.make_node("SequenceLength", ["s"], ["y"], name="length"),
    ]
    feeds = {"x": random(2, 3)}
    found = _analysis((model(nodes, feeds, ["y"]), feeds), tmp_path)
    assert set(found.unmeasurable) == {0, 1}


def test_equal_layers_share_a_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _own_threads(monkeypatch)
    weights = {f"w{i}": random(32, 32, seed=i) for i in range(3)}
    nodes = [helper.make_node("MatMul", [f"t{i}", f"w{i}"], [f"t{i + 1}"]) for i in range(3)]
    feeds = {"t0": random(2, 32)}
    found = _analysis((model(nodes, feeds, ["t3"], weights), feeds), tmp_path)
    assert len(found.kernels) == 3
    assert len({kernel.signature for kernel in found.kernels}) == 1


def test_a_file_in_parts_is_a_whole_model_in_which_every_copy_has_its_own_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _own_threads(monkeypatch)
    found = _analysis(perceptron(), tmp_path)
    built = _built(found, 0, copies=3)
    pieces = list(built.parts())
    whole = onnx.load_from_string(b"".join(pieces))
    assert len(pieces) == 1 + 3 * len(built.own)
    assert [node.op_type for node in whole.graph.node] == ["FusedGemm", "Shape"] * 3
    weights = {tensor.name: tensor.raw_data for tensor in whole.graph.initializer}
    for name, tensor in built.own.items():
        wanted = onnx.numpy_helper.to_array(tensor)
        for copy in range(3):
            own = np.frombuffer(weights[f"{name}#{copy}"], np.float32).reshape(wanted.shape)
            np.testing.assert_allclose(own, wanted, rtol=1e-6)
    reads = [name for node in whole.graph.node for name in node.input]
    assert len(set(weights) & set(reads)) == len(weights)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int8, np.uint8, np.int64])
def test_no_two_copies_have_the_same_weights_but_all_the_same_indices(dtype: type) -> None:
    """ONNX Runtime packs equal weights into one buffer, which would be in a near cache for all."""
    values: Array = np.arange(2048).reshape(32, 64).astype(dtype)
    tensor = onnx.numpy_helper.from_array(values, "w")
    skeleton = onnx.ModelProto()
    built = micro.MicroModel(skeleton, {"w": tensor}, micro._MOST_FAR_COPIES, {})
    parts = list(built.parts())[1:]
    found = [onnx.load_from_string(part).graph.initializer[0] for part in parts]
    assert [each.name for each in found] == [f"w#{copy}" for copy in range(len(found))]
    assert len({each.raw_data for each in found}) == (1 if dtype is np.int64 else len(found))
    for each in found:
        own = onnx.numpy_helper.to_array(each)
        assert own.dtype == values.dtype
        assert np.count_nonzero(own != values) <= 2


@pytest.mark.parametrize("is_changed", [False, True])
def test_large_weights_stay_on_disk_until_their_kernel_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_changed: bool
) -> None:
    """Unchanged ones where the model keeps them; changed ones in a file, if one holds no more."""
    _own_threads(monkeypatch)
    monkeypatch.setattr(analysing, "_EMBEDDED_BYTES", 1024)
    monkeypatch.setattr(analysing, "_MESSAGE_LIMIT_BYTES", 0)
    if is_changed:
        monkeypatch.setattr(analysing, "_write_optimised", _no_message_holds_it)
    made, feeds = perceptron()
    weight = made.graph.initializer[0].raw_data
    source = tmp_path / "source"
    source.mkdir()
    onnx.save(made, source / "m.onnx", save_as_external_data=True, location="w", size_threshold=9)
    found = analyse(source / "m.onnx", "all", feeds, tmp_path)
    stored = found.constants["w1"]
    assert (stored.data_location, stored.raw_data) == (onnx.TensorProto.EXTERNAL, b"")
    assert found.constants["b1"].raw_data
    constants, _ = micro_inputs(found, 0)
    assert constants["w1"].raw_data == weight
    (timed,) = (time for _, time in Meter().measure(found, [Request(0, "k", 20)], budget_s=0.1))
    assert isinstance(timed, KernelTime)
    assert {name for name, _ in context_times_us(found, 2)} == {k.name for k in found.kernels}
    found.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def _no_message_holds_it(
    model_path: Path, level: str, path: Path, data_name: str | None = None
) -> None:
    if data_name is None:
        raise RuntimeError("Protobuf serialization failed.")
    WRITE_OPTIMISED(model_path, level, path, data_name)


def test_the_meter_times_kernels_and_names_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _own_threads(monkeypatch)
    found = _analysis(perceptron(), tmp_path)
    found.model.graph.node[1].op_type = "NoSuchOperator"
    requests = [Request(0, "good", 20), Request(1, "bad", 20)]
    results = {r.key: timed for r, timed in Meter().measure(found, requests, budget_s=0.1)}
    good = results["good"]
    assert isinstance(good, KernelTime)
    assert 0 < good.low_us <= good.latency_us <= good.high_us
    assert good.reference_us > 0
    assert "NoSuchOperator" in str(results["bad"])


def test_a_batch_in_which_nothing_can_be_built_is_told_kernel_by_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _own_threads(monkeypatch)
    found = _analysis(perceptron(), tmp_path)
    for node in found.model.graph.node:
        node.op_type = "NoSuchOperator"
    requests = [Request(0, "one", 20), Request(1, "two", 20)]
    results = {r.key: timed for r, timed in Meter().measure(found, requests, budget_s=0.1)}
    assert {key for key, timed in results.items() if isinstance(timed, str)} == {"one", "two"}


def test_the_call_overhead_is_that_of_a_model_without_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _own_threads(monkeypatch)
    found = _analysis(perceptron(), tmp_path)
    assert 0.1 < Meter().overhead(found).latency_us < 10_000


@pytest.mark.parametrize(
    ("constant", "output", "footprint", "copies"),
    [
        (0, 100, 0, 16),
        (0, 10**6, 0, 2),
        (2**16, 100, 1, 16),
        (2**20, 100, 1, 2),
        (2**10, 100, 16, 64),
        (2**10, 100, 48, 512),
        (2**24, 100, 48, 3),
        (2**25, 100, 48, 2),
        (40 * 2**20, 100, 48, 1),
    ],
)
def test_copies_fill_the_footprint(constant: int, output: int, footprint: int, copies: int) -> None:
    assert micro.copies_for(constant, output, footprint) == copies
