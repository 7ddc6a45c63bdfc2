"""Classes of axes found from operators' meaning; stages against brute force."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.emit.partition import options, read
from planner.emit.partition.price import talk_sizes
from planner.ir.graph import Graph, Op, Tensor
from planner.ops.sharding import Index
from planner.place.shares import stage_ends, tensor_cuts
from tests.emit.test_partition import block


def test_heads_and_hidden_units_are_found_without_names(tmp_path: Path) -> None:
    """One sum behind attention, one behind the feed-forward: as is published."""
    path = tmp_path / "model.onnx"
    onnx.save(block(), path)
    model, (graph,) = read(path)
    known = options(model, (graph,))

    def price(choices: Mapping[str, Index]) -> float:
        return 0.2 * len(talk_sizes(graph, choices))

    choices = tensor_cuts(graph, known, 2, price)
    assert [kind for kind, _ in talk_sizes(graph, choices)] == ["all_reduce", "all_reduce"]
    assert {
        "op q0",
        "op k0",
        "op v0",
        "op s2",
        "op o3",
        "op f0",
        "op f1",
        "op f2",
    } <= choices.keys()
    assert choices["op o3"].kind == choices["op f2"].kind == "sum"
    assert not {"op n", "op r", "op y"} & choices.keys()


def test_nothing_is_cut_where_talking_costs_more_than_it_saves(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(block(), path)
    model, (graph,) = read(path)
    known = options(model, (graph,))
    assert tensor_cuts(graph, known, 2, lambda choices: 1e9 * len(choices)) == {}
    assert tensor_cuts(graph, known, 5, lambda choices: 0.0) == {}


def chain(sizes: list[int]) -> Graph:
    """Elementwise operators one after the other, each making so many elements."""
    names = [f"t{place}" for place in range(len(sizes) + 1)]
    shapes = [(1,), *((size,) for size in sizes)]
    tensors = {n: Tensor(n, "float32", s, 4 * s[0]) for n, s in zip(names, shapes, strict=True)}
    ops = tuple(
        Op(f"op{i}", "Relu", "", (a,), (b,)) for i, (a, b) in enumerate(itertools.pairwise(names))
    )
    return Graph(ops, tensors, (names[0],), (names[-1],))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=3, max_size=8), st.integers(2, 3))
def test_stages_are_the_best_of_all(sizes: list[int], stages: int) -> None:
    graph = chain(sizes)
    ends = stage_ends(graph, {op.name: () for op in graph.ops}, stages)

    def cost(cuts: tuple[int, ...]) -> tuple[int, int]:
        bounds = [0, *cuts, len(sizes)]
        slowest = max(sum(sizes[a:b]) for a, b in itertools.pairwise(bounds))
        return slowest, sum(sizes[cut - 1] for cut in cuts)

    best = min(map(cost, itertools.combinations(range(1, len(sizes)), stages - 1)))
    assert cost(tuple(ends[:-1])) == best
    assert ends[-1] == len(sizes)


def test_more_stages_than_operators_are_refused() -> None:
    graph = chain([1, 2])
    with pytest.raises(ValueError, match="2 operators make no 3 stages"):
        stage_ends(graph, {op.name: () for op in graph.ops}, 3)
