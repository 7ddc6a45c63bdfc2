"""Smoothed products are offered where that pays, built as offered, and rebuilt from a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from planner.compress.base import NATIVE, Calibration, Format, Offer
from planner.compress.smoothing import SmoothingSettings
from planner.ir.problem import Option
from planner.profiling.store import Store
from planner.progress import Silent
from planner.spec.compression import Compression
from planner.spec.constraints import Constraints
from planner.steps.accuracy import Accuracy
from planner.steps.choices import Choices, choices, smoothing_of
from planner.steps.pinned import without_others
from planner.steps.prepare import Prepared, prepare
from planner.steps.variant_files import build_file
from planner.steps.workspace import Workspace
from tests.compress.build import random, write

WIDTH = 64
SMOOTH, DYNAMIC = Format.INT8_DYNAMIC_SMOOTH, Format.INT8_DYNAMIC


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workspace]:
    store = Store(tmp_path / "store.sqlite")
    yield Workspace(store, tmp_path / "kept", tmp_path, Silent())
    store.close()


def _prepared(work: Workspace, folder: Path) -> tuple[Constraints, Prepared]:
    """Two products; only what the first reads has a channel that sticks out."""
    matrix, scale = random(WIDTH, WIDTH, seed=1), np.ones(WIDTH, np.float32)
    matrix[3], scale[3] = matrix[3] * 0.01, 100.0
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale"], ["h"], "norm"),
        helper.make_node("MatMul", ["h", "w0"], ["q"], "first"),
        helper.make_node("Tanh", ["q"], ["t"], "tanh"),
        helper.make_node("MatMul", ["t", "w1"], ["y"], "second"),
    ]
    weights = {"w0": matrix, "w1": random(WIDTH, WIDTH, seed=2), "scale": scale}
    inputs = {"x": (int(TensorProto.FLOAT), (8, WIDTH))}
    write(folder / "m.onnx", nodes, {**inputs}, ["y"], weights)
    constraints = Constraints(model=folder / "m.onnx")
    return constraints, prepare(constraints, work)


def test_products_are_smoothed_where_channels_stick_out(work: Workspace, tmp_path: Path) -> None:
    constraints, prepared = _prepared(work, tmp_path)
    found = choices(constraints, prepared, work)
    assert [offer.op for offer in found.offers if offer.format == SMOOTH] == ["first"]
    assert set(found.smoothing) == {"first"}
    reasons = {each.op: each.reason for each in found.rejections if each.format == SMOOTH}
    assert "lowers its error by less than a third" in reasons["second"]
    assert found.uniform(SMOOTH) == {"first": SMOOTH, "second": DYNAMIC}
    assert found.uniform(DYNAMIC) == {"first": DYNAMIC, "second": DYNAMIC}
    built = build_file(prepared, found.uniform(SMOOTH), found.calibration, tmp_path / "b.onnx")
    assert {op: form for op, form in built.realised.items() if form != NATIVE} == found.uniform(
        SMOOTH
    )


def test_what_was_found_under_other_settings_is_looked_for_again(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constraints, prepared = _prepared(work, tmp_path)
    assert choices(constraints, prepared, work).smoothing
    picky = SmoothingSettings(least_gain=1e9)
    monkeypatch.setattr("planner.steps.choices._SMOOTHING", picky)
    assert choices(constraints, prepared, work).smoothing == {}


def test_sensitivities_belong_to_their_shifts(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products that read one tensor share theirs: what may be smoothed beside an operator, and the
    samples of another shape, change what it is divided by."""
    constraints, prepared = _prepared(work, tmp_path)
    found = choices(constraints, prepared, work)
    asked: list[set[tuple[str, Format]]] = []

    def measured(*given: Any) -> dict[tuple[str, Format], float]:
        asked.append(set(given[2]))
        return dict.fromkeys(given[2], float(len(asked)))

    monkeypatch.setattr("planner.steps.accuracy.measured_sensitivities", measured)
    accuracy = Accuracy(constraints, prepared, work)
    first = accuracy.sensitivities(found)
    moved = replace(found, smoothing={"first": "mn" * (WIDTH // 2)})
    second = accuracy.sensitivities(moved)
    assert asked[1:] == [{("first", SMOOTH)}]
    assert (first["first", SMOOTH], second["first", SMOOTH]) == (1.0, 2.0)
    assert accuracy.sensitivities(found) == first


def test_pins_bind_all_but_the_model_as_it_is() -> None:
    """Without it nothing could be priced or compared: a pin to a compressed format ended plans."""
    offers = (Offer("a", DYNAMIC), Offer("b", NATIVE), Offer("b", Format.INT8_WO))
    found = Choices(offers, (), {})
    assert found.uniform(NATIVE) == {}
    assert found.uniform(Format.INT8_WO) == {"a": DYNAMIC, "b": Format.INT8_WO}
    assert found.bound == {"a": frozenset({DYNAMIC})}


def test_options_that_break_a_pin_are_left_out() -> None:
    options = [Option("native", ("a", "b"), "fp32", ()), Option("int8", ("a", "b"), "int8", ())]
    formats = {"native": {}, "int8": {"a": "int8_dynamic"}}
    bound = {"a": frozenset({DYNAMIC})}
    assert [each.name for each in without_others(options, formats, bound)] == ["int8"]
    assert without_others(options, formats, {}) == tuple(options)
    void = {"b": frozenset({DYNAMIC})}  # nobody could build that
    assert without_others(options, formats, void) == tuple(options)


def test_a_plan_keeps_the_shifts_of_what_it_smooths_only() -> None:
    found = {"a": "mm", "b": "no", "c": "ll"}
    assert smoothing_of(found, {"b": SMOOTH, "c": DYNAMIC}) == {"b": "no"}


def test_without_the_format_nothing_is_looked_at(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constraints, prepared = _prepared(work, tmp_path)
    plain = Compression(formats=(DYNAMIC,))
    monkeypatch.setattr("planner.steps.choices.smoothing", None)  # calling it would fail
    found: Choices = choices(constraints.model_copy(update={"compression": plain}), prepared, work)
    assert found.calibration == Calibration()
