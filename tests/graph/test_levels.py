"""Operators in a row: what a runtime without fusion launches one after another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from planner.graph.levels import operators_in_a_row
from planner.ir.graph import Graph, Op, Tensor


def graph(ops: Sequence[tuple[str, Sequence[str], str]], steps: int = 1) -> Graph:
    """Operators (type, inputs, output) over `x`, whose first dimension is `steps`."""
    made = tuple(
        Op(f"n{i}", kind, "", tuple(reads), (out,)) for i, (kind, reads, out) in enumerate(ops)
    )
    names = {"x", *(name for _, reads, out in ops for name in (*reads, out))}
    tensors = {name: Tensor(name, "float32", (steps, 4), 16 * steps) for name in names}
    return Graph(made, tensors, ("x",), (ops[-1][2],))


def test_views_and_what_is_known_ahead_take_no_kernel() -> None:
    ops = [
        ("Relu", ["x"], "a"),
        ("Reshape", ["a", "s"], "b"),
        *[("Exp", ["w" if i == 0 else f"c{i - 1}"], f"c{i}") for i in range(5)],
        ("Mul", ["b", "c4"], "y"),
    ]
    assert operators_in_a_row(graph(ops)) == 2


def test_a_recurrence_counts_its_steps() -> None:
    ops = [("LSTM", ["x", "w", "r"], "h"), ("Squeeze", ["h"], "s"), ("Relu", ["s"], "y")]
    assert operators_in_a_row(graph(ops, steps=7)) == 8


@given(st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=3), min_size=1, max_size=8))
def test_it_is_the_longest_of_all_chains(reads: list[list[int]]) -> None:
    names = ["x", *(f"t{i}" for i in range(len(reads)))]
    ops = [
        ("Add", [names[position % (i + 1)] for position in listed], names[i + 1])
        for i, listed in enumerate(reads)
    ]
    edges = {(read, out) for _, listed, out in ops for read in listed}

    def chains(name: str) -> list[list[str]]:
        before = [read for read, out in edges if out == name]
        return [[*chain, name] for read in before for chain in chains(read)] or [[name]]

    longest = max((chain for name in names for chain in chains(name)), key=len)
    assert all(pair in edges for pair in pairwise(longest))
    assert operators_in_a_row(graph(ops)) == len(longest) - 1
