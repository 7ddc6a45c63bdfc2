"""Loading and running engines: what fits runs, what does not is refused by name."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from planner import runtime
from planner.emit.engine import write_engine
from planner.errors import DataError, ModelError, UsageError
from planner.runtime.engine import as_engine
from planner.runtime.ort import make_session
from planner.runtime.verify import verify_outputs
from tests.runtime import build


def test_one_segment_answers_like_onnx_runtime(tiny: Path) -> None:
    x = build.rows(5)
    session = runtime.load(tiny)
    raw = make_session(tiny / "parts/000/model.onnx", build.SETTINGS)
    assert np.array_equal(session.run({"x": x})["y"], raw.run(None, {"x": x})[0])
    assert session.name == "tiny"
    assert [item.name for item in session.inputs] == ["x"]
    assert session.outputs[0].shape == (None, build.WIDTH)


def test_segments_pass_tensors_by_name(chain: Path) -> None:
    x = build.rows(3)
    with runtime.load(chain) as session:
        outputs = session.run({"x": x})
    parts = [build.part(chain / f"parts/{index:03d}/model.onnx") for index in range(3)]
    assert list(outputs) == ["y"]
    assert np.array_equal(outputs["y"], build.run_parts(parts, {"x": x})["y"])


def test_a_chain_frees_what_nobody_reads_any_more(chain: Path) -> None:
    session = runtime.load(chain)
    assert session._segments is not None
    assert [segment.dead for segment in session._segments] == [("x",), ("h1",), ("h2",)]


def test_external_weights_travel_with_the_engine(tmp_path: Path) -> None:
    engine = build.tiny_engine(tmp_path, external=True)
    assert (engine / "parts/000/weights.bin").is_file()
    assert all(check.is_kept for check in verify_outputs(runtime.load(engine)))


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, ["missing 'x'"]),
        ({"z": build.rows()}, ["missing 'x'", "unknown 'z'"]),
        ({"x": build.rows(), "z": build.rows()}, ["unknown 'z'"]),
        ({"x": build.rows().tolist()}, ["'x'", "list", "float32"]),
        ({"x": None}, ["'x'", "NoneType"]),
        ({"x": np.float32(1)}, ["'x'", "float32"]),
        ({"x": build.rows().astype(np.float64)}, ["'x'", "float64", "expected float32"]),
        ({"x": build.rows().astype(">f4")}, ["'x'", ">f4"]),
        ({"x": build.rows()[0]}, ["'x'", "shape is [4]", "[?, 4]"]),
        ({"x": build.rows()[:, :3]}, ["'x'", "shape is [2, 3]"]),
    ],
)
def test_misfits_are_refused_by_name(tiny: Path, feeds: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        runtime.load(tiny).run(feeds)
    assert all(word in caught.value.text for word in words), caught.value.text


def test_views_that_are_not_contiguous_are_read_as_meant(tiny: Path) -> None:
    session = runtime.load(tiny)
    wide = build.rows(3, width=2 * build.WIDTH)
    view = wide[:, ::2]
    assert np.array_equal(session.run({"x": view})["y"], session.run({"x": view.copy()})["y"])


def test_every_element_type_goes_through_unchanged(tmp_path: Path) -> None:
    kinds = {
        "bfloat16": TensorProto.BFLOAT16,
        "float8_e4m3fn": TensorProto.FLOAT8E4M3FN,
        "float16": TensorProto.FLOAT16,
        "bool": TensorProto.BOOL,
        "uint64": TensorProto.UINT64,
    }
    values = np.array([[0, 1], [1, 0], [1, 1]])
    feeds = {
        "in_bfloat16": values.astype(ml_dtypes.bfloat16),
        "in_float8_e4m3fn": values.astype(ml_dtypes.float8_e4m3fn),
        "in_float16": values.astype(np.float16),
        "in_bool": values.astype(bool),
        "in_uint64": values.astype(np.uint64) + np.uint64(2**63),
    }
    session = runtime.load(build.typed_engine(tmp_path, kinds, feeds))
    outputs = session.run(feeds)
    for name in kinds:
        assert outputs[f"out_{name}"].dtype == feeds[f"in_{name}"].dtype
        assert np.array_equal(outputs[f"out_{name}"], feeds[f"in_{name}"])
    assert all(check.is_kept for check in verify_outputs(session))


def test_strings_go_through_unchanged(tmp_path: Path) -> None:
    words = np.array([["a", "é"], ["", "long words"], ["\U0001f40d", "z"]], object)
    kinds = {"string": TensorProto.STRING}
    session = runtime.load(build.typed_engine(tmp_path, kinds, {"in_string": words}))
    assert session.run({"in_string": words})["out_string"].tolist() == words.tolist()
    assert session.run({"in_string": words.astype(str)})["out_string"].tolist() == words.tolist()
    assert all(check.is_kept for check in verify_outputs(session))


def test_strings_beside_bfloat16_outputs_are_refused_at_load(tmp_path: Path) -> None:
    kinds = {"string": TensorProto.STRING, "bfloat16": TensorProto.BFLOAT16}
    words = np.array([["a", "b"]], object)
    feeds = {"in_string": words, "in_bfloat16": np.ones((1, 2), ml_dtypes.bfloat16)}
    with pytest.raises(ModelError, match="in_string"):
        runtime.load(build.typed_engine(tmp_path, kinds, feeds))


def test_threads_may_run_one_session_together(chain: Path) -> None:
    session = runtime.load(chain)
    inputs = [build.rows(7, seed=seed) for seed in range(4)]
    expected = [session.run({"x": x})["y"] for x in inputs]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(50):
            if not np.array_equal(session.run({"x": inputs[index]})["y"], expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_closed_session_says_so(tiny: Path) -> None:
    session = runtime.load(tiny)
    with session:
        session.run({"x": build.rows()})
    with pytest.raises(UsageError, match="closed"):
        session.run({"x": build.rows()})


def test_values_the_model_refuses_are_the_callers_fault(tmp_path: Path) -> None:
    model = build.make_model(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        [build.tensor("ids", TensorProto.INT64, ["n"])],
        [build.tensor("y", TensorProto.FLOAT, ["n", 2])],
        {"table": np.eye(2, dtype=np.float32)},
    )
    item = build.part(build.save(model, tmp_path / "source"))
    write_engine(tmp_path / "engine", build.blueprint([item], {"ids": np.array([0, 1])}))
    with pytest.raises(DataError, match="refuses these inputs") as caught:
        runtime.load(tmp_path / "engine").run({"ids": np.array([7])})
    assert "onnxruntime_src" not in caught.value.text


def test_a_session_called_as_an_engine_checks_and_answers_like_one() -> None:
    session = make_session(build.affine("x", "y", seed=1).SerializeToString(), build.SETTINGS)
    call = as_engine(session)
    feeds = {"x": np.ones((2, build.WIDTH), np.float32)}
    assert np.array_equal(call(feeds)["y"], session.run(["y"], feeds)[0])
    with pytest.raises(DataError, match="missing 'x'; unknown 'z'"):
        call({"z": feeds["x"]})
    with pytest.raises(DataError, match="dtype is float64"):
        call({"x": feeds["x"].astype(np.float64)})
