"""Whole plans for devices known by their profiles: what is decided, listed and refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from benchmarks.zoo_families.builder import Builder
from planner import pipeline
from planner.errors import ModelError, NoPlanInTimeError, UsageError
from planner.place.formats import PRIORS
from planner.spec.constraints import Constraints
from planner.spec.placement import PlacementPlan
from planner.spec.plan import Plan
from planner.steps.away import solving
from planner.steps.conflict import ConflictError
from planner.units import format_duration
from tests.place.models import memory, shapes, transformer

DEVICE = "a100-sxm-80gb"


def request(folder: Path, model: onnx.ModelProto, workload: dict[str, Any], **more: Any) -> Plan:
    """A plan of a model without weights, in fp16 alone unless asked for more."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    given = {
        "model": path, "no_weights": True, "workload": [{"shapes": workload}],
        "target": {"device": DEVICE, "gpus": "1..2"},
        "accuracy": {"max_error": 1e-6}, "compression": {"formats": ["fp16"]},
        "solver": {"time_limit": "20s"},
        **more,
    }  # fmt: skip
    return pipeline.plan(Constraints.model_validate(given)).plan


def placed(plan: Plan) -> PlacementPlan:
    assert plan.placement is not None
    return plan.placement


def decided(plan: Plan) -> str:
    """Everything that is decided, without the prices it rests on."""
    placement = placed(plan)
    found = {
        "devices": placement.devices,
        "layout": placement.layout,
        "formats": plan.formats,
        "groups": [
            f"{g.name} | stage {g.stage} | {g.format} | {g.residency} | {g.style}"
            for g in placement.groups
        ],
        "execution": [
            {
                "ranks": stage.ranks,
                "ops": len(stage.ops),
                "cuts": {
                    name: f"{cut.kind} {list(cut.operands)} -> {list(cut.results)}"
                    for name, cut in stage.cuts.items()
                },
            }
            for stage in plan.execution
        ],
        "alternatives": {each.name: each.status for each in placement.alternatives},
    }
    return json.dumps(found, indent=1) + "\n"


def test_a_weight_that_fits_on_no_device_is_cut(
    tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    """The head has 40 MB in 16 bits; each device has room for about 30."""
    plan = request(
        tmp_path, transformer(2, 128, 4, 160_000), shapes(8, 0, 128, 4),
        target={"device": DEVICE, "gpus": "1..2", "memory": memory(DEVICE, 30), "offload": []},
    )  # fmt: skip
    golden("away/sharded.json", decided(plan))


def test_layers_that_fit_on_no_device_together_become_stages(tmp_path: Path) -> None:
    """Five layers of 25 MB; each device has room for about half."""
    plan = request(
        tmp_path, transformer(5, 1024, 8), shapes(1, 8, 1024, 8),
        target={"device": DEVICE, "gpus": "1..2", "memory": memory(DEVICE, 77), "offload": []},
    )  # fmt: skip
    placement = placed(plan)
    assert placement.layout == "2 stages x 1 GPU"
    assert [group.stage for group in placement.groups] == sorted(g.stage for g in placement.groups)
    assert all(stage.memory.used <= stage.memory.capacity for stage in placement.stages)
    assert placement.stages[1].receives_size_bytes["default"] > 0
    named = [name for stage in plan.execution for name in stage.ops]
    assert len(named) == len(set(named)) == plan.model.ops
    assert [stage.ranks for stage in plan.execution] == [(0,), (1,)]
    status = {each.name: each.status for each in placement.alternatives}
    assert status["1 GPU"] == "infeasible"


def test_a_neighbour_lends_its_memory(tmp_path: Path) -> None:
    """Weights stream from the memory of a GPU that computes nothing."""
    plan = request(
        tmp_path, transformer(3, 512, 8), shapes(32, 0, 512, 8),
        target={
            "device": DEVICE, "gpus": "1..2", "memory": memory(DEVICE, 9.6), "offload": ["peer"],
        },
    )  # fmt: skip
    placement = placed(plan)
    assert placement.devices == 2
    assert placement.layout == "1 GPU, beside one that lends memory"
    assert {group.residency for group in placement.groups} >= {"peer"}
    (stage,) = placement.stages
    assert stage.streamed_size_bytes > 0
    assert stage.memory.used <= stage.memory.capacity
    assert placement.breakdown["default"].swap_us > 0
    assert "a neighbour" in " ".join(decision.reason for decision in plan.decisions)
    assert any("stream from a neighbour" in reason for reason in pipeline.obstacles(plan))


def crash(*_: object) -> None:
    """What CP-SAT does when its time ends at the wrong moment."""
    os.abort()


def test_a_solver_that_ends_its_process_does_not_end_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solving, "_solved", crash)
    with pytest.raises(NoPlanInTimeError, match="no plan was found in time"):
        request(
            tmp_path, transformer(3, 512, 8), shapes(32, 0, 512, 8),
            target={
                "device": DEVICE, "gpus": "2", "memory": memory(DEVICE, 9.6), "offload": ["peer"],
            },
        )  # fmt: skip
    plain = request(tmp_path, transformer(), shapes(8, 0))
    assert placed(plain).devices == 1  # counts decide it: no solver is asked


