"""Builds: exactly the assigned formats, valid files, close answers, stable names and bytes."""

from __future__ import annotations

import random as dice
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from planner.compress.apply import apply
from planner.compress.base import NATIVE, Array, BuildSettings, Format
from planner.compress.gemm import split_gemms
from planner.compress.measure import joint_error, runner
from planner.compress.methods import METHODS
from planner.compress.samples import Samples
from planner.errors import DataError, UsageError
from tests.compress.build import SESSION, cnn, random, write
from tests.compress.conftest import Case

_CLIPS = ("Relu", "Clip")
_TOLERANCE = {
    Format.FP16: 1e-5,
    Format.INT8_WO: 2e-3,
    Format.INT8_DYNAMIC: 1e-2,
    Format.INT8_DYNAMIC_SMOOTH: 1e-2,
    Format.INT8_STATIC: 2e-2,
    Format.INT4_WO: 1e-1,
}


def _node_ops(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("form", [method.format for method in METHODS])
def test_a_uniform_build_realises_its_format_and_stays_close(
    case: Case, form: Format, tmp_path: Path
) -> None:
    ops = case.ops(form)
    assert ops
    report = apply(
        case.path,
        dict.fromkeys(ops, form),
        case.ranges,
        tmp_path / "out.onnx",
        smoothing=case.smoothing,
    )
    assert [op for op in ops if report.realised[op] != form] == []
    assert {f for op, f in report.realised.items() if op not in ops} <= {NATIVE}
    error = joint_error(case.path, report.path, case.samples, SESSION)
    assert 0 < error.worst < _TOLERANCE[form]


def test_any_mix_builds_and_runs(case: Case, tmp_path: Path) -> None:
    by_op: dict[str, list[Format]] = {}
    for op, form in case.choices:
        by_op.setdefault(op, [NATIVE]).append(form)
    kinds = {op.name: op.op_type for op in case.graph.ops}
    generator = dice.Random(1)
    for _ in range(12):
        mix = {op: generator.choice(forms) for op, forms in by_op.items()}
        report = apply(case.path, mix, case.ranges, tmp_path / "mix.onnx", smoothing=case.smoothing)
        wrong = {op for op, form in mix.items() if report.realised[op] != form}
        assert {kinds[op] for op in wrong} <= set(_CLIPS)
        assert joint_error(case.path, report.path, case.samples, SESSION).worst < 0.2


def test_the_same_request_makes_the_same_bytes(case: Case, tmp_path: Path) -> None:
    mix = dict(case.choices)
    first = apply(case.path, mix, case.ranges, tmp_path / "a.onnx", smoothing=case.smoothing)
    reordered = dict(reversed(list(mix.items())))
    second = apply(
        case.path,
        reordered,
        dict(reversed(case.ranges.items())),
        tmp_path / "b.onnx",
        smoothing=case.smoothing,
    )
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.realised == second.realised


def test_interface_and_inner_tensor_names_survive(cnn_case: Case, tmp_path: Path) -> None:
    mix = {"conv1": Format.INT8_STATIC, "conv2": Format.INT8_DYNAMIC, "gemm": Format.INT4_WO}
    report = apply(cnn_case.path, mix, cnn_case.ranges, tmp_path / "out.onnx")
    built = onnx.load(report.path)
    onnx.checker.check_model(built)
    made = {name for node in built.graph.node for name in node.output}
    assert {"c1", "r1", "c2", "a", "r2", "m", "f", "y"} <= made
    assert [value.name for value in built.graph.input] == ["x"]
    assert [value.name for value in built.graph.output] == ["y"]
    assert len({node.name for node in built.graph.node}) == len(built.graph.node)


def test_native_readers_keep_the_unrounded_value(cnn_case: Case, tmp_path: Path) -> None:
    """r1 feeds conv2 (static) and add (native): add reads r1 itself."""
    report = apply(
        cnn_case.path, {"conv2": Format.INT8_STATIC}, cnn_case.ranges, tmp_path / "out.onnx"
    )
    nodes = {node.name: node for node in onnx.load(report.path).graph.node}
    assert nodes["add"].input[1] == "r1"
    assert nodes["conv2"].input[0] != "r1"


def test_a_model_output_made_by_a_native_operator_stays_exact(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"], "tanh"),
        helper.make_node("MatMul", ["t", "w"], ["y"], "matmul"),
    ]
    path, _ = write(
        tmp_path / "m.onnx",
        nodes,
        {"x": (TensorProto.FLOAT, [4, 32])},
        ["t", "y"],
        {"w": random(32, 32)},
    )
    report = apply(
        path,
        {"matmul": Format.INT8_STATIC},
        {"t": (-1.0, 1.0), "y": (-9.0, 9.0)},
        tmp_path / "out.onnx",
    )
    feeds = {"x": random(4, 32, seed=3)}
    before, after = runner(path, SESSION)(feeds), runner(report.path, SESSION)(feeds)
    assert np.array_equal(before["t"], after["t"])
    assert not np.array_equal(before["y"], after["y"])


def test_weights_shared_by_formats_are_quantised_apart(mixer_case: Case, tmp_path: Path) -> None:
    mix = {"query": Format.INT8_WO, "key": Format.INT4_WO}
    report = apply(mixer_case.path, mix, mixer_case.ranges, tmp_path / "out.onnx")
    assert report.realised["query"] == Format.INT8_WO
    assert report.realised["key"] == Format.INT4_WO
    assert _node_ops(report.path).count("MatMulNBits") == 2
    assert joint_error(mixer_case.path, report.path, mixer_case.samples, SESSION).worst < 0.1


def test_one_format_quantises_a_shared_weight_once(mixer_case: Case, tmp_path: Path) -> None:
    mix = dict.fromkeys(["query", "key"], Format.INT8_DYNAMIC)
    report = apply(mixer_case.path, mix, mixer_case.ranges, tmp_path / "out.onnx")
    built = onnx.load(report.path)
    matrices = [t for t in built.graph.initializer if list(t.dims) == [64, 64]]
    assert len(matrices) == 1
    assert matrices[0].data_type == TensorProto.INT8


def test_an_old_opset_is_raised_where_a_format_needs_it(tmp_path: Path) -> None:
    path, _ = cnn(tmp_path / "old.onnx", opset=9)
    report = apply(path, {"conv1": Format.INT8_DYNAMIC}, {}, tmp_path / "out.onnx")
    assert report.realised["conv1"] == Format.INT8_DYNAMIC
    assert onnx.load(report.path).opset_import[0].version >= 11
    native = apply(path, {}, {}, tmp_path / "native.onnx")
    assert onnx.load(native.path).opset_import[0].version == 9


def test_an_old_softmax_keeps_its_name_and_values(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "matmul"),
        helper.make_node("Softmax", ["m"], ["p"], "softmax", axis=1),
        helper.make_node("Softmax", ["p"], ["y"], "flat", axis=0),
    ]
    path, _ = write(
        tmp_path / "old.onnx",
        nodes,
        {"x": (TensorProto.FLOAT, [4, 32])},
        ["y"],
        {"w": random(32, 32, scale=0.2)},
        opset=11,
    )
    ranges = {"x": (-4.0, 4.0), "m": (-4.0, 4.0), "p": (0.0, 1.0), "y": (0.0, 1.0)}
    mix = dict.fromkeys(["matmul", "softmax"], Format.INT8_STATIC)
    report = apply(path, mix, ranges, tmp_path / "out.onnx")
    assert {op: report.realised[op] for op in mix} == mix
    sample = _one_sample("x", random(4, 32, seed=2))
    assert joint_error(path, report.path, sample, SESSION).worst < 1e-3


