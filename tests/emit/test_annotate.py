"""Plans as ONNX's own annotations, and what is wrong with annotations."""

from __future__ import annotations

from onnx import ModelProto

from planner.emit.annotate import IR_VERSION, add, check
from planner.graph.names import clean
from planner.spec.execution import Cut, StageExecution
from tests.place.models import transformer


def annotated() -> ModelProto:
    model = transformer(1)
    names = [clean(node.name) for node in model.graph.node]
    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    half = len(names) // 2
    cut = Cut(kind="parallel", operands=((1, 1),), results=((0, 2),))
    stages = (
        StageExecution(
            device="cuda", ranks=(0, 1), ops=tuple(names[:half]), cuts={clean(product.name): cut}
        ),
        StageExecution(device="cuda", ranks=(2,), ops=tuple(names[half:])),
    )
    assert add(model, stages, "a100") == len(names)
    return model


def test_what_is_written_is_valid_and_survives_a_file() -> None:
    model = annotated()
    assert check(model) == []
    again = ModelProto.FromString(model.SerializeToString())
    assert check(again) == []
    assert again.ir_version >= IR_VERSION
    assert again.configuration[0].num_devices == 3
    assert len(again.configuration[0].device) == 3


def test_a_cut_weight_is_sharded_and_the_rest_are_copies() -> None:
    product = next(node for node in annotated().graph.node if node.op_type == "MatMul")
    (found,) = product.device_configurations
    assert found.pipeline_stage == 0
    specs = {spec.tensor_name: spec for spec in found.sharding_spec}
    weight, result, whole = (
        specs[product.input[1]],
        specs[product.output[0]],
        specs[product.input[0]],
    )
    assert [(d.axis, d.simple_sharding[0].num_shards) for d in weight.sharded_dim] == [(1, 2)]
    assert [d.axis for d in result.sharded_dim] == [2]
    assert not whole.sharded_dim
    assert list(whole.index_to_device_group_map[0].value) == [0, 1]


def test_the_validator_finds_what_the_checker_of_onnx_overlooks() -> None:
    model = annotated()
    node = next(n for n in model.graph.node if n.device_configurations[0].sharding_spec)
    node.device_configurations[0].sharding_spec[0].tensor_name = "elsewhere"
    assert "does not touch" in check(model)[0]
    model = annotated()
    model.graph.node[0].device_configurations[0].configuration_id = "other"
    assert "unknown configuration 'other'" in check(model)[0]
    model = annotated()
    model.ir_version = 10
    assert "IR version 11" in check(model)[0]
    model = annotated()
    model.graph.node[0].device_configurations[0].pipeline_stage = 7
    assert any("reads what stage 7 makes" in problem for problem in check(model))
    model = annotated()
    spec = next(
        s
        for n in model.graph.node
        for s in n.device_configurations[0].sharding_spec
        if s.sharded_dim
    )
    spec.device.append(9)
    problems = check(model)
    assert any("beyond the 3" in problem for problem in problems)
    assert any("2 shards for 3 devices" in problem for problem in problems)
