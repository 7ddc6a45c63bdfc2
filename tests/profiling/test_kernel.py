"""Keys of kernels: equal work has equal keys, and whatever changes the time changes the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from planner.cost.table import Target, kernel_key
from planner.profiling.kernel import (
    Kernel,
    Operand,
    captured_names,
    describe,
    measurement_key,
    value_digest,
)
from planner.profiling.micro import footprint_class
from planner.runtime.caches import last_level_size_bytes

_X = Operand("x", "float32", (2, 64), False)
_W = Operand("w", "FLOAT", (64, 16), True)


def _kernel(node: onnx.NodeProto | None = None, *, opset: int = 17, **operands: Operand) -> Kernel:
    made = node or helper.make_node("Gemm", ["x", "w"], ["y"], name="n", alpha=1.0)
    known = {"x": _X, "w": _W, **operands}
    outputs = {name: np.zeros((2, 16), np.float32) for name in made.output}
    return describe(made, known, {"": opset}, outputs, 4096)


def test_names_do_not_matter() -> None:
    node = helper.make_node("Gemm", ["a", "b"], ["c"], name="another", alpha=1.0)
    renamed = _kernel(
        node, a=Operand("a", "float32", (2, 64), False), b=Operand("b", "FLOAT", (64, 16), True)
    )
    assert renamed.signature == _kernel().signature


def test_the_order_of_attributes_does_not_matter() -> None:
    one = helper.make_node("Gemm", ["x", "w"], ["y"], alpha=1.0, transB=0)
    two = helper.make_node("Gemm", ["x", "w"], ["y"], transB=0, alpha=1.0)
    two.attribute.reverse()
    assert _kernel(one).signature == _kernel(two).signature


_CHANGES: Mapping[str, Any] = {
    "type": lambda: _kernel(helper.make_node("MatMul", ["x", "w"], ["y"], alpha=1.0)),
    "domain": lambda: _kernel(
        helper.make_node("Gemm", ["x", "w"], ["y"], alpha=1.0, domain="com.microsoft")
    ),
    "attribute": lambda: _kernel(helper.make_node("Gemm", ["x", "w"], ["y"], alpha=2.0)),
    "no attribute": lambda: _kernel(helper.make_node("Gemm", ["x", "w"], ["y"])),
    "opset": lambda: _kernel(opset=18),
    "shape": lambda: _kernel(x=Operand("x", "float32", (4, 64), False)),
    "dtype": lambda: _kernel(x=Operand("x", "float16", (2, 64), False)),
    "constant": lambda: _kernel(w=Operand("w", "float32", (64, 16), False)),
    "value": lambda: _kernel(x=Operand("x", "float32", (2, 64), False, "digest")),
    "same input twice": lambda: _kernel(helper.make_node("Gemm", ["x", "x"], ["y"], alpha=1.0)),
    "omitted input": lambda: _kernel(helper.make_node("Gemm", ["x", "w", ""], ["y"], alpha=1.0)),
    "one more output": lambda: _kernel(helper.make_node("Gemm", ["x", "w"], ["y", "z"], alpha=1.0)),
}


@pytest.mark.parametrize("change", _CHANGES)
def test_what_changes_the_work_changes_the_signature(change: str) -> None:
    assert _CHANGES[change]().signature != _kernel().signature


def test_all_changes_differ_from_each_other() -> None:
    signatures = [change().signature for change in _CHANGES.values()]
    assert len(set(signatures)) == len(signatures)


def test_twice_the_same_input_is_another_pattern_than_two_equal_ones() -> None:
    twin = Operand("twin", _X.dtype, _X.shape, False)
    same = _kernel(helper.make_node("Add", ["x", "x"], ["y"]))
    two = _kernel(helper.make_node("Add", ["x", "twin"], ["y"]), twin=twin)
    assert same.signature != two.signature


def test_the_shape_of_the_result_counts_where_values_decide_it() -> None:
    node = helper.make_node("Resize", ["x", "", "w"], ["y"])
    sizes = [np.zeros((2, size), np.float32) for size in (16, 32)]
    small, large = (describe(node, {"x": _X, "w": _W}, {}, {"y": made}, 0) for made in sizes)
    assert small.signature != large.signature
    assert large.output_size_bytes == 2 * small.output_size_bytes


def test_device_threads_and_footprint_are_part_of_the_key() -> None:
    base = {"device_digest": "d", "threads": 1, "footprint": 20}
    changed = [{**base, "device_digest": "e"}, {**base, "threads": 2}, {**base, "footprint": 24}]
    keys = {measurement_key("s", **arguments) for arguments in (base, *changed)}  # type: ignore[arg-type]
    assert len(keys) == 4
    assert measurement_key("s", **base) in keys  # type: ignore[arg-type]


def test_kernels_without_weights_share_a_key_between_models_of_any_size() -> None:
    target = Target("d", 1)
    light = describe(helper.make_node("Relu", ["x"], ["y"]), {"x": _X}, {"": 17}, {}, 0)
    assert kernel_key(light, 10**9, target) == kernel_key(light, 10**3, target)
    assert kernel_key(_big(), 10**9, target) != kernel_key(_big(), 10**5, target)


def _big() -> Kernel:
    return describe(helper.make_node("Gemm", ["x", "w"], ["y"]), {"x": _X, "w": _W}, {}, {}, 65536)


def test_the_footprint_class_grows_with_the_model_and_ends() -> None:
    assert footprint_class(100, 10**9) == 0
    classes = [footprint_class(65536, 2**exponent) for exponent in range(16, 40)]
    assert classes == sorted(classes)
    assert classes[-1] * 2**20 > last_level_size_bytes()
    near = (0.5, 0.9, 1.9, 2.4, 3.5, 9.0, 15.0)
    assert [footprint_class(65536, int(mib * 2**20)) for mib in near] == [1, 1, 2, 2, 4, 8, 16]
    assert footprint_class(10**6, 0) == footprint_class(10**6, 10**6)


def test_a_look_up_reads_the_rows_that_it_returns() -> None:
    """A table of words does not push the weights of the layers out of the cache."""
    table = replace(_big(), op_type="Gather", constant_size_bytes=10**9, output_size_bytes=4000)
    assert table.read_size_bytes == 4000
    assert replace(table, op_type="MatMul").read_size_bytes == 10**9
    assert replace(table, constant_size_bytes=100).read_size_bytes == 100


def test_values_that_steer_the_work_are_digested() -> None:
    indices = np.array([3, 1], np.int64)
    assert value_digest(indices, "Gather") != value_digest(indices[::-1], "Gather")
    assert value_digest(np.array([True]), "Where") != ""
    assert value_digest(np.ones(2, np.float32), "Add") == ""
    assert value_digest(np.ones(2, np.float32), "Loop") != ""
    assert value_digest(np.arange(9, dtype=np.uint8), "QLinearMatMul") == ""
    assert value_digest(indices, "Cast") == ""
    assert value_digest(np.zeros(5000, np.int64), "Gather") == ""
    assert value_digest(np.array(["a"], object), "If") != value_digest(
        np.array(["b"], object), "If"
    )


def test_captured_names_are_those_from_outside_at_any_depth() -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["outer", "local"], ["sum"])],
        "inner",
        [],
        [onnx.ValueInfoProto(name="sum")],
    )
    branch = helper.make_graph(
        [
            helper.make_node("Neg", ["x"], ["local"]),
            helper.make_node("If", ["flag"], ["made"], then_branch=inner, else_branch=inner),
        ],
        "branch",
        [],
        [onnx.ValueInfoProto(name="made"), onnx.ValueInfoProto(name="passed")],
    )
    node = helper.make_node("If", ["cond"], ["y", "z"], then_branch=branch, else_branch=branch)
    assert captured_names(node) == ("x", "flag", "outer", "passed")
