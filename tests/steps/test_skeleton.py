"""`plan --no-weights --dry-run`: what was read, said without measuring anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto

from planner import pipeline
from planner.errors import ModelError, UsageError
from planner.report import dry_run
from planner.report.text import to_text
from planner.spec.constraints import Constraints
from tests.graph.nasties import model, node, save, value

WIDTH = 8


def stack(layers: int) -> Any:
    """`layers` times relu(h W) on [n, 8], weights absent, the last one read twice."""
    nodes, weights, last = [], [], "x"
    for index in range(layers):
        tensor = TensorProto(name=f"W{index}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="absent.bin")
        weights.append(tensor)
        nodes.append(node("MatMul", [last, f"W{index}"], [f"m{index}"]))
        nodes.append(node("Relu", [f"m{index}"], [f"r{index}"]))
        last = f"r{index}"
    nodes.append(node("MatMul", [last, f"W{layers - 1}"], ["y"]))
    return model(nodes, [value("x", ["n", WIDTH])], [value("y", ["n", WIDTH])], weights)


def asked(folder: Path, **sections: Any) -> Constraints:
    workload = [
        {"name": name, "shapes": {"x": [rows, WIDTH]}, "weight": weight}
        for name, rows, weight in (("long", 10, 1), ("short", 1, 128))
    ]
    path = save(stack(4), folder)
    request = {"model": str(path), "no_weights": True, "workload": workload, **sections}
    return Constraints.model_validate(request)


def test_what_was_read(tmp_path: Path) -> None:
    found = pipeline.dry_run(asked(tmp_path, target={"device": "h100-sxm-80gb", "gpus": "1..16"}))
    assert (found.ops, found.parameters, found.pending) == (9, 4 * 64, ())
    reading = found.reading
    assert reading is not None
    assert reading.op_counts == {"MatMul": 5, "Relu": 4}
    assert (reading.weights, reading.shared_weights) == (4, 1)
    assert reading.format_bytes["as stored"] == 4 * 64 * 4
    assert reading.format_bytes["int4_wo"] == 4 * 64 // 2
    assert reading.format_bytes["2:4"] == 4 * 64 * 9 // 8
    flops = {entry.name: entry.flops for entry in reading.work}
    assert flops == {"long": 5 * 2 * 640 + 4 * 80, "short": 5 * 2 * 64 + 4 * 8}
    assert [(b.instances, b.ops, b.parameters) for b in reading.blocks] == [(4, 2, 64)]


def test_a_terminal_shows_it(tmp_path: Path) -> None:
    text = to_text(dry_run.render(pipeline.dry_run(asked(tmp_path))), width=80)
    assert "5 MatMul, 4 Relu" in text
    assert "long" in text
    assert "from MatMul" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_device_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no device is called 'h1000'"):
        pipeline.dry_run(asked(tmp_path, target={"device": "h1000"}))


def test_a_plan_needs_the_weights(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--dry-run"):
        pipeline.plan(asked(tmp_path))


def test_without_the_flag_absent_data_is_refused(tmp_path: Path) -> None:
    request = asked(tmp_path).model_copy(update={"no_weights": False})
    one = request.model_copy(update={"workload": request.workload[:1]})
    with pytest.raises(ModelError, match="missing"):
        pipeline.dry_run(one)
