"""Graph questions against brute force on small random graphs, and on graphs built to be slow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import ModelError
from planner.graph.analysis import (
    Wiring,
    between,
    is_convex,
    peak_activation_bytes,
    repeated_blocks,
)
from planner.ir.graph import Graph, Op, Tensor


def _graph(
    ops: Sequence[tuple[tuple[str, ...], tuple[str, ...]]],
    sizes: dict[str, int] | None = None,
    outputs: tuple[str, ...] = (),
    constants: frozenset[str] = frozenset(),
) -> Graph:
    """Operators `o0`, `o1`, ... given as (inputs, outputs); `x` is the model's input."""
    made = tuple(Op(f"o{i}", "Op", "", read, make) for i, (read, make) in enumerate(ops))
    names = dict.fromkeys(["x", *(name for op in made for name in (*op.inputs, *op.outputs))])
    tensors = {
        name: Tensor(name, "uint8", (1,), (sizes or {}).get(name, 1), name in constants)
        for name in names
    }
    return Graph(made, tensors, ("x",), outputs)


@st.composite
def _graphs(draw: st.DrawFn) -> Graph:
    """Up to seven operators with one or two outputs that read up to three earlier tensors."""
    available, ops = ["x", "w"], []
    for i in range(draw(st.integers(1, 7))):
        read = draw(st.lists(st.sampled_from(available), max_size=3))
        made = [f"t{i}", f"u{i}"][: draw(st.integers(1, 2))]
        ops.append((tuple(read), tuple(made)))
        available += made
    sizes = {name: draw(st.integers(0, 9)) for name in available}
    outputs = tuple(draw(st.sets(st.sampled_from([*available[2:], "x"]), max_size=3)))
    return _graph(ops, sizes, outputs, frozenset({"w"}))


def _reach(graph: Graph) -> dict[str, set[str]]:
    """For each operator all operators downstream of it, by repeated composition."""
    readers = graph.consumers()
    reach = {
        op.name: {reader.name for name in op.outputs for reader in readers.get(name, ())}
        for op in graph.ops
    }
    for _ in graph.ops:
        reach = {a: found.union(*(reach[b] for b in found)) for a, found in reach.items()}
    return reach


@settings(max_examples=150, deadline=None)
@given(_graphs(), st.data())
def test_convexity_is_what_all_pairs_reachability_says(graph: Graph, data: st.DataObject) -> None:
    names = [op.name for op in graph.ops]
    ops = data.draw(st.sets(st.sampled_from(names)))
    reach = _reach(graph)
    leaves_and_returns = any(
        out in reach[a] and b in reach[out] for a in ops for b in ops for out in set(names) - ops
    )
    assert is_convex(graph, ops) is not leaves_and_returns


def _peak_by_definition(graph: Graph, order: list[Op]) -> int:
    """At each step, every tensor that exists and is still wanted, recomputed from nothing."""
    pinned = {*graph.inputs, *graph.outputs}

    def alive(step: int) -> set[str]:
        made = {name for op in order[: step + 1] for name in op.outputs}
        wanted = {name for op in order[step:] for name in op.inputs}
        now = set(order[step].outputs)
        return {*graph.inputs} | {name for name in made if name in wanted | pinned | now}

    sets = [alive(step) for step in range(len(order))] or [set(graph.inputs)]
    size = {t.name: 0 if t.is_constant else t.size_bytes for t in graph.tensors.values()}
    return max(sum(size[name] for name in names) for names in sets)


@settings(max_examples=200, deadline=None)
@given(_graphs())
def test_peak_memory_is_what_the_definition_says(graph: Graph) -> None:
    assert peak_activation_bytes(graph) == _peak_by_definition(graph, list(graph.ops))


def test_another_order_has_another_peak() -> None:
    """Two branches with large intermediates: one after the other is better than side by side."""
    ops = [
        (("x",), ("a",)),
        (("x",), ("b",)),
        (("a",), ("a2",)),
        (("b",), ("b2",)),
        (("a2", "b2"), ("y",)),
    ]
    graph = _graph(ops, {"a": 100, "b": 100}, outputs=("y",))
    assert peak_activation_bytes(graph) == 202
    assert peak_activation_bytes(graph, ["o0", "o2", "o1", "o3", "o4"]) == 103


@pytest.mark.parametrize(
    ("order", "words"), [(["o0"], "exactly once"), (["o1", "o0"], "'o1' runs before 't'")]
)
def test_an_impossible_order_is_refused(order: list[str], words: str) -> None:
    graph = _graph([(("x",), ("t",)), (("t",), ("y",))], outputs=("y",))
    with pytest.raises(ModelError, match=words):
        peak_activation_bytes(graph, order)


