"""Scales of channels move into matrices: exactly, for nobody else, and errors fall for it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

from planner.compress import shifts
from planner.compress.apply import apply
from planner.compress.base import Calibration, Format
from planner.compress.folding import divide_channels
from planner.compress.gemm import split_gemms
from planner.compress.measure import joint_error, runner
from planner.compress.samples import Samples
from planner.compress.sensitivity import sensitivities
from planner.compress.smoothing import SmoothingSettings, smoothing
from planner.errors import DataError
from planner.ir.graph import Graph
from tests.compress.build import SESSION, Array, random, write
from tests.compress.conftest import ALL_SMOOTH

make = helper.make_node
WIDTH = 16
SMOOTH = Format.INT8_DYNAMIC_SMOOTH


def _weights() -> dict[str, Array]:
    vectors = {f"v{i}": random(WIDTH, seed=i) for i in range(4)}
    matrices = {f"w{i}": random(WIDTH, WIDTH, seed=10 + i) for i in range(4)}
    return {**vectors, **matrices, "one": random(1, seed=30), "number": random(seed=31)}


_BEFORE: Mapping[str, Sequence[NodeProto]] = {
    "input": [make("Identity", ["x"], ["h"], "p")],
    "normalised": [make("LayerNormalization", ["x", "v0", "v1"], ["h"], "p")],
    "normalised without bias": [make("LayerNormalization", ["x", "v0"], ["h"], "p")],
    "spelt out": [
        make("Mul", ["x", "v0"], ["h0"], "p"),
        make("Add", ["h0", "v1"], ["h"], "q"),
    ],
    "number first": [
        make("Mul", ["number", "x"], ["h0"], "p"),
        make("Sub", ["v1", "h0"], ["h"], "q"),
    ],
    "number behind": [
        make("Mul", ["x", "v0"], ["h0"], "p"),
        make("Div", ["h0", "one"], ["h"], "q"),
    ],
    "divided": [
        make("Div", ["x", "v0"], ["h0"], "p"),
        make("Add", ["h0", "one"], ["h"], "q"),
    ],
    "product": [
        make("MatMul", ["x", "w2"], ["h0"], "p"),
        make("Add", ["v1", "h0"], ["h1"], "q"),
        make("Relu", ["h1"], ["h"], "r"),
    ],
    "transposed product": [
        make("Gemm", ["x", "w2", "v1"], ["h0"], "p", transB=1, alpha=0.5, beta=2.0),
        make("PRelu", ["h0", "v2"], ["h"], "q"),
    ],
    "same matrix": [make("MatMul", ["x", "w0"], ["h"], "p")],
    "not linear": [make("Tanh", ["x"], ["h"], "p")],
    "a divisor": [make("Div", ["v0", "x"], ["h"], "p")],
}
_FOLDS = frozenset(_BEFORE) - {"input", "not linear", "a divisor", "number first"}
_AFTER: Mapping[str, Sequence[NodeProto]] = {
    "MatMul": [make("MatMul", ["h", "w0"], ["y"], "product")],
    "with bias": [
        make("MatMul", ["h", "w0"], ["y0"], "product"),
        make("Add", ["y0", "v3"], ["y"], "bias"),
    ],
    "Gemm": [make("Gemm", ["h", "w0", "v3"], ["y"], "product", alpha=0.25)],
    "transposed": [make("Gemm", ["h", "w0"], ["y"], "product", transB=1)],
}
_OTHERS = ("none", "another product", "smooth as well", "an output", "a sum")


def _model(folder: Path, before: str, after: str, other: str, opset: int) -> tuple[Path, Graph]:
    nodes = [*_BEFORE[before], *_AFTER[after]]
    outputs = ["y"]
    if other in ("another product", "smooth as well"):
        nodes.append(make("MatMul", ["h", "w1"], ["z"], "second"))
        outputs.append("z")
    if other == "an output":
        outputs.append("h")
    if other == "a sum":
        nodes.append(make("Add", ["h", "x"], ["z"], "sum"))
        outputs.append("z")
    inputs = {"x": (int(TensorProto.FLOAT), (5, WIDTH))}
    return write(folder / "m.onnx", nodes, {**inputs}, outputs, _weights(), opset)


def _divided(path: Path, asked: Mapping[str, str]) -> Path:
    model = onnx.load(path)
    split_gemms(model, list(asked))
    divide_channels(model, asked, path.parent)
    onnx.checker.check_model(model)
    onnx.save(model, path.with_name("divided.onnx"))
    return path.with_name("divided.onnx")


def _run(path: Path) -> dict[str, Any]:
    return runner(path, SESSION)({"x": random(5, WIDTH, seed=40)})


@settings(max_examples=60, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    st.sampled_from(sorted(_BEFORE)), st.sampled_from(sorted(_AFTER)), st.sampled_from(_OTHERS),
    st.sampled_from([17, 20]), st.integers(0, 99),
)  # fmt: skip
def test_dividing_changes_no_answer(
    tmp_path: Path, before: str, after: str, other: str, opset: int, seed: int
) -> None:
    """Of anybody; and it costs an operator only where no constant can take it."""
    path, _ = _model(tmp_path, before, after, other, opset)
    text = shifts.spelt(np.random.default_rng(seed).integers(-6, 7, WIDTH))
    products = ["product", "second"] if other == "smooth as well" else ["product"]
    built = _divided(path, dict.fromkeys(products, text))
    expected, found = _run(path), _run(built)
    for name, value in expected.items():
        assert np.allclose(found[name], value, rtol=1e-6, atol=1e-6 * np.abs(value).max())
    kinds = [node.name for node in onnx.load(built).graph.node if "factor" in node.name]
    is_free = before in _FOLDS and other in ("none", "smooth as well")
    assert len(kinds) == (0 if is_free else 1)


def test_a_gelu_stays_whole(tmp_path: Path) -> None:
    """Its half looks like a factor that could take the division: ONNX Runtime would no longer know
    it, and run five operators instead of one."""
    nodes = [
        make("Div", ["x", "root"], ["d"], "d"),
        make("Erf", ["d"], ["e"], "e"),
        make("Add", ["e", "ones"], ["f"], "f"),
        make("Mul", ["x", "f"], ["g"], "g"),
        make("Mul", ["g", "half"], ["h"], "h"),
        make("MatMul", ["h", "w0"], ["y"], "product"),
    ]
    numbers = {"root": 2**0.5, "ones": 1.0, "half": 0.5}
    constants = {**_weights(), **{name: np.array(n, np.float32) for name, n in numbers.items()}}
    inputs = {"x": (int(TensorProto.FLOAT), (5, WIDTH))}
    path, _ = write(tmp_path / "m.onnx", nodes, {**inputs}, ["y"], constants, 17)
    built = _divided(path, {"product": "no" * (WIDTH // 2)})
    assert np.allclose(_run(built)["y"], _run(path)["y"], rtol=1e-5, atol=1e-5)
    optimised = tmp_path / "optimised.onnx"
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(optimised)
    options.log_severity_level = 3  # the file is for this machine, it warns
    ort.InferenceSession(built, options)
    assert "Gelu" in {node.op_type for node in onnx.load(optimised).graph.node}


def test_nodes_without_a_name_are_no_products(tmp_path: Path) -> None:
    """What a reader is called does not tell whether it is the one that was asked for."""
    nodes = [
        make("LayerNormalization", ["x", "v0"], ["n"], "norm"),
        make("Relu", ["n"], ["h"]),
        make("Tanh", ["n"], ["z"]),
        make("MatMul", ["h", "w0"], ["y"], "product"),
    ]
    inputs = {"x": (int(TensorProto.FLOAT), (5, WIDTH))}
    path, _ = write(tmp_path / "m.onnx", nodes, {**inputs}, ["y", "z"], _weights())
    built = _divided(path, {"product": "no" * (WIDTH // 2)})
    expected, found = _run(path), _run(built)
    assert all(np.allclose(found[name], expected[name], rtol=1e-6, atol=1e-5) for name in expected)


def _calls_to_divide(count: int) -> int:
    """Of so many products, each in front of what no constant can take: calls made, C's included."""
    nodes, reads = [], "x"
    for i in range(count):
        names = [f"{letter}{i}" for letter in "mtuv"]
        nodes.append(make("MatMul", [reads, "w0"], names[:1], names[0]))
        nodes += [make("Tanh", [a], [b], b) for a, b in pairwise(names)]
        reads = names[-1]
    matrix = numpy_helper.from_array(np.ones((2, 2), np.float32), "w0")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in ("x", reads)]
    model = helper.make_model(helper.make_graph(nodes, "many", values[:1], values[1:], [matrix]))
    asked, calls = {f"m{i}": "no" for i in range(count)}, Counter[str]()
    sys.setprofile(lambda frame, event, argument: calls.update((event,)))
    divide_channels(model, asked, Path())
    sys.setprofile(None)
    assert sum(node.op_type == "Mul" for node in model.graph.node) == count
    made = {tensor.name for tensor in model.graph.initializer}
    assert len(made) == 1 + 2 * count
    assert max(map(len, made)) < 40  # one letter longer each is as slow as a search
    return calls["call"] + calls["c_call"]


