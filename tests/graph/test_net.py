"""Graphs that are edited: what nobody needs any more goes, however long the way up."""

from __future__ import annotations

from onnx import TensorProto, helper

from planner.graph.rewrite.net import Net


def chain(length: int, pinned: int | None = None) -> Net:
    """x -> 0 -> 1 -> ...; the last tensor has no reader and is no output, one may be an output."""
    nodes = [
        helper.make_node("Relu", [f"t{i - 1}" if i else "x"], [f"t{i}"]) for i in range(length)
    ]
    nodes.append(helper.make_node("Neg", ["x"], ["y"]))
    port = helper.make_tensor_value_info
    outputs = [port("y", TensorProto.FLOAT, [2])]
    if pinned is not None:
        outputs.append(port(f"t{pinned}", TensorProto.FLOAT, [2]))
    graph = helper.make_graph(nodes, "g", [port("x", TensorProto.FLOAT, [2])], outputs)
    return Net(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def test_a_chain_of_thousands_that_nobody_reads_goes() -> None:
    net = chain(5000)
    net.prune("t4999")
    assert net.maker("t0") is None
    assert net.maker("y") is not None


def test_what_is_returned_stays_with_all_above_it() -> None:
    net = chain(6, pinned=2)
    net.prune("t5")
    assert [net.maker(f"t{i}") is not None for i in range(6)] == [True] * 3 + [False] * 3
