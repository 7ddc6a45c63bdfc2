"""Regions of random small graphs, at every level, native and compressed: what always holds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from planner.compress.base import Format
from planner.ir.problem import State
from tests.fuse.build import check, cut, own_threads
from tests.profiling.build import Array, model, random

__all__ = ["own_threads"]

CHANNELS, SIDE = 16, 4
_UNARY = ("Relu", "Sigmoid", "Identity", "Neg", "Exp", "Erf")
_BINARY = ("Add", "Mul", "Sub")
_KINDS = (
    *_UNARY,
    *_BINARY,
    *("Conv", "BatchNormalization", "MaxPool", "Transposes", "Casts", "MatMul", "Constant", "Mask"),
)
Step = tuple[str, int, int]
"""Kind of operator, and which of the tensors so far it reads (counted backwards)."""


class Builder:
    """A graph over tensors of one shape, 1 x 16 x 4 x 4, so that anything fits anywhere."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}
        self.tensors = ["x"]
        self.feeds = {"x": random(1, CHANNELS, SIDE, SIDE)}

    def weight(self, value: Array) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = value
        return name

    def node(self, kind: str, inputs: list[str], **attributes: object) -> str:
        made = f"t{len(self.nodes)}"
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [made], name=name, **attributes))  # type: ignore[arg-type]
        return made

    def step(self, kind: str, first: int, second: int) -> None:
        one = self.tensors[-1 - first % len(self.tensors)]
        two = self.tensors[-1 - second % len(self.tensors)]
        self.tensors.append(self._made(kind, one, two))

    def _made(self, kind: str, one: str, two: str) -> str:
        if kind in _UNARY:
            return self.node(kind, [one])
        if kind in _BINARY:
            return self.node(kind, [one, two])
        return {
            "Conv": self._conv,
            "BatchNormalization": self._norm,
            "MaxPool": self._pool,
            "Transposes": self._transposes,
            "Casts": self._casts,
            "MatMul": self._matmul,
            "Constant": self._constant,
            "Mask": self._mask,
        }[kind](one)

    def _conv(self, one: str) -> str:
        weight = self.weight(random(CHANNELS, CHANNELS, 3, 3, seed=len(self.weights)))
        return self.node("Conv", [one, weight], pads=[1, 1, 1, 1])

    def _norm(self, one: str) -> str:
        ones = [self.weight(np.ones(CHANNELS, np.float32)) for _ in range(4)]
        return self.node("BatchNormalization", [one, *ones])

    def _pool(self, one: str) -> str:
        return self.node("MaxPool", [one], kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def _transposes(self, one: str) -> str:
        turned = self.node("Transpose", [one], perm=[0, 2, 3, 1])
        return self.node("Transpose", [turned], perm=[0, 3, 1, 2])

    def _casts(self, one: str) -> str:
        return self.node("Cast", [self.node("Cast", [one], to=11)], to=1)

    def _matmul(self, one: str) -> str:
        product = self.node("MatMul", [one, self.weight(random(SIDE, SIDE))])
        return self.node("Add", [product, self.weight(random(SIDE))])

    def _constant(self, one: str) -> str:
        made = self.node("Exp", [self.weight(random(1, CHANNELS, 1, 1))])
        return self.node("Mul", [one, made])

    def _mask(self, one: str) -> str:
        """One Not that two Where share, as in masked attention."""
        flag = self.node("Greater", [one, self.weight(np.zeros((), np.float32))])
        off = self.node("Not", [flag])
        low = self.weight(np.full((), -1.0, np.float32))
        return self.node("Where", [off, low, self.node("Where", [off, one, low])])


def build(steps: list[Step]) -> Builder:
    """The graph of these steps; every tensor that nobody reads is an output."""
    made = Builder()
    for step in steps:
        made.step(*step)
    return made


def finish(made: Builder) -> onnx.ModelProto:
    """The model; its outputs are what nobody reads."""
    read = {name for node in made.nodes for name in node.input}
    unread = [node.output[0] for node in made.nodes if node.output[0] not in read]
    return model(made.nodes, made.feeds, unread, made.weights)


_STEPS = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.integers(0, 3), st.integers(0, 5)),
    min_size=1,
    max_size=14,
)
_FORMATS = st.sampled_from(
    [Format.FP32, Format.FP32, Format.INT8_STATIC, Format.INT8_DYNAMIC, Format.INT8_WO]
)
_TAKES = {
    Format.INT8_STATIC: ("Conv", "MatMul", "Add", "MaxPool", "Sigmoid"),
    Format.INT8_DYNAMIC: ("Conv", "MatMul"),
    Format.INT8_WO: (),
}