def test_a_format_that_the_gpu_lacks_is_left_out_with_the_reason(tmp_path: Path) -> None:
    plan = request(tmp_path, transformer(), shapes(8, 0), compression={"formats": ["fp16", "fp8"]})
    assert "has no fp8 arithmetic" in placed(plan).excluded["fp8"]
    assert any(warning.startswith("not offered: fp8") for warning in plan.warnings)
    with pytest.raises(UsageError, match="is pinned to fp8, which cannot be had: NVIDIA A100"):
        request(
            tmp_path, transformer(), shapes(8, 0),
            compression={"formats": ["fp16", "fp8"], "pin": {"*": "fp8"}},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("device", "gpus", "words"),
    [
        ("a100-sxm-80gb", "1..4096", "4096 GPUs are asked for; NVIDIA DGX A100 .* connects 1024"),
        ("p4-8gb", "2", "no machine profile connects several"),
    ],
)
def test_more_gpus_than_any_machine_connects(
    tmp_path: Path, device: str, gpus: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as found:
        request(tmp_path, transformer(), shapes(8, 0), target={"device": device, "gpus": gpus})
    assert found.value.where == "target.gpus"
    assert found.value.fix


def test_operators_without_a_rule_stay_whole_and_are_listed(tmp_path: Path) -> None:
    b = Builder("odd", "float32")
    x = b.input("x", ["batch", 64])
    hidden = b.linear(x, 64, 64, "a")
    order = b.node("Hardmax", hidden, axis=-1)
    inverse = b.node("Det", b.node("Unsqueeze", order, b.ints(0)))
    b.output(b.node("Add", b.linear(order, 64, 64, "b"), inverse), "y", ["batch", 64])
    plan = request(tmp_path, b.build(), {"x": (64, 64)})
    assert placed(plan).whole_ops.get("Det") == 1
    assert any("every rank computes them whole" in w and "Det" in w for w in plan.warnings)


def test_a_model_that_fits_nowhere_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="does not fit on up to 2 x a100-sxm-80gb"):
        request(
            tmp_path, transformer(10, 1024, 8), shapes(1, 8, 1024, 8),
            target={"device": DEVICE, "gpus": "1..2", "memory": memory(DEVICE, 22), "offload": []},
        )  # fmt: skip


def test_a_memory_that_the_runtime_fills_is_refused_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match=r"no model fits in 500 MiB .* the runtime"):
        request(
            tmp_path, transformer(), shapes(1, 8),
            target={"device": DEVICE, "gpus": "1", "memory": "500MiB"},
        )  # fmt: skip


def test_fewer_devices_than_asked_for_are_explained(tmp_path: Path) -> None:
    """A model so small that a second device only costs time."""
    plan = request(tmp_path, transformer(), shapes(1, 8), target={"device": DEVICE, "gpus": "2..4"})
    assert placed(plan).devices == 1
    assert any("2 GPUs were asked for at least, 1 used" in text for text in plan.warnings)
    (part,) = placed(plan).breakdown.values()
    assert part.communication_us == 0.0, "what rounding leaves of the sum is nothing"


def test_a_promise_that_one_device_keeps_costs_nothing_though_two_were_asked_for(
    tmp_path: Path,
) -> None:
    plan = request(
        tmp_path, transformer(2, 4096, 32), shapes(512, 0, 4096, 32),
        target={"device": DEVICE, "gpus": 2}, slo="1s",
    )  # fmt: skip
    assert placed(plan).devices == 2
    one = next(each for each in placed(plan).alternatives if each.devices == 1)
    told = placed(plan).slo_cost
    assert told.startswith("nothing: one device keeps it as well, with ")
    assert one.query_us is not None
    assert format_duration(one.query_us) in told


def test_an_error_below_what_half_precision_makes_leaves_everything_in_fp32(
    tmp_path: Path,
) -> None:
    given = {"accuracy": {"max_error": 1e-12}, "compression": {}}
    plan = request(tmp_path, transformer(), shapes(1, 8), **given)
    assert (placed(plan).base_format, plan.accuracy.predicted_error) == ("fp32", 0.0)
    assert "more than the error budget" in placed(plan).excluded["fp16"]
    with pytest.raises(ConflictError):  # nothing else is allowed
        request(tmp_path, transformer(), shapes(1, 8), accuracy={"max_error": 1e-12})


def test_what_is_rounded_to_half_precision_errs_without_weights_as_well(tmp_path: Path) -> None:
    given = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [64, 64]) for n in "xy"]
    node = onnx.helper.make_node("MatMul", ["x", "x"], ["y"])
    made = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", given[:1], given[1:]), ir_version=8
    )
    plan = request(tmp_path, made, {"x": [64, 64]}, compression={})
    assert placed(plan).base_format == "fp16"
    assert plan.accuracy.predicted_error == PRIORS["fp16"].error
    assert all(each.error == PRIORS["fp16"].error for each in placed(plan).alternatives)


def test_nothing_to_compute_is_refused(tmp_path: Path) -> None:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
    made = onnx.helper.make_model(onnx.helper.make_graph([], "g", [x], [x]), ir_version=8)
    with pytest.raises(ModelError, match="no operator is left to place on a device"):
        request(tmp_path, made, {"x": [2]})


def test_devices_of_two_kinds_are_told_to_plan_for_each(tmp_path: Path) -> None:
    both = "a100-sxm-80gb,h100-sxm-80gb"
    with pytest.raises(UsageError, match="several kinds of device, and a plan is for one"):
        request(tmp_path, transformer(), shapes(1, 8), target={"device": both})
