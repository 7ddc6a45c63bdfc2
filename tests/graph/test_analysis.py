"""Peak memory against its definition on small random graphs, and on a graph built to be slow."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import ModelError
from planner.graph.analysis import Wiring, peak_activation_bytes
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
    wiring = Wiring(Graph((first, middle, last), tensors, ("x",), ("y",)))
    assert wiring.sources == ((), (0,), (1, 0))
    assert wiring.readers == ((1, 2), (2,), ())


def test_a_ladder_of_diamonds_is_no_trouble() -> None:
    """It has 2^n paths, and is deeper than Python's stack."""
    rungs = 1500
    ops: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for i in range(rungs):
        ops += [
            ((f"t{i}",), (f"l{i}",)),
            ((f"t{i}",), (f"r{i}",)),
            ((f"l{i}", f"r{i}"), (f"t{i + 1}",)),
        ]
    graph = _graph(ops, outputs=(f"t{rungs}",))
    assert peak_activation_bytes(graph) == 4, "x, both sides of a rung, and what joins them"
