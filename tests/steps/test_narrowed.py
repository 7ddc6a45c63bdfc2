"""Formats that rewrite what may be made again: known, and given up only where nothing else fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.compress.base import Format
from planner.ir.graph import Graph, Op, Tensor
from planner.place.recompute import LEAST_BYTES
from planner.steps.streaming.again import narrowed, offered
from planner.steps.streaming.ways import Way
from tests.steps.test_streaming_fit import bare


def skipping(late: str = "late") -> Graph:
    """t is read early, and by the operator `late` once more."""
    names = ("x", "t", "a", "b", "y")
    tensors = {n: Tensor(n, "float32", None, LEAST_BYTES) for n in names}
    ops = (
        Op("make", "Tanh", "", ("x",), ("t",)),
        Op("early", "Neg", "", ("t",), ("a",)),
        Op("between", "Neg", "", ("a",), ("b",)),
        Op(late, "Add", "", ("b", "t"), ("y",)),
    )
    return Graph(ops, tensors, ("x",), ("y",))


def way(label: str, graph: Graph, formats: dict[str, Any], errors: dict[str, float]) -> Way:
    sizes = {name: tensor.size_bytes for name, tensor in graph.tensors.items()}
    return Way(label, replace(bare(), graph=graph, sizes=sizes), formats, errors)


def test_formats_that_rewrite_it_are_given_up() -> None:
    own = way("native", skipping(), {}, {})
    other = way("int8", skipping("late_quant"), {"late": Format.INT8_STATIC}, {"late": 1e-3})
    assert [each.recorded.tensor for each in offered([own])] == ["t"]
    assert offered([own, other]) == []
    assert narrowed([own, other]) == (own,)


def test_a_way_whose_every_change_is_too_much_is_none() -> None:
    own = way("native", skipping(), {}, {})
    other = way("int8", skipping(), {"late": Format.INT8_STATIC}, {"late": 1e-3})
    assert own.may_keep(0.0)
    assert other.may_keep(1e-3)
    assert not other.may_keep(1e-4)
