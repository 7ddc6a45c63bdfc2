"""Channels that are computed twice, where operators read shapes in ways of their own."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest

from planner.graph import infer
from planner.graph.equality import run_with_onnxruntime
from planner.graph.rewrite import rewrite_in_place
from planner.graph.rewrite.channels import merge_channels
from planner.runtime.compare import nmse
from tests.graph.nasties import model, node, save, value, weight

_ALIKE = weight("a", np.ones((32, 4, 1, 1), np.float32))
_MATRIX = weight("b", np.random.default_rng(0).standard_normal((32, 5)).astype(np.float32))


def test_a_squeeze_without_axes_keeps_the_one_channel_that_is_left(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "a"], ["p"]),
        node("GlobalAveragePool", ["p"], ["q"]),
        node("Squeeze", ["q"], ["s"]),
        node("MatMul", ["s", "b"], ["y"]),
    ]
    before = model(nodes, [value("x", [2, 4, 6, 6])], [value("y", None)], [_ALIKE, _MATRIX])
    infer.annotate(before)
    after = onnx.ModelProto()
    after.CopyFrom(before)
    assert merge_channels(after, 8) == 31
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 4, 6, 6)).astype(np.float32)}
    (first,), (second,) = (
        run_with_onnxruntime(save(one, tmp_path, f"{n}.onnx"), feeds, 1)
        for n, one in enumerate((before, after))
    )
    assert nmse(first["y"], second["y"]) < 1e-9


def test_sums_by_an_attribute_of_old_opsets_stay() -> None:
    factors = weight("c", np.arange(32, dtype=np.float32))
    outer = weight("b", np.ones((5, 32, 1, 1), np.float32))
    nodes = [
        node("Conv", ["x", "a"], ["p"]),
        node("Add", ["p", "c"], ["q"], axis=1, broadcast=1),
        node("Conv", ["q", "b"], ["y"]),
    ]
    old = model(
        nodes, [value("x", [2, 4, 6, 6])], [value("y", None)], [_ALIKE, factors, outer], opset=6
    )
    infer.annotate(old)
    assert merge_channels(old, 8) == 0


def test_an_output_without_places_keeps_its_channels() -> None:
    alike = weight("a", np.ones((8, 4, 3, 3), np.float32))
    nodes = [node("Conv", ["x", "a"], ["y"])]
    empty = model(nodes, [value("x", [1, 4, 2, 2])], [value("y", None)], [alike])
    infer.annotate(empty)
    assert [dim.dim_value for dim in empty.graph.output[0].type.tensor_type.shape.dim][2:] == [0, 0]
    assert merge_channels(empty, 8) == 0


@pytest.mark.parametrize("kinds", [("Softmax", "Relu"), ("Softmax", "Add")])
def test_long_rows_that_no_product_reads_cost_nothing(kinds: tuple[str, str]) -> None:
    nodes = [
        node(kind, [f"t{n}"] * (2 if kind == "Add" else 1), [f"t{n + 1}"])
        for n, kind in enumerate(kinds * 50)
    ]
    made = model(nodes, [value("t0", [1, 20_000, 2])], [value("t100", None)], [])
    infer.annotate(made)
    tracemalloc.start()
    assert merge_channels(made, 8) == 0
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 20e6  # a number for each element of an axis would be 200 MB


def test_long_chains_of_views_are_no_deep_recursion() -> None:
    count = 3000
    nodes = [node("Identity", [f"t{n}"], [f"t{n + 1}"]) for n in range(count)]
    made = model(nodes, [value("t0", [1, 8])], [value(f"t{count}", None)], [])
    infer.annotate(made)
    assert merge_channels(made, 8) == 0
    rewrite_in_place(made)
    assert len(made.graph.node) == 1


def test_a_tensor_beside_its_sum_keeps_both_halves(tmp_path: Path) -> None:
    """Their channels are on the same wires: each half has weights of its own where it is summed."""
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.standard_normal((8, 4, 1, 1)),
        "s": rng.standard_normal((8, 8, 1, 1)),
        "c": np.repeat(rng.standard_normal((1, 16, 1, 1)), 32, 0),
        "d": rng.standard_normal((5, 32, 1, 1)),
    }
    nodes = [
        node("Conv", ["x", "a"], ["p"]),
        node("Conv", ["p", "s"], ["q"]),
        node("Add", ["p", "q"], ["r"]),
        node("Concat", ["r", "p"], ["t"], axis=1),
        node("Conv", ["t", "c"], ["u"]),
        node("Conv", ["u", "d"], ["y"]),
    ]
    stored = [weight(name, array.astype(np.float32)) for name, array in weights.items()]
    before = model(nodes, [value("x", [1, 4, 6, 6])], [value("y", None)], stored)
    infer.annotate(before)
    after = onnx.ModelProto()
    after.CopyFrom(before)
    assert merge_channels(after, 8) == 31
    feeds = {"x": rng.standard_normal((1, 4, 6, 6)).astype(np.float32)}
    (first,), (second,) = (
        run_with_onnxruntime(save(one, tmp_path, f"{n}.onnx"), feeds, 1)
        for n, one in enumerate((before, after))
    )
    assert nmse(first["y"], second["y"]) < 1e-9
