"""A session executes exactly the kernels that an analysis lists, told by the session's own profile.

Everything downstream rests on that: regions, forms and prices are read off the optimised file. What
nothing may rest on is the order of execution: of all topological orders ONNX Runtime takes another
one when it runs a graph than when it writes it, where branches leave it the choice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from planner.profiling.analyse import LEVELS, Analysis, analyse, quiet_options
from tests.profiling.build import Array, model, perceptron, random, save

Made = tuple[onnx.ModelProto, dict[str, Array]]


def _residual_convolutions() -> Made:
    """Two branches of different lengths behind each of two forks: many topological orders."""
    node = helper.make_node
    weights = {f"w{i}": random(8, 8, 3, 3, seed=i) for i in range(4)}
    nodes, x = [], "x"
    for block in (0, 2):
        one, two = f"w{block}", f"w{block + 1}"
        nodes += [
            node("Conv", [x, one], [f"c{block}"], name=f"conv{block}", pads=[1] * 4),
            node("Relu", [f"c{block}"], [f"r{block}"], name=f"relu{block}"),
            node("Conv", [f"r{block}", two], [f"d{block}"], name=f"deep{block}", pads=[1] * 4),
            node("Sigmoid", [x], [f"s{block}"], name=f"gate{block}"),
            node("Mul", [f"s{block}", f"d{block}"], [f"m{block}"], name=f"mul{block}"),
            node("Add", [f"m{block}", x], [f"y{block}"], name=f"add{block}"),
        ]
        x = f"y{block}"
    feeds = {"x": random(1, 8, 6, 6)}
    return model(nodes, feeds, [x], weights), feeds


def _feed_forward() -> Made:
    """Normalisation, GELU and residual: three fusions of the level `extended`."""
    node = helper.make_node
    nodes = [
        node("LayerNormalization", ["x", "g"], ["n"], name="norm"),
        node("MatMul", ["n", "w1"], ["h"], name="up"),
        node("Div", ["h", "root"], ["d"], name="div"),
        node("Erf", ["d"], ["e"], name="erf"),
        node("Add", ["e", "one"], ["p"], name="plus"),
        node("Mul", ["h", "p"], ["q"], name="times"),
        node("Mul", ["q", "half"], ["gelu"], name="halve"),
        node("MatMul", ["gelu", "w2"], ["o"], name="down"),
        node("Add", ["o", "x"], ["y"], name="residual"),
    ]
    weights = {
        "g": np.ones(16, np.float32),
        "w1": random(16, 32, seed=1),
        "w2": random(32, 16, seed=2),
        "root": np.array(np.sqrt(2), np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
    }
    feeds = {"x": random(4, 16)}
    return model(nodes, feeds, ["y"], weights), feeds


def _quantised_convolutions() -> Made:
    """Two convolutions on bytes: at the level `all`, ONNX Runtime turns their channels last."""
    node = helper.make_node
    weights: dict[str, Array] = {
        "s": np.array(0.05, np.float32),
        "z": np.array(128, np.uint8),
        "k": np.array(0.02, np.float32),
    }
    nodes, x = [], "x"
    for i in range(2):
        weights[f"w{i}"] = np.random.default_rng(i).integers(-90, 90, (8, 8, 3, 3), np.int8)
        nodes += [
            node("QuantizeLinear", [x, "s", "z"], [f"q{i}"], name=f"quantise{i}"),
            node("DequantizeLinear", [f"q{i}", "s", "z"], [f"a{i}"], name=f"left{i}"),
            node("DequantizeLinear", [f"w{i}", "k"], [f"b{i}"], name=f"right{i}"),
            node("Conv", [f"a{i}", f"b{i}"], [f"c{i}"], name=f"conv{i}", pads=[1] * 4),
        ]
        x = f"c{i}"
    nodes += [
        node("QuantizeLinear", [x, "s", "z"], ["qy"], name="out"),
        node("DequantizeLinear", ["qy", "s", "z"], ["y"], name="back"),
    ]
    feeds = {"x": random(1, 8, 6, 6)}
    return model(nodes, feeds, ["y"], weights), feeds


MODELS: dict[str, Callable[[], Made]] = {
    "perceptron": perceptron,
    "residual convolutions": _residual_convolutions,
    "feed-forward": _feed_forward,
    "quantised convolutions": _quantised_convolutions,
}


def _own_threads(level: str) -> ort.SessionOptions:
    """The shared pool exists in a measuring process only."""
    options = quiet_options(level)
    options.use_per_session_threads = True
    options.intra_op_num_threads = 1
    return options


@pytest.fixture(params=[(name, level) for name in MODELS for level in LEVELS], ids="-".join)
def analysed(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Analysis, Path, str]:
    """(analysis, model file, level)."""
    monkeypatch.setattr("planner.profiling.analyse.quiet_options", _own_threads)
    name, level = request.param
    made, feeds = MODELS[name]()
    path, _ = save(tmp_path, made, feeds)
    return analyse(path, level, feeds, tmp_path), path, level


def _executed(path: Path, level: str, feeds: dict[str, Array]) -> list[tuple[str, str]]:
    """(name, type) of every kernel of one run, sorted."""
    options = _own_threads(level)
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_name("profile"))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    return sorted((e["name"].removesuffix("_kernel_time"), e["args"]["op_name"]) for e in ran)


def _listed(found: Analysis) -> list[tuple[str, str]]:
    return sorted((kernel.name, kernel.op_type) for kernel in found.kernels)


def test_a_session_runs_the_kernels_of_the_analysis(analysed: tuple[Analysis, Path, str]) -> None:
    found, path, level = analysed
    assert _executed(path, level, found.feeds) == _listed(found)


def test_the_optimised_file_runs_as_it_is(analysed: tuple[Analysis, Path, str]) -> None:
    """What kernels are timed from: loaded without optimisation, nothing is added or fused."""
    found, path, _ = analysed
    optimised = path.with_name("optimised.onnx")
    onnx.save(found.model, optimised)
    assert _executed(optimised, "disabled", found.feeds) == _listed(found)


def test_every_kernel_comes_after_what_it_reads(analysed: tuple[Analysis, Path, str]) -> None:
    """Layouts and forms are followed from the front to the back, once."""
    found, _, _ = analysed
    known = {"", *found.feeds, *found.constants}
    for kernel in found.kernels:
        assert {*kernel.inputs, *kernel.captured} <= known
        known.update(kernel.outputs)
    assert {output.name for output in found.model.graph.output} <= known
