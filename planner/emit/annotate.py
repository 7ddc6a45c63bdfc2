"""A plan as annotations of the ONNX standard: device configurations, shardings, pipeline stages.

    annotate(plan, model, out)     writes the model with them (IR 11; weights stay where they are)
    check(model)                   what is wrong with the annotations of a model

ONNX describes them in `onnx.in.proto` (IR version 11): `ModelProto.configuration` names devices,
`NodeProto.device_configurations` says how each operator's tensors are cut, and its pipeline stage.
They are hints: communication is implied. What they cannot say (summands, formats, where weights
live) stands in plan.json alone. `onnx.checker` looks into none of it, so `check` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
from onnx import (
    DeviceConfigurationProto,
    ModelProto,
    NodeDeviceConfigurationProto,
    NodeProto,
    ShardingSpecProto,
)

from planner.errors import UsageError
from planner.graph import names
from planner.spec.execution import Cut, StageExecution
from planner.spec.plan import Plan

IR_VERSION = 11
"""The first with these fields."""
NAME = "infopt"
"""Of the configuration."""


def annotate(plan: Plan, model_path: Path, out: Path) -> int:
    """Writes the model with the plan's annotations; how many operators have them.

    Raises:
        UsageError: the plan runs on one device, or is of other operators.
    """
    if not plan.execution:
        raise UsageError(
            "this plan runs on one device: there is nothing to annotate", where=str(out)
        )
    model = onnx.load_model(model_path, load_external_data=False)
    count = add(model, plan.execution, plan.placement.device if plan.placement else "cpu")
    problems = check(model)
    if problems:
        raise UsageError(f"annotations of {model_path}: {problems[0]}", where=str(out))
    onnx.save_model(model, out)
    return count


def add(model: ModelProto, stages: Sequence[StageExecution], device: str) -> int:
    """Adds the annotations to a model in memory; how many operators got some."""
    devices = 1 + max(rank for stage in stages for rank in stage.ranks)
    model.ir_version = max(int(model.ir_version), IR_VERSION)
    del model.configuration[:]
    names = [f"{device}:{rank}" for rank in range(devices)]
    model.configuration.append(
        DeviceConfigurationProto(name=NAME, num_devices=devices, device=names)
    )
    home = {op: number for number, stage in enumerate(stages) for op in stage.ops}
    count = 0
    for node, name in _named(model):
        del node.device_configurations[:]
        if name not in home:
            continue
        stage = stages[home[name]]
        made = NodeDeviceConfigurationProto(configuration_id=NAME, pipeline_stage=home[name])
        made.sharding_spec.extend(_specs(node, stage, stage.cuts.get(name)))
        node.device_configurations.append(made)
        count += 1
    return count


def _named(model: ModelProto) -> Iterator[tuple[NodeProto, str]]:
    """Operators under the names that plans use; those whose name is not theirs alone are left."""
    plain = [names.clean(node.name) or names.clean(node.op_type) for node in model.graph.node]
    counts = Counter(plain)
    for node, name in zip(model.graph.node, plain, strict=True):
        if counts[name] == 1:
            yield node, name


def _specs(node: NodeProto, stage: StageExecution, cut: Cut | None) -> Iterator[ShardingSpecProto]:
    """Of every tensor the operator touches: cut along an axis, or a copy on each rank."""
    if len(stage.ranks) == 1:
        return
    operands = dict(cut.operands) if cut is not None else {}
    results = dict(cut.results) if cut is not None else {}
    seen: set[str] = set()
    for tensors, axes in ((node.input, operands), (node.output, results)):
        for slot, name in enumerate(tensors):
            if not name or name in seen:
                continue
            seen.add(name)
            yield _spec(name, stage, axes.get(slot))


def _spec(name: str, stage: StageExecution, axis: int | None) -> ShardingSpecProto:
    spec = ShardingSpecProto(tensor_name=name)
    if axis is None:
        # A negative key names a group of devices that all hold the whole tensor.
        spec.device.append(-1)
        group = spec.index_to_device_group_map.add(key=-1)
        group.value.extend(stage.ranks)
        return spec
    spec.device.extend(stage.ranks)
    dim = spec.sharded_dim.add(axis=axis)
    dim.simple_sharding.add(num_shards=len(stage.ranks))
    return spec


def check(model: ModelProto) -> list[str]:
    """What is wrong with a model's annotations, operator by operator; nothing where all is well."""
    if not model.configuration:
        return []
    found: list[str] = []
    if model.ir_version < IR_VERSION:
        found.append(f"annotations need IR version {IR_VERSION}, the model says {model.ir_version}")
    known = {one.name: int(one.num_devices) for one in model.configuration}
    for one in model.configuration:
        if one.device and len(one.device) != one.num_devices:
            found.append(f"configuration {one.name!r} names {len(one.device)} of its devices")
    last: dict[str, int] = {}
    for node in model.graph.node:
        for each in node.device_configurations:
            found += _check_node(node, each, known, last)
    return found


def _check_node(
    node: NodeProto,
    each: NodeDeviceConfigurationProto,
    known: dict[str, int],
    last: dict[str, int],
) -> Iterator[str]:
    where = f"operator {node.name!r}"
    if each.configuration_id not in known:
        yield f"{where} refers to the unknown configuration {each.configuration_id!r}"
        return
    stage = int(each.pipeline_stage)
    before = max((last[name] for name in node.input if name in last), default=0)
    if stage < before:
        yield f"{where} is in stage {stage}, and reads what stage {before} makes"
    last.update((name, stage) for name in node.output if name)
    touched = {*node.input, *node.output}
    for spec in each.sharding_spec:
        yield from _check_spec(where, spec, touched, known[each.configuration_id])


def _check_spec(
    where: str, spec: ShardingSpecProto, touched: set[str], devices: int
) -> Iterator[str]:
    if spec.tensor_name not in touched:
        yield f"{where} has a sharding of {spec.tensor_name!r}, which it does not touch"
    groups = {entry.key: list(entry.value) for entry in spec.index_to_device_group_map}
    missing = [key for key in spec.device if key < 0 and key not in groups]
    if missing:
        yield f"{where}: the group {missing[0]} of {spec.tensor_name!r} has no devices"
    named = [d for key in spec.device for d in (groups.get(key, []) if key < 0 else [key])]
    if any(not 0 <= device < devices for device in named):
        yield f"{where}: {spec.tensor_name!r} lies on a device beyond the {devices} there are"
    shards = 1
    for dim in spec.sharded_dim:
        for simple in dim.simple_sharding:
            shards *= int(simple.num_shards)
    if spec.sharded_dim and shards != len(spec.device):
        yield f"{where}: {spec.tensor_name!r} has {shards} shards for {len(spec.device)} devices"