def test_what_a_body_captures_is_an_edge() -> None:
    first = Op("a", "Neg", "", ("x",), ("t",))
    middle = Op("b", "If", "", ("x",), ("u",), captured=("t",))
    last = Op("c", "Add", "", ("u", "t"), ("y",))
    tensors = {name: Tensor(name, "float32", (1,), 4) for name in "xtuy"}
    graph = Graph((first, middle, last), tensors, ("x",), ("y",))
    assert not is_convex(graph, {"a", "c"})
    assert between(graph, {"x"}, {"y"}) == {"a", "b", "c"}


def test_a_slice_stops_at_its_inputs() -> None:
    graph = _graph(
        [
            (("x",), ("a",)),
            (("a",), ("b",)),
            (("b", "w"), ("c",)),
            (("c",), ("d",)),
            (("a",), ("e",)),
        ]
    )
    assert between(graph, {"a"}, {"c"}) == {"o1", "o2"}
    assert between(graph, set(), {"c"}) == {"o0", "o1", "o2"}
    assert between(graph, {"c"}, {"c"}) == set()
    assert between(graph, {"a"}, {"d", "e"}) == {"o1", "o2", "o3", "o4"}


def _layers(count: int) -> Graph:
    """The same three operators again and again, with a weight of its own for each layer."""
    ops: list[Op] = []
    tensors = {"t0": Tensor("t0", "float32", (4,), 16)}
    for i in range(count):
        for kind, read, made in (
            ("MatMul", (f"t{i}", f"w{i}"), f"m{i}"),
            ("Relu", (f"m{i}",), f"r{i}"),
            ("Add", (f"r{i}", f"t{i}"), f"t{i + 1}"),
        ):
            ops.append(Op(f"{kind}{i}", kind, "", read, (made,)))
            tensors[made] = Tensor(made, "float32", (4,), 16)
        tensors[f"w{i}"] = Tensor(f"w{i}", "float32", (4, 4), 64, is_constant=True)
    return Graph(tuple(ops), tensors, ("t0",), (f"t{count}",))


def test_layers_repeat_except_at_the_ends() -> None:
    groups = repeated_blocks(_layers(10))
    kinds = [{name.rstrip("0123456789") for name in group} for group in groups]
    assert all(len(kind) == 1 for kind in kinds)
    matmuls = next(group for group in groups if "MatMul5" in group)
    assert set(matmuls) == {f"MatMul{i}" for i in range(3, 9)}, "within 3 steps of neither end"


def test_a_different_shape_is_no_repetition() -> None:
    graph = _layers(10)
    odd = Tensor("w5", "float32", (4, 8), 128, is_constant=True)
    changed = Graph(graph.ops, {**graph.tensors, "w5": odd}, graph.inputs, graph.outputs)
    assert not any("MatMul5" in group for group in repeated_blocks(changed))


def test_operand_order_matters() -> None:
    """a - b and b - a are not the same part, though their neighbours are."""
    tensors = {name: Tensor(name, "float32", (1,), 4) for name in ("x", "a", "b", "p", "q")}
    ops = (
        Op("neg", "Neg", "", ("x",), ("a",)),
        Op("abs", "Abs", "", ("x",), ("b",)),
        Op("left", "Sub", "", ("a", "b"), ("p",)),
        Op("right", "Sub", "", ("b", "a"), ("q",)),
    )
    assert repeated_blocks(Graph(ops, tensors, ("x",), ("p", "q"))) == ()


def test_nothing_recurses_and_no_path_is_enumerated() -> None:
    """A ladder of diamonds has 2^n paths; a chain is deeper than Python's stack."""
    rungs = 1500
    ops: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for i in range(rungs):
        ops += [
            ((f"t{i}",), (f"l{i}",)),
            ((f"t{i}",), (f"r{i}",)),
            ((f"l{i}", f"r{i}"), (f"t{i + 1}",)),
        ]
    graph = _graph(ops, outputs=(f"t{rungs}",))
    everything = {op.name for op in graph.ops}
    wiring = Wiring(graph)
    assert wiring.is_convex(everything)
    assert not wiring.is_convex({"o0", graph.ops[-1].name})
    assert peak_activation_bytes(graph) == 4, "x, both sides of a rung, and what joins them"
    assert len(between(graph, {"t0"}, {f"t{rungs}"})) == 3 * rungs
    assert repeated_blocks(graph)


def test_unknown_operators_are_no_question() -> None:
    graph = _graph([(("x",), ("y",))])
    with pytest.raises(KeyError):
        is_convex(graph, {"nobody"})


def test_the_empty_and_the_single_are_convex() -> None:
    graph = _graph([(("x",), ("a",)), (("a",), ("b",)), (("a", "b"), ("y",))])
    assert is_convex(graph, set())
    names = [op.name for op in graph.ops]
    answers = {pair: is_convex(graph, pair) for pair in combinations(names, 2)}
    assert answers == {("o0", "o1"): True, ("o0", "o2"): False, ("o1", "o2"): True}
