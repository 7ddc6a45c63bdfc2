"""Settings become a session, or a message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from planner.errors import InfoptError, ModelError, UsageError
from planner.runtime.dtypes import numpy_dtype
from planner.runtime.ort import bind, bind_all, make_session, session_options, tensor_specs
from planner.runtime.refusals import ORT_ERRORS
from planner.spec.session import GraphLevel, SessionSettings
from tests.runtime import build


def test_settings_reach_the_session() -> None:
    settings = SessionSettings(
        intra_op_threads=2,
        spinning=False,
        graph_level=GraphLevel.BASIC,
        extra={"session.disable_prepacking": "1"},
    )
    options = session_options(settings)
    assert options.intra_op_num_threads == 2
    assert options.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.disable_prepacking") == "1"


def test_specs_of_bytes_and_files(tmp_path: Path) -> None:
    model = build.affine("x", "y", seed=1)
    for source in (model.SerializeToString(), build.save(model, tmp_path)):
        inputs, outputs = tensor_specs(make_session(source, build.SETTINGS))
        assert inputs == (build.spec("x", shape=(None, build.WIDTH)),)
        assert outputs == (build.spec("y", shape=(None, build.WIDTH)),)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Path("absent/model.onnx"), "no such file"),
        (b"\xff" * 50, "protobuf"),
        (b"", "cannot load"),
    ],
)
def test_what_is_no_model(source: Path | bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        make_session(source, build.SETTINGS)


def test_an_unknown_operator_is_named_without_the_runtimes_own_prefixes(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")],
        "g",
        [build.tensor("x", TensorProto.FLOAT, [1])],
        [build.tensor("y", TensorProto.FLOAT, [1])],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.example", 1)]
    (tmp_path / "m.onnx").write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    )
    with pytest.raises(ModelError) as caught:
        make_session(tmp_path / "m.onnx", build.SETTINGS)
    assert "Frobnicate" in caught.value.text
    assert "ONNXRuntimeError" not in caught.value.text
    assert caught.value.text.count("m.onnx") == 1


@pytest.mark.parametrize(
    "settings",
    [SessionSettings(provider="quantum"), SessionSettings(extra={"k" * 2000: "1"})],
)
def test_settings_the_runtime_does_not_take(settings: SessionSettings) -> None:
    with pytest.raises(UsageError) as caught:
        make_session(build.affine("x", "y", seed=1).SerializeToString(), settings)
    assert isinstance(caught.value, InfoptError)
    assert len(caught.value.text) < 300


def test_outputs_that_cannot_be_handed_out_together_are_left_out() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16),
        helper.make_node("SequenceConstruct", ["x", "x"], ["z"]),
    ]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.BFLOAT16, [2]),
        helper.make_tensor_sequence_value_info("z", TensorProto.FLOAT, None),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])]
    imports = [helper.make_opsetid("", 17)]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=imports, ir_version=9
    )
    names, run = bind_all(make_session(made.SerializeToString(), SessionSettings()))
    assert names == ("y",)
    assert run({"x": np.ones(2, np.float32)})[0].dtype == numpy_dtype("bfloat16")


def test_the_direct_call_answers_as_the_documented_one() -> None:
    session = make_session(build.affine("x", "y", seed=1).SerializeToString(), build.SETTINGS)
    feeds = {"x": np.random.default_rng(2).standard_normal((3, build.WIDTH), dtype=np.float32)}
    (direct,) = bind(session, ["y"])(feeds)
    (plain,) = bind(session, ["y"], is_direct=False)(feeds)
    assert np.any(direct)
    assert np.array_equal(direct, plain)


def test_the_direct_call_still_refuses_what_does_not_fit() -> None:
    run = bind(
        make_session(build.affine("x", "y", seed=1).SerializeToString(), build.SETTINGS), ["y"]
    )
    for feeds in ({}, {"z": np.zeros((3, build.WIDTH), np.float32)}, {"x": np.zeros(3, np.int64)}):
        with pytest.raises(ORT_ERRORS):
            run(feeds)


def test_a_session_without_the_inner_one_is_called_as_documented() -> None:
    real = make_session(build.affine("x", "y", seed=1).SerializeToString(), build.SETTINGS)

    class Other:
        """Another release's session: the same interface, nothing inside."""

        run, get_inputs, get_outputs = real.run, real.get_inputs, real.get_outputs
        get_providers = real.get_providers

    feeds = {"x": np.ones((1, build.WIDTH), np.float32)}
    assert np.array_equal(bind(Other(), ["y"])(feeds)[0], real.run(["y"], feeds)[0])