def test_thousands_of_divisions_take_no_longer_each() -> None:
    """Each looked its place up among all nodes: 32 s for 2,000, four times what 1,000 took."""
    _calls_to_divide(10)
    assert _calls_to_divide(400) < 4.5 * _calls_to_divide(100)


def test_products_that_overflow_are_left_alone(tmp_path: Path) -> None:
    path, graph, samples = _outliers(tmp_path)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in ("scale", "w0"):
            tensor.CopyFrom(
                numpy_helper.from_array(
                    numpy_helper.to_array(tensor) * np.float32(1e25), tensor.name
                )
            )
    onnx.save(model, path)
    assert smoothing(path, graph, ["query"], [samples], SESSION, ALL_SMOOTH) == {}


def test_products_that_differ_in_their_shifts_divide_each_for_itself(tmp_path: Path) -> None:
    path, _ = _model(tmp_path, "normalised", "MatMul", "smooth as well", 17)
    asked = {"product": "m" * WIDTH, "second": "no" * (WIDTH // 2)}
    built = _divided(path, asked)
    expected, found = _run(path), _run(built)
    assert all(np.allclose(found[name], expected[name], rtol=1e-6, atol=1e-5) for name in expected)


def _outliers(folder: Path) -> tuple[Path, Graph, Samples]:
    """A normalisation whose channel 3 is a hundred times as large as the others."""
    scale = np.ones(WIDTH, np.float32)
    scale[3] = 100.0
    nodes = [
        make("LayerNormalization", ["x", "scale"], ["h"], "norm"),
        make("MatMul", ["h", "w0"], ["q"], "query"),
        make("MatMul", ["h", "w1"], ["k"], "key"),
        make("Tanh", ["q"], ["t"], "tanh"),
        make("MatMul", ["t", "w2"], ["y"], "plain"),
    ]
    weights = {**_weights(), "scale": scale}
    weights["w0"][3] *= 0.01  # what training leaves: a large channel that matters no more
    weights["w1"][3] *= 0.01
    inputs = {"x": (int(TensorProto.FLOAT), (32, WIDTH))}
    path, graph = write(folder / "o.onnx", nodes, {**inputs}, ["y", "k"], weights)
    values = np.stack([random(32, WIDTH, seed=seed) for seed in range(4)])
    return path, graph, Samples({"x": values}, 4, 4, 1)


def test_errors_fall_where_channels_stick_out(tmp_path: Path) -> None:
    path, graph, samples = _outliers(tmp_path)
    ops = ["query", "key", "plain"]
    found = smoothing(path, graph, ops, [samples], SESSION)
    assert set(found) == {"query", "key"}
    assert found["query"] == found["key"]
    assert shifts.read(found["query"])[3] == shifts.read(found["query"]).max() > 2

    def error(forms: Mapping[str, Format]) -> float:
        built = apply(path, forms, {}, tmp_path / "b.onnx", smoothing=found)
        assert {op: built.realised[op] for op in forms} == dict(forms)
        return joint_error(path, built.path, samples, SESSION).worst

    plain = error(dict.fromkeys(ops, Format.INT8_DYNAMIC))
    smooth = error({"query": SMOOTH, "key": SMOOTH, "plain": Format.INT8_DYNAMIC})
    assert smooth < plain / 5


def test_sensitivities_are_those_of_built_models(tmp_path: Path) -> None:
    path, graph, samples = _outliers(tmp_path)
    found = smoothing(path, graph, ["query"], [samples], SESSION, ALL_SMOOTH)
    told = sensitivities(
        path, graph, [("query", SMOOTH)], samples, Calibration(smoothing=found), SESSION
    )
    built = apply(path, {"query": SMOOTH}, {}, tmp_path / "b.onnx", smoothing=found)
    measured = joint_error(path, built.path, samples, SESSION).worst
    assert told["query", SMOOTH] == pytest.approx(measured, rel=0.1)


def test_what_the_samples_never_show_is_not_divided(tmp_path: Path) -> None:
    path, graph, samples = _outliers(tmp_path)
    values = {"x": samples.arrays["x"] * np.float32(np.nan)}
    broken = Samples(values, samples.runs, samples.valid, samples.per_run)
    assert smoothing(path, graph, ["query"], [broken], SESSION, ALL_SMOOTH) == {}
    strict = SmoothingSettings(least_gain=1e9)
    assert smoothing(path, graph, ["query"], [samples], SESSION, strict) == {}


def test_a_product_without_shifts_is_refused(tmp_path: Path) -> None:
    path, _, _ = _outliers(tmp_path)
    with pytest.raises(DataError, match="nobody chose what the channels of 'query'"):
        apply(path, {"query": SMOOTH}, {}, tmp_path / "b.onnx")


def test_text_holds_every_shift() -> None:
    every = np.arange(-shifts.MOST, shifts.MOST + 1)
    assert np.array_equal(shifts.read(shifts.spelt(every)), every)
    assert shifts.spelt(np.array([0, 1, -1, 99])) == "mnly"
    with pytest.raises(DataError, match="a letter each"):
        shifts.read("m!")
