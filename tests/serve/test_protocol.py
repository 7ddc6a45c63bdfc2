"""What a well-behaved client sees."""

from __future__ import annotations

import http.client
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from planner.emit.engine import write_engine
from planner.runtime import load
from planner.runtime.tensors import read_tensors
from planner.runtime.verify import verify_outputs
from tests.runtime import build
from tests.serve.client import Server, binary_input, json_input, send


def _values(answer_tail: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(answer_tail, np.float32).reshape(-1, build.WIDTH)


def test_json_round_trip_of_the_golden(server: Server, engine: Path) -> None:
    golden = read_tensors(engine / "golden/default.inputs.npz")["x"]
    expected = read_tensors(engine / "golden/default.outputs.npz")["y"]
    answer = server.infer({"id": "42", "inputs": [json_input(golden)]})
    assert answer.status == 200
    assert (answer.json["model_name"], answer.json["model_version"]) == ("tiny", "1")
    assert answer.json["id"] == "42"
    (output,) = answer.json["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("y", "FP32", [2, 4])
    assert np.array_equal(np.array(output["data"], np.float32).reshape(2, 4), expected)


def test_nested_data_is_row_major(server: Server) -> None:
    x = build.rows(3)
    flat = server.infer({"inputs": [json_input(x)]})
    nested = server.infer({"inputs": [{**json_input(x), "data": x.tolist()}]})
    assert nested.json["outputs"] == flat.json["outputs"]


def test_binary_round_trip_of_the_golden(server: Server, engine: Path) -> None:
    golden = read_tensors(engine / "golden/default.inputs.npz")["x"]
    expected = read_tensors(engine / "golden/default.outputs.npz")["y"]
    document = {"inputs": [binary_input(golden)], "parameters": {"binary_data_output": True}}
    answer = server.infer(document, golden.tobytes())
    assert answer.json["outputs"][0]["parameters"] == {"binary_data_size": expected.nbytes}
    assert np.array_equal(_values(answer.tail), expected)


def test_binary_may_be_chosen_per_output(server: Server) -> None:
    x = build.rows()
    outputs = [{"name": "y", "parameters": {"binary_data": True}}]
    answer = server.infer({"inputs": [json_input(x)], "outputs": outputs})
    plain = server.infer({"inputs": [binary_input(x)]}, x.tobytes())
    assert _values(answer.tail).ravel().tolist() == plain.json["outputs"][0]["data"]


def test_a_version_may_be_named(server: Server) -> None:
    for path in ("/v2/models/tiny/versions/1", "/v2/models/tiny/versions/1/ready"):
        assert server.request("GET", path).status == 200
    assert server.request("GET", "/v2/models/tiny/versions/7").status == 404


def test_metadata_and_health(server: Server) -> None:
    assert server.request("GET", "/v2").json["extensions"] == ["binary_tensor_data"]
    assert server.request("GET", "/v2/health/live").json == {"live": True}
    assert server.request("GET", "/v2/health/ready").json == {"ready": True}
    assert server.request("GET", "/v2/models/tiny/ready").json == {"name": "tiny", "ready": True}
    metadata = server.request("GET", "/v2/models/tiny").json
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]


def test_metrics_count_outcomes_and_compare_with_the_plan(server: Server) -> None:
    def value(name: str) -> float:
        lines = server.request("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name + " "))

    ok, bad = 'infopt_requests_total{outcome="ok"}', 'infopt_requests_total{outcome="client_error"}'
    before = value(ok), value(bad), value("infopt_request_seconds_count")
    server.infer({"inputs": [json_input(build.rows(2))]})
    server.infer({"inputs": []})
    assert (value(ok), value(bad)) == (before[0] + 1, before[1] + 1)
    assert value("infopt_request_seconds_count") == before[2] + 2
    assert value("infopt_in_flight") == 0
    assert value('infopt_predicted_p50_seconds{shape="default"}') == pytest.approx(10e-6)
    assert value('infopt_measured_over_predicted{shape="default"}') > 0


def test_connections_are_kept_alive_and_survive_refusals(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    statuses = [
        send(connection, "POST", "/v2/models/tiny/infer", body).status
        for body in (b"{", b'{"inputs":[]}', b"", b"{")
    ]
    local = connection.sock.getsockname() if connection.sock else None
    assert send(connection, "GET", "/v2/health/live").status == 200
    assert connection.sock is not None
    assert connection.sock.getsockname() == local
    assert statuses == [400] * 4
    connection.close()


_TYPED = {
    "bool": (TensorProto.BOOL, "BOOL", np.array([[True, False]])),
    "int8": (TensorProto.INT8, "INT8", np.array([[-128, 127]], np.int8)),
    "uint64": (TensorProto.UINT64, "UINT64", np.array([[0, 2**64 - 1]], np.uint64)),
    "int64": (TensorProto.INT64, "INT64", np.array([[-(2**63), 2**63 - 1]], np.int64)),
    "float16": (TensorProto.FLOAT16, "FP16", np.array([[0.5, -65504]], np.float16)),
    "float64": (TensorProto.DOUBLE, "FP64", np.array([[0.1, 1e300]])),
    "bfloat16": (TensorProto.BFLOAT16, "BF16", np.array([[0.5, 3e38]], ml_dtypes.bfloat16)),
}


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A pass-through of every numeric kind."""
    kinds = {name: kind for name, (kind, _, _) in _TYPED.items()}
    feeds = {f"in_{name}": values for name, (_, _, values) in _TYPED.items()}
    engine = build.typed_engine(tmp_path_factory.mktemp("typed"), kinds, feeds)
    with Server(engine) as running:
        yield running


def test_every_datatype_in_json(typed: Server) -> None:
    inputs = [
        json_input(values, datatype, f"in_{name}") for name, (_, datatype, values) in _TYPED.items()
    ]
    answer = typed.infer({"inputs": inputs})
    assert answer.status == 200, answer.body
    for output, (name, (_, datatype, values)) in zip(
        answer.json["outputs"], _TYPED.items(), strict=True
    ):
        assert (output["name"], output["datatype"]) == (f"out_{name}", datatype)
        assert output["data"] == values.astype(object).ravel().tolist()


def test_every_datatype_in_binary(typed: Server) -> None:
    inputs = [
        binary_input(values, datatype, f"in_{name}")
        for name, (_, datatype, values) in _TYPED.items()
    ]
    tail = b"".join(values.tobytes() for _, _, values in _TYPED.values())
    answer = typed.infer({"inputs": inputs, "parameters": {"binary_data_output": True}}, tail)
    assert answer.status == 200, answer.body
    assert answer.tail == tail


def test_values_beyond_a_datatype_are_refused(typed: Server) -> None:
    for name, value in (("int8", 128), ("uint64", -1), ("float16", 1e6), ("bfloat16", 1e39)):
        inputs = [
            json_input(values, datatype, f"in_{key}")
            for key, (_, datatype, values) in _TYPED.items()
        ]
        for item in inputs:
            if item["name"] == f"in_{name}":
                item["data"] = [value, 0]
        answer = typed.infer({"inputs": inputs})
        assert answer.status == 400
        assert f"in_{name}" in answer.error
        assert "out of range" in answer.error


def test_strings_in_json_and_binary(tmp_path: Path) -> None:
    words = np.array([["a", "é"], ["", "\U0001f40d"]], object)
    kinds = {"string": TensorProto.STRING}
    engine = build.typed_engine(tmp_path, kinds, {"in_string": words})
    encoded = [word.encode() for word in words.ravel()]
    tail = b"".join(struct.pack("<I", len(item)) + item for item in encoded)
    binary = {
        "name": "in_string",
        "datatype": "BYTES",
        "shape": [2, 2],
        "parameters": {"binary_data_size": len(tail)},
    }
    with Server(engine) as running:
        answer = running.infer({"inputs": [json_input(words, "BYTES", "in_string")]})
        assert answer.json["outputs"][0]["data"] == words.ravel().tolist()
        both = {"inputs": [binary], "parameters": {"binary_data_output": True}}
        assert running.infer(both, tail).tail == tail
        for broken in (tail[:-1], tail + b"\0", b"\xff" * len(tail), b"\x01\0\0\0\xff" * 4):
            binary["parameters"] = {"binary_data_size": len(broken)}
            answer = running.infer({"inputs": [binary]}, broken)
            assert answer.status == 400
            assert "in_string" in answer.error


def test_not_finite_outputs_need_the_binary_extension(server: Server) -> None:
    x = np.full((1, build.WIDTH), np.inf, np.float32)
    answer = server.infer({"inputs": [binary_input(x)]}, x.tobytes())
    assert answer.status == 406
    assert "'y'" in answer.error
    wanted = {"inputs": [binary_input(x)], "parameters": {"binary_data_output": True}}
    assert server.infer(wanted, x.tobytes()).status == 200


def test_answers_equal_the_session_in_process(server: Server, engine: Path) -> None:
    session = load(engine)
    for seed in range(5):
        x = build.rows(seed + 1, seed)
        document = {"inputs": [binary_input(x)], "parameters": {"binary_data_output": True}}
        answer = server.infer(document, x.tobytes())
        assert np.array_equal(_values(answer.tail), session.run({"x": x})["y"])


def test_outputs_that_are_no_tensors_are_left_to_calls_in_process(tmp_path: Path) -> None:
    node = helper.make_node("ZipMap", ["x"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[3, 5])
    copy = helper.make_node("Identity", ["x"], ["y"])
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(
            TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        )
    )
    model = build.make_model(
        [node, copy],
        [build.tensor("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_value_info("p", maps), build.tensor("y", TensorProto.FLOAT, [None, 2])],
        extra_opsets=[helper.make_opsetid("ai.onnx.ml", 3)],
    )
    x = np.array([[0.25, 0.75]], np.float32)
    item = build.part(build.save(model, tmp_path / "source"))
    write_engine(tmp_path / "engine", build.blueprint([item], {"x": x}))
    session = load(tmp_path / "engine")
    assert session.run({"x": x})["p"] == [{3: 0.25, 5: 0.75}]
    assert all(check.is_kept for check in verify_outputs(session))
    with Server(tmp_path / "engine") as running:
        metadata = running.request("GET", "/v2/models/tiny").json
        assert [output["name"] for output in metadata["outputs"]] == ["y"]
        assert running.infer({"inputs": [json_input(x)]}).json["outputs"][0]["data"] == [0.25, 0.75]
        wanted = {"inputs": [json_input(x)], "outputs": [{"name": "p"}]}
        assert running.infer(wanted).status == 400
