"""What is offered, what is refused and why."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper

from planner.compress.base import NATIVE, Format, Offer, Rejection
from planner.compress.methods import METHODS, offers
from planner.ir.graph import Graph
from tests.compress.build import random, write
from tests.compress.conftest import Case

ALL = tuple(method.format for method in METHODS)


def _reason(graph: Graph, op: str, form: Format) -> str:
    found = [o for o in offers(graph, [form]) if isinstance(o, Rejection) and o.op == op]
    assert len(found) == 1
    return found[0].reason


def test_every_method_makes_a_format_of_its_own() -> None:
    assert len(set(ALL)) == len(METHODS)


def test_every_operator_may_stay_native(case: Case) -> None:
    native = [o.op for o in offers(case.graph, ALL) if isinstance(o, Offer) and o.format == NATIVE]
    assert native == [op.name for op in case.graph.ops]


def test_int8_means_both_kinds(cnn_case: Case) -> None:
    found = {o.format for o in offers(cnn_case.graph, [Format.INT8]) if isinstance(o, Offer)}
    assert found == {
        NATIVE,
        Format.INT8_DYNAMIC,
        Format.INT8_DYNAMIC_SMOOTH,
        Format.INT8_STATIC,
    }


def test_a_pin_leaves_one_choice(cnn_case: Case) -> None:
    pins = {"conv*": Format.INT8_STATIC, "gemm": NATIVE}
    found = [o for o in offers(cnn_case.graph, ALL, pins) if isinstance(o, Offer)]
    of = {name: [o.format for o in found if o.op == name] for name in ("conv1", "gemm", "add")}
    assert of["conv1"] == [Format.INT8_STATIC]
    assert of["gemm"] == [NATIVE]
    assert of["add"] == [NATIVE, Format.INT8_STATIC]


def test_a_pin_that_cannot_be_kept_says_why(cnn_case: Case) -> None:
    found = [o for o in offers(cnn_case.graph, ALL, {"conv1": Format.INT4_WO}) if o.op == "conv1"]
    assert [o.format for o in found if isinstance(o, Offer)] == [NATIVE]
    assert [o.reason for o in found if isinstance(o, Rejection)] == [
        "ONNX Runtime has no weight-only kernel for Conv"
    ]


def test_static_offers_name_the_ranges_they_need(cnn_case: Case) -> None:
    found = {
        o.op: o.ranged_tensors
        for o in offers(cnn_case.graph, [Format.INT8_STATIC])
        if isinstance(o, Offer) and o.format != NATIVE
    }
    assert found["conv1"] == ("x", "c1")
    assert found["add"] == ("c2", "r1", "a")
    assert found["gemm"] == ("f", "y")


def test_refusals_carry_reasons(mixer_case: Case) -> None:
    graph = mixer_case.graph
    assert "computed at run time" in _reason(graph, "scores", Format.INT8_DYNAMIC)
    assert "no int8 kernel for Tanh" in _reason(graph, "tanh", Format.INT8_STATIC)
    assert "no weight-only kernel for LSTM" in _reason(graph, "lstm", Format.INT4_WO)


def test_half_and_small_weights_are_left_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "small"),
        helper.make_node("Cast", ["m"], ["h"], "cast", to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "v"], ["n"], "half"),
        helper.make_node("Cast", ["n"], ["y"], "back", to=TensorProto.FLOAT),
    ]
    weights = {"w": random(8, 40), "v": random(40, 40).astype("float16")}
    _, graph = write(tmp_path / "m.onnx", nodes, {"x": (TensorProto.FLOAT, [2, 8])}, ["y"], weights)
    assert "shorter than one block of 32" in _reason(graph, "small", Format.INT4_WO)
    for form in ALL:
        assert "float16" in _reason(graph, "half", form)


def test_static_int8_is_not_offered_where_nothing_computes_in_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "clip"),
        helper.make_node("Flatten", ["a"], ["y"], "move"),
    ]
    _, graph = write(tmp_path / "m.onnx", nodes, {"x": (TensorProto.FLOAT, [1, 4])}, ["y"], {})
    assert {offer.format for offer in offers(graph, ALL) if isinstance(offer, Offer)} == {NATIVE}
