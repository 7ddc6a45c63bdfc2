"""Learnt slopes between convolutions: same answers from operators that keep their layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto

from tests.graph.nasties import model, node, value, weight
from tests.graph.rewritten import rewritten

Array = np.ndarray[Any, Any]


def _rewritten(slopes: Array, folder: Path, nodes: Sequence[NodeProto], channels: int) -> list[str]:
    """Operators of the rewritten model, which is seen to answer as before."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((channels, 3, 3, 3)).astype(np.float32)
    weights = [weight("w", kernel), weight("s", slopes.astype(np.float32))]
    made = model(nodes, [value("x", [2, 3, 6, 7])], [value("y", None)], weights)
    feeds = {"x": rng.standard_normal((2, 3, 6, 7)).astype(np.float32)}
    return rewritten(made, folder, feeds, 1e-12)


_BESIDE_CONV = [node("Conv", ["x", "w"], ["c"]), node("PRelu", ["c", "s"], ["y"])]
_NOT_ABOVE_ONE = ["Conv", "Conv", "Conv", "Relu", "Add"]


@settings(max_examples=25, deadline=None)
@given(
    slopes=st.lists(
        st.floats(-2, 2, width=32) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=20
    ),
    rank=st.integers(3, 4),
)
def test_any_slopes_answer_as_before(
    slopes: list[float], rank: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shape = (1,) * (rank - 3) + (len(slopes), 1, 1)
    folder = tmp_path_factory.mktemp("slopes")
    kinds = _rewritten(np.array(slopes).reshape(shape), folder, _BESIDE_CONV, len(slopes))
    assert "PRelu" not in kinds
    if len({float(np.float32(one)) for one in slopes}) == 1:
        assert kinds == ["Conv", "LeakyRelu"]
    else:
        assert sorted(kinds) == sorted(_NOT_ABOVE_ONE)


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), ()])
def test_one_slope_for_all_is_a_leaky_relu(shape: tuple[int, ...], tmp_path: Path) -> None:
    kinds = _rewritten(np.full(shape, 0.25), tmp_path, _BESIDE_CONV, 4)
    assert kinds == ["Conv", "LeakyRelu"]


def test_slopes_that_would_cost_digits_stay(tmp_path: Path) -> None:
    slopes = np.array([0.25, 1e6, -1e6, 1.0]).reshape(4, 1, 1)
    assert _rewritten(slopes, tmp_path, _BESIDE_CONV, 4) == ["Conv", "PRelu"]
    same = np.full((4, 1, 1), -1e6)
    assert _rewritten(same, tmp_path, _BESIDE_CONV, 4) == ["Conv", "LeakyRelu"]


@pytest.mark.parametrize("shape", [(5,), (4, 1), (4, 1, 5), (4, 4, 5)])
def test_slopes_of_places_stay(shape: tuple[int, ...], tmp_path: Path) -> None:
    slopes = np.random.default_rng(1).uniform(-1, 1, shape)
    assert _rewritten(slopes, tmp_path, _BESIDE_CONV, 4) == ["Conv", "PRelu"]


def test_slopes_of_what_no_convolution_makes_or_reads_stay(tmp_path: Path) -> None:
    nodes = [node("Sin", ["x"], ["c"]), node("PRelu", ["c", "s"], ["y"])]
    slopes = np.array([0.1, 0.2, 0.3]).reshape(3, 1, 1)
    assert _rewritten(slopes, tmp_path, nodes, 3) == ["Sin", "PRelu"]