@pytest.mark.usefixtures("own_threads")
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(_STEPS, st.sampled_from(["basic", "extended", "all"]), _FORMATS, st.integers(0, 7))
def test_regions_cover_and_can_be_put_in_order(
    steps: list[Step], level: str, form: Format, some: int
) -> None:
    made = build(steps)
    finished = finish(made)
    takes = [node.name for node in made.nodes if node.op_type in _TAKES.get(form, ())]
    chosen = {name: form for index, name in enumerate(takes) if index % 3 != some % 3}
    names = ["x", *(node.output[0] for node in made.nodes)]
    ranges = dict.fromkeys(names, (-2.0, 2.0))
    with tempfile.TemporaryDirectory() as folder:
        check(cut(Path(folder), finished, made.feeds, level, chosen, ranges))


@pytest.mark.usefixtures("own_threads")
def test_names_kept_in_another_layout_mean_nothing(tmp_path: Path) -> None:
    """Channels last around an addition: `t4` is dequantised in it under its old name."""
    steps = [(kind, 0, second) for kind, second in (("MatMul", 0), ("Conv", 0), ("Relu", 0))]
    made = build([*steps, ("Conv", 0, 0), ("Add", 0, 1)])
    ranges = dict.fromkeys(["x", *(node.output[0] for node in made.nodes)], (-2.0, 2.0))
    chosen = dict.fromkeys(("MatMul_0", "Conv_2", "Conv_4"), Format.INT8_STATIC)
    found = cut(tmp_path, finish(made), made.feeds, "all", chosen, ranges)
    check(found)
    changes = {change.source.tensor: change for change in found.found.changes}
    assert changes["t4"].source.form == "q8nhwc"
    assert changes["t4"].target.form == "nhwc"
    addition = next(region for region in found.found.regions if "Add_5" in region.ops)
    assert State("t4", "nhwc") in addition.needs


@pytest.mark.usefixtures("own_threads")
def test_a_quantisation_that_moved_past_a_transposition_is_not_named_after_it(
    tmp_path: Path,
) -> None:
    """`t5_q` reads `t1`: its name is that of a tensor with other axes, which no longer exists."""
    kinds = [("Conv", 0, 3), ("Sub", 1, 3), ("MaxPool", 0, 0), ("Exp", 1, 5), ("Exp", 3, 1)]
    kinds += [("Transposes", 3, 3), ("Exp", 1, 3), ("Add", 2, 0), ("MaxPool", 2, 2)]
    made = build(kinds)
    ranges = dict.fromkeys(["x", *(node.output[0] for node in made.nodes)], (-2.0, 2.0))
    takes = [node.name for node in made.nodes if node.op_type in ("Conv", "Add", "MaxPool")]
    chosen = dict.fromkeys(takes, Format.INT8_STATIC)
    found = cut(tmp_path, finish(made), made.feeds, "all", chosen, ranges)
    check(found)
    moved = [kernel for kernel in found.kernels if kernel.name.endswith("_q")]
    for kernel in moved:
        source, target = (found.forms[n] for n in (kernel.inputs[0], kernel.outputs[0]))
        assert (source.tensor, target.form) == (target.tensor, "q8")
