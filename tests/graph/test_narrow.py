"""Convolutions of few channels compute tiles of positions: same answers, fuller blocks."""

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
from planner.graph.rewrite import narrow, rewrite_in_place
from planner.graph.rewrite.narrow import fill, tile_of
from planner.graph.rewrite.net import Net
from planner.runtime.compare import nmse
from tests.graph.nasties import model, node, save, value, weight
from tests.graph.rewritten import rewritten


def _conv(
    seed: int, size: tuple[int, int], taps: tuple[int, int], channels: int, **attributes: Any
) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    inputs = attributes.pop("inputs", 3)
    weights = [weight("w", rng.standard_normal((channels, inputs, *taps)).astype(np.float32))]
    names = ["x", "w"]
    if attributes.pop("has_bias", True):
        weights.append(weight("b", rng.standard_normal(channels).astype(np.float32)))
        names.append("b")
    nodes = [node("Conv", names, ["c"], **attributes), node("Relu", ["c"], ["y"])]
    made = model(nodes, [value("x", [2, inputs, *size])], [value("y", None)], weights)
    infer.annotate(made)
    return made


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Putting images together costs nothing, so that small ones are tiled too."""
    monkeypatch.setattr(narrow, "_OPERATORS_NS", 0.0)
    monkeypatch.setattr(narrow, "_ELEMENT_NS", 0.0)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
    taps=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.integers(1, 9),
    pads=st.sampled_from([(0, 0, 0, 0), (2, 1, 0, 3), b"SAME_UPPER", b"SAME_LOWER", b"VALID"]),
    has_bias=st.booleans(),
    block=st.sampled_from([8, 16]),
)
def test_any_convolution_answers_as_before(
    seed: int,
    size: tuple[int, int],
    taps: tuple[int, int],
    channels: int,
    pads: tuple[int, ...] | bytes,
    has_bias: bool,
    block: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    border = {"auto_pad": pads} if isinstance(pads, bytes) else {"pads": pads}
    before = _conv(seed, size, taps, channels, has_bias=has_bias, **border)
    after = onnx.ModelProto()
    after.CopyFrom(before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(narrow, "_OPERATORS_NS", 0.0)
        patch.setattr(narrow, "_ELEMENT_NS", 0.0)
        rewrite_in_place(after, (fill,), block)
    kinds = [one.op_type for one in after.graph.node]
    if 2 * channels > block or max(taps) == 1:
        assert kinds == ["Conv", "Relu"]
    if 2 * channels <= block and min(taps) > 1 and min(size) > max(taps) + 1:
        assert "Transpose" in kinds
    folder = tmp_path_factory.mktemp("narrow")
    feeds = {"x": np.random.default_rng(seed).standard_normal((2, 3, *size)).astype(np.float32)}
    paths = (save(before, folder, "before.onnx"), save(after, folder, "after.onnx"))
    (old,), (new,) = (run_with_onnxruntime(path, feeds, 1) for path in paths)
    assert old["y"].shape == new["y"].shape
    assert nmse(old["y"], new["y"]) < 1e-11


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("attributes", [{"strides": [1, 2]}, {"dilations": [2, 1]}, {"group": 3}])
def test_other_convolutions_stay(attributes: dict[str, Any]) -> None:
    channels, inputs = 3, 3
    made = _conv(0, (9, 9), (3, 3), channels, inputs=inputs, **attributes)
    if "group" in attributes:
        made.graph.initializer[0].CopyFrom(weight("w", np.ones((3, 1, 3, 3), np.float32)))
    net = Net(made, 16)
    assert [tile_of(net, one) for one in net] == [None, None]


def test_only_what_saves_much_is_tiled() -> None:
    small = Net(_conv(0, (16, 16), (3, 3), 3), 16)
    large = Net(_conv(0, (200, 200), (3, 3), 3, inputs=32), 16)
    assert tile_of(small, next(iter(small))) is None
    assert tile_of(large, next(iter(large))) is not None


def test_a_full_block_stays() -> None:
    net = Net(_conv(0, (200, 200), (3, 3), 16, inputs=32), 16)
    assert tile_of(net, next(iter(net))) is None


def test_tiles_fit_the_block_of_the_processor() -> None:
    for block in (8, 16):
        net = Net(_conv(0, (200, 200), (5, 5), 3, inputs=32), block)
        tile = tile_of(net, next(iter(net)))
        assert tile is not None
        assert block / 2 < 3 * tile.size <= block


def test_what_folds_into_a_convolution_does_so_first(tmp_path: Path) -> None:
    made = _conv(0, (200, 200), (3, 3), 3, inputs=32)
    del made.graph.node[1]
    numbers = np.arange(1, 4, dtype=np.float32).reshape(3, 1, 1)
    made.graph.node.extend([node("Mul", ["c", "s"], ["m"]), node("Add", ["m", "s"], ["y"])])
    made.graph.initializer.append(weight("s", numbers))
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 32, 200, 200)).astype(np.float32)}
    kinds = rewritten(made, tmp_path, feeds, 1e-11, block=16)
    assert [kind for kind in kinds if kind in ("Conv", "Transpose", "Mul", "Add")] == [
        "Conv",
        "Transpose",
    ]


@pytest.mark.usefixtures("free")
def test_the_rewritten_model_checks(tmp_path: Path) -> None:
    made = _conv(0, (7, 11), (3, 3), 3, pads=[1, 1, 1, 1])
    rewrite_in_place(made, (fill,), 16)
    infer.annotate(made)
    onnx.checker.check_model(onnx.load(save(made, tmp_path)), full_check=True)
