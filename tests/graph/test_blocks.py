"""Repeated blocks: found whatever the names and the order in the file, and only where they are."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.graph.blocks import Repeat, find_repeats
from planner.ir.graph import Graph, Op, Tensor

Draft = list[tuple[str, list[str], str]]
"""(kind, operands, result) of each operator."""


def graph_of(draft: Draft, inputs: Sequence[str] = ("x", "mask"), seed: int | None = None) -> Graph:
    """The graph of a draft; with a seed its operators stand in a random topological order under
    random names."""
    made = {result for _, _, result in draft}
    rest, order, done = list(draft), [], set[str]()
    chance = random.Random(seed)
    while rest:
        ready = [row for row in rest if all(n in done or n not in made for n in row[1])]
        row = chance.choice(ready) if seed is not None else ready[0]
        rest.remove(row)
        done.add(row[2])
        order.append(row)
    names = [f"op{i}" for i in range(len(order))]
    if seed is not None:
        chance.shuffle(names)
    ops = tuple(
        Op(name, kind, "", tuple(operands), (result,))
        for name, (kind, operands, result) in zip(names, order, strict=True)
    )
    touched = dict.fromkeys((*inputs, *(n for op in ops for n in (*op.inputs, *op.outputs))))
    tensors = {n: Tensor(n, "float32", (4,), 16, is_constant=n.startswith("w")) for n in touched}
    return Graph(ops, tensors, tuple(inputs), (draft[-1][2],))


def stack(layers: int, shared: str = "m") -> Draft:
    """A small network: embedding, `layers` residual blocks that read a common tensor, a head."""
    draft: Draft = [("Gather", ["x", "w_e"], "h0"), ("Cast", ["mask"], shared)]
    for i in range(layers):
        draft += [
            ("MatMul", [f"h{i}", f"w_a{i}"], f"a{i}"),
            ("Add", [f"a{i}", shared], f"b{i}"),
            ("Relu", [f"b{i}"], f"c{i}"),
            ("MatMul", [f"c{i}", f"w_c{i}"], f"d{i}"),
            ("Sub", [f"h{i}", f"d{i}"], f"h{i + 1}"),
        ]
    return [*draft, ("Tanh", [f"h{layers}"], "y")]


def are_isomorphic(graph: Graph, one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether mapping operator j to operator j maps tensors one to one, edges and looks kept."""
    by_name = {op.name: op for op in graph.ops}
    forward: dict[str, str] = {}
    backward: dict[str, str] = {}
    for a, b in zip((by_name[n] for n in one), (by_name[n] for n in other), strict=True):
        if a.kind != b.kind or len(a.inputs) != len(b.inputs):
            return False
        for x, y in zip((*a.inputs, *a.outputs), (*b.inputs, *b.outputs), strict=True):
            if forward.setdefault(x, y) != y or backward.setdefault(y, x) != x:
                return False
    return True


@pytest.mark.parametrize("layers", [3, 4, 12])
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_layers_are_found_in_any_order_under_any_name(layers: int, seed: int | None) -> None:
    graph = graph_of(stack(layers), seed=seed)
    (found,) = find_repeats(graph)
    assert (len(found.instances), found.size, found.ops) == (layers, 5, 5 * layers)
    kind = {op.name: op.op_type for op in graph.ops}
    assert [{kind[name] for name in part} for part in found.tied] == [
        {"MatMul"},
        {"Add"},
        {"Relu"},
        {"MatMul"},
        {"Sub"},
    ]


def test_instances_stand_in_the_order_of_the_network() -> None:
    (found,) = find_repeats(graph_of(stack(4)))
    assert [int(names[0][2:]) for names in found.instances] == [2, 7, 12, 17]


def test_what_attributes_tell_apart_is_no_repeat() -> None:
    graph = graph_of(stack(4))
    marks = {op.name: position // 5 for position, op in enumerate(graph.ops)}
    assert find_repeats(graph, marks) == ()


def test_another_wiring_is_another_block() -> None:
    """The same operators in the same order, but one block adds what it read to itself."""
    draft = stack(6)
    place = next(i for i, row in enumerate(draft) if row[2] == "b2")
    draft[place] = ("Add", ["a2", "a2"], "b2")
    for found in find_repeats(graph_of(draft)):
        instances = found.instances
        assert all(are_isomorphic(graph_of(draft), instances[0], other) for other in instances[1:])
        assert f"op{place}" not in {name for names in instances for name in names}


def test_side_outputs_do_not_tear_the_last_block() -> None:
    graph = graph_of(stack(4))
    graph = Graph(graph.ops, graph.tensors, graph.inputs, ("b3", "b2", "b1", "b0", "y"))
    (found,) = find_repeats(graph)
    assert len(found.instances) == 4


def test_graphs_without_repeats() -> None:
    assert find_repeats(Graph((), {}, (), ())) == ()
    assert find_repeats(graph_of([("Relu", ["x"], "y")])) == ()
    assert find_repeats(graph_of(stack(1))) == ()


@given(st.data())
def test_whatever_is_found_is_isomorphic_and_disjoint(data: st.DataObject) -> None:
    kinds, seen = ("Relu", "Add"), ["x", "mask"]
    draft: Draft = []
    for index in range(data.draw(st.integers(2, 24))):
        kind = data.draw(st.sampled_from(kinds))
        recent = st.sampled_from(seen[-3:])
        operands = [data.draw(recent) for _ in range(1 + (kind == "Add"))]
        draft.append((kind, operands, f"t{index}"))
        seen.append(f"t{index}")
    graph = graph_of(draft)
    repeats: tuple[Repeat, ...] = find_repeats(graph)
    used = [name for repeat in repeats for names in repeat.instances for name in names]
    assert len(used) == len(set(used))
    for repeat in repeats:
        first, *others = repeat.instances
        assert others
        assert all(are_isomorphic(graph, first, other) for other in others)