def test_a_shared_bias_is_copied_under_a_free_name(tmp_path: Path) -> None:
    """The tool's own copy would be called `b1`, which is a tensor here."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["b1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b1", "w", "b"], ["b2"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b2", "w", "b"], ["y"], "third", pads=[1, 1, 1, 1]),
    ]
    weights = {"w": random(4, 4, 3, 3, scale=0.2), "b": random(4, seed=1)}
    path, _ = write(
        tmp_path / "m.onnx", nodes, {"x": (TensorProto.FLOAT, [1, 4, 6, 6])}, ["y"], weights
    )
    ranges = dict.fromkeys(("x", "b1", "b2", "y"), (-6.0, 6.0))
    mix = dict.fromkeys(["first", "second", "third"], Format.INT8_STATIC)
    report = apply(path, mix, ranges, tmp_path / "out.onnx")
    sample = _one_sample("x", random(1, 4, 6, 6, seed=2))
    assert joint_error(path, report.path, sample, SESSION).worst < 1e-2


def test_large_weights_go_beside_the_file(cnn_case: Case, tmp_path: Path) -> None:
    settings = BuildSettings(external_threshold_size_bytes=100)
    mix = {"gemm": Format.INT8_WO}
    report = apply(cnn_case.path, mix, {}, tmp_path / "out.onnx", settings)
    assert (tmp_path / "out.onnx.data").is_file()
    inline = apply(cnn_case.path, mix, {}, tmp_path / "inline.onnx")
    assert report.size_bytes >= (tmp_path / "out.onnx").stat().st_size
    assert joint_error(inline.path, report.path, cnn_case.samples, SESSION).worst == 0.0
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "inline.onnx",
        "out.onnx",
        "out.onnx.data",
    ]


def test_reduced_range_leaves_a_bit_spare(cnn_case: Case, tmp_path: Path) -> None:
    settings = BuildSettings(reduce_range=True)
    mix = {"conv1": Format.INT8_STATIC}
    report = apply(cnn_case.path, mix, cnn_case.ranges, tmp_path / "out.onnx", settings)
    weights = onnx.load(report.path).graph.initializer
    rounded = [onnx.numpy_helper.to_array(t) for t in weights if t.data_type == TensorProto.INT8]
    assert max(int(np.abs(value.astype(int)).max()) for value in rounded) <= 64


def test_gemm_is_split_exactly(tmp_path: Path) -> None:
    nodes = [
        helper.make_node(
            "Gemm", ["x", "w", "b"], ["y"], "g", transA=1, transB=1, alpha=0.25, beta=4.0
        )
    ]
    path, _ = write(
        tmp_path / "g.onnx",
        nodes,
        {"x": (TensorProto.FLOAT, [5, 4])},
        ["y"],
        {"w": random(6, 5, seed=1), "b": random(6, seed=2)},
    )
    model = onnx.load(path)
    split_gemms(model, ["g"])
    onnx.save(model, tmp_path / "split.onnx")
    assert [node.op_type for node in model.graph.node] == ["Transpose", "MatMul", "Add"]
    error = joint_error(
        path,
        tmp_path / "split.onnx",
        _one_sample("x", random(5, 4, seed=3)),
        SESSION,
    )
    assert error.worst < 1e-12


def _one_sample(name: str, value: Array) -> Samples:
    return Samples({name: value[None]}, 1, 1, 1)


def test_missing_ranges_are_named(cnn_case: Case, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no calibrated range of tensor 'x'"):
        apply(cnn_case.path, {"conv1": Format.INT8_STATIC}, {}, tmp_path / "out.onnx")


def test_unknown_operators_and_formats_are_refused(cnn_case: Case, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no operator 'nowhere'"):
        apply(cnn_case.path, {"nowhere": Format.INT8_WO}, {}, tmp_path / "out.onnx")
    with pytest.raises(UsageError, match="does not exist on the CPU"):
        apply(cnn_case.path, {"conv1": Format.FP8}, {}, tmp_path / "out.onnx")


@pytest.mark.parametrize("form", [Format.INT8_DYNAMIC, Format.INT8_WO, Format.INT8_DYNAMIC_SMOOTH])
def test_a_weight_that_is_an_answer_as_well_stays_exact(form: Format, tmp_path: Path) -> None:
    """The tool made the answer anew from what it had rounded."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    weight = random(32, 32, seed=1)
    inputs = {"x": (int(TensorProto.FLOAT), (4, 32))}
    path, _ = write(tmp_path / "m.onnx", nodes, {**inputs}, ["y"], {"w": weight})
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [32, 32]))
    onnx.save(model, path)
    shifts = {"product": "no" * 16}
    report = apply(path, {"product": form}, {}, tmp_path / "out.onnx", smoothing=shifts)
    assert report.realised["product"] == form
    found = runner(report.path, SESSION)({"x": random(4, 32, seed=2)})
    assert np.array_equal(found["w"], weight)


def test_a_recurrence_in_half_casts_all_it_makes_and_leaves_lengths(tmp_path: Path) -> None:
    weights = {
        "w": random(1, 24, 8),
        "r": random(1, 24, 8),
        "lengths": np.array([5, 3], np.int32),
    }
    node = helper.make_node(
        "GRU", ["x", "w", "r", "", "lengths"], ["y", "last"], "gru", hidden_size=8
    )
    path, _ = write(
        tmp_path / "gru.onnx",
        [node],
        {"x": (TensorProto.FLOAT, [5, 2, 8])},
        ["y", "last"],
        weights,
    )
    report = apply(path, {"gru": Format.FP16}, {}, tmp_path / "half.onnx")
    given = {"x": random(5, 2, 8)}
    plain, half = (runner(each, SESSION)(given) for each in (path, report.path))
    assert plain.keys() == half.keys() == {"y", "last"}
    for before, after in zip(plain.values(), half.values(), strict=True):
        assert after.dtype == np.float32
        assert 0 < np.abs(after - before).max() < 1e-2
