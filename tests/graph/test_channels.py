"""Channels that are computed twice are computed once: same answers, and nothing else goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.graph import infer
from planner.graph.equality import run_with_onnxruntime
from planner.graph.rewrite.channels import merge_channels
from planner.runtime.compare import nmse
from tests.graph.nasties import model, node, save, value, weight
from tests.graph.rewritten import rewritten, shapes_of

_SIZE = 6


class _Maker:
    """A random network of images whose filters come from a few only."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, array: Any) -> str:
        """A new weight."""
        name = f"w{len(self.weights)}"
        self.weights.append(weight(name, np.asarray(array, np.float32)))
        return name

    def few(self, count: int, *shape: int) -> Any:
        """`count` slices, some of which are alike and some zero."""
        kinds = self.rng.standard_normal((self.rng.integers(1, 4), *shape))
        kinds[0] *= self.rng.integers(0, 2)
        picked = self.rng.integers(0, len(kinds), count)
        signs = np.where(kinds[picked] == 0, -1.0, 1.0)  # zeros of a mask have signs
        return kinds[picked] * signs

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """A new operator."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(node(kind, inputs, [name], **attributes))
        return name

    def conv(self, name: str, channels: int, to: int, groups: int = 1) -> str:
        """A convolution in groups, with a bias now and then."""
        inputs = [name, self.constant(self.few(to, channels // groups, 3, 3))]
        if self.rng.integers(0, 2):
            inputs.append(self.constant(self.few(to)))
        return self.add("Conv", inputs, pads=[1, 1, 1, 1], group=groups)

    def step(self, name: str, channels: int) -> tuple[str, int]:
        """Something that networks do next."""
        steps = {
            "Relu": lambda: self.add("Relu", [name]),
            "depthwise": lambda: self.conv(name, channels, channels, channels),
            "groups": lambda: self.conv(name, channels, channels, 2),
            "Mul": lambda: self.add("Mul", [name, self.factor(channels)]),
            "norm": lambda: self.add("BatchNormalization", [name, *self.statistics(channels)]),
            "Add": lambda: self.add("Add", [self.conv(name, channels, channels), name]),
            "Concat": lambda: self.add("Concat", [name, self.conv(name, channels, 4)], axis=1),
            "halves": lambda: self.conv(self.halves(name, channels), 2 * channels, 8),
            "shuffle": lambda: self.shuffle(name, channels),
            "Softmax": lambda: self.add("Softmax", [name], axis=1),
            "Conv": lambda: self.conv(name, channels, 8),
        }
        kind = str(self.rng.choice(list(steps)))
        made = {"Conv": 8, "halves": 8, "Concat": channels + 4}.get(kind, channels)
        return steps[kind](), made

    def halves(self, name: str, channels: int) -> str:
        """A tensor beside its sum with another: both are on the same wires."""
        total = self.add("Add", [self.conv(name, channels, channels), name])
        return self.add("Concat", [total, name], axis=1)

    def factor(self, channels: int) -> str:
        """A number a channel."""
        return self.constant(self.few(channels).reshape(channels, 1, 1))

    def statistics(self, channels: int) -> list[str]:
        """Of a batch normalisation."""
        return [self.constant(abs(self.few(channels)) + 0.5) for _ in range(4)]

    def shuffle(self, name: str, channels: int) -> str:
        """Two rows of channels, counted by columns."""
        for number, dims in enumerate(
            ([1, 2, channels // 2, _SIZE, _SIZE], [1, channels, _SIZE, _SIZE])
        ):
            shape = f"s{len(self.nodes)}"
            self.weights.append(weight(shape, np.array(dims, np.int64)))
            name = self.add("Reshape", [name, shape])
            if number == 0:
                name = self.add("Transpose", [name], perm=[0, 2, 1, 3, 4])
        return name

    def finished(self, name: str, channels: int) -> onnx.ModelProto:
        """The network with a classifier of flattened images behind it."""
        flat = self.add("Flatten", [name])
        matrix = self.constant(self.few(5, channels * _SIZE * _SIZE))
        self.nodes.append(node("Gemm", [flat, matrix, self.constant(self.few(5))], ["y"], transB=1))
        x = value("x", [1, 4, _SIZE, _SIZE])
        made = model(self.nodes, [x], [value("y", None)], self.weights)
        infer.annotate(made)
        return made


@settings(max_examples=80)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 8), block=st.sampled_from([2, 8, 16]))
def test_any_network_answers_as_before(
    seed: int, steps: int, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    maker = _Maker(seed)
    name, channels = maker.conv("x", 4, 8), 8
    for _ in range(steps):
        name, channels = maker.step(name, channels)
    before = maker.finished(name, channels)
    after = onnx.ModelProto()
    after.CopyFrom(before)
    merged = merge_channels(after, block)
    assert merged >= 0
    onnx.checker.check_model(after, full_check=True)
    folder = tmp_path_factory.mktemp("channels")
    feeds = {"x": maker.rng.standard_normal((1, 4, _SIZE, _SIZE)).astype(np.float32)}
    (first,), (second,) = (
        run_with_onnxruntime(save(one, folder, f"{n}.onnx"), feeds, 1)
        for n, one in enumerate((before, after))
    )
    # like weights of the classifier may cancel, and what is left of sums of a hundred is rounding
    assert nmse(first["y"], second["y"]) < 1e-6


def test_masked_filters_of_a_pruned_residual_block_go() -> None:
    maker = _Maker(0)
    rng = maker.rng
    inner = rng.standard_normal((32, 8, 3, 3))
    inner[8:] *= 0.0  # what a mask of structured pruning leaves
    outer = rng.standard_normal((8, 32, 3, 3))
    first = maker.conv("x", 4, 8)
    second = maker.add("Conv", [first, maker.constant(inner)], pads=[1, 1, 1, 1])
    third = maker.add("Relu", [second])
    fourth = maker.add("Conv", [third, maker.constant(outer)], pads=[1, 1, 1, 1])
    made = maker.finished(maker.add("Add", [fourth, first]), 8)
    assert merge_channels(made, 2) == 22  # nine kinds; ten channels fill blocks of two
    weights = {one.name: tuple(one.dims) for one in made.graph.initializer}
    convs = [weights[one.input[1]] for one in made.graph.node if one.op_type == "Conv"]
    assert convs[1:] == [(10, 8, 3, 3), (8, 10, 3, 3)]


@pytest.mark.parametrize("pinned", ["output", "softmax"])
def test_channels_that_somebody_else_reads_stay(pinned: str) -> None:
    maker = _Maker(1)
    seen = maker.add("Conv", ["x", maker.constant(np.ones((8, 4, 1, 1)))])
    read = maker.add("Softmax", [seen], axis=1) if pinned == "softmax" else seen
    made = maker.finished(read, 8)
    if pinned == "output":
        made.graph.output.append(value(seen, None))
        infer.annotate(made)
    assert merge_channels(made, 8) == 0


def test_equal_filters_of_different_groups_are_not_twins() -> None:
    maker = _Maker(2)
    alike = maker.constant(np.ones((4, 2, 1, 1)))
    made = maker.finished(maker.add("Conv", ["x", alike], group=2), 4)
    before = [one.SerializeToString() for one in made.graph.node]
    merged = merge_channels(made, 8)
    shapes = {one.name: tuple(one.dims) for one in made.graph.initializer}
    conv = next(one for one in made.graph.node if one.op_type == "Conv")
    assert (merged == 0) == (before == [one.SerializeToString() for one in made.graph.node])
    assert shapes[conv.input[1]][0] >= 2


def test_weights_of_one_value_that_are_spelt_as_fills_shrink(tmp_path: Path) -> None:
    shapes = {"a": (32, 3, 3, 3), "b": (64, 32, 3, 3), "c": (10, 64 * 4)}
    nodes, weights = [], []
    for name, dims in shapes.items():
        weights.append(weight(f"{name}_dims", np.array(dims, np.int64)))
        fill = onnx.numpy_helper.from_array(np.array([0.02], np.float32))
        nodes.append(node("ConstantOfShape", [f"{name}_dims"], [name], value=fill))
    nodes += [
        node("Conv", ["x", "a"], ["p"]),
        node("Relu", ["p"], ["q"]),
        node("Conv", ["q", "b"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("Gemm", ["f", "c"], ["y"], transB=1),
    ]
    made = model(nodes, [value("x", [1, 3, 6, 6])], [value("y", None)], weights)
    feeds = {
        name: np.random.default_rng(3).standard_normal(dims).astype(np.float32)
        for name, dims in shapes_of(made).items()
    }
    kinds = rewritten(made, tmp_path, feeds, 1e-9)
    assert "ConstantOfShape" not in kinds
    found = onnx.load(tmp_path / "rewritten.onnx")
    assert sum(np.prod(one.dims) for one in found.graph.initializer) < 200
