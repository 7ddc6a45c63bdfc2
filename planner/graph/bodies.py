"""Branches of conditions that are only known at run time, each simplified as a model of its own.

What a branch reads from outside becomes an input of that model, or a constant where it is one
there. The branch that no sample takes is never run as part of the whole, so each new branch is run
beside the old one, on inputs made up for it, before it takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, ValueInfoProto, helper

from planner.errors import InfoptError
from planner.graph import branches, names, proto, store
from planner.graph.equality import compare, run_with_onnxruntime

Simplify = Callable[[ModelProto], ModelProto]
Shape = tuple[int, ...]
_SAMPLES = 3
_PROBE = "branch"
"""Stem of the files that both forms are run from."""


def simplify_branches(
    model: ModelProto, simplify: Simplify, inputs: Mapping[str, Shape], folder: Path
) -> int:
    """Simplifies the branches of every `If` of the top level, in place; how many changed.

    Types of tensors must have been inferred. A branch that gains nothing, cannot stand alone or
    answers otherwise stays as it is.

    Args:
        simplify: makes a simpler model; may change what it is given.
        inputs: shapes that inputs of the model will have even where it leaves them open.
        folder: for files while it runs; where the model's external weights lie.
    """
    taken = set(names.tensor_names(model.graph))
    count = 0
    for node in model.graph.node:
        for attribute in node.attribute:
            if proto.kind(node) != "If" or not attribute.HasField("g"):
                continue
            alone = _standing_alone(model, attribute.g, inputs)
            found = alone and _simplified(alone, model, attribute.g, simplify, folder)
            if found is not None:
                attribute.g.CopyFrom(branches.renamed(found, proto.label(node), taken))
                count += 1
    return count


def _simplified(
    alone: ModelProto, model: ModelProto, body: GraphProto, simplify: Simplify, folder: Path
) -> GraphProto | None:
    """The body in fewer operators; None where it stays as it is."""
    given = ModelProto.FromString(alone.SerializeToString())
    try:
        simpler = simplify(given)
        is_better = _operators(simpler.graph) < _operators(alone.graph)
        if not is_better or not _answer_alike(alone, simpler, folder):
            return None
    except (InfoptError, onnx.checker.ValidationError):
        return None
    return _as_body(simpler, model, body)


def _standing_alone(
    model: ModelProto, body: GraphProto, known: Mapping[str, Shape]
) -> ModelProto | None:
    """The body as a model; None where a tensor that it reads has no fixed type."""
    types = {value.name: value for value in (*model.graph.value_info, *model.graph.input)}
    types.update({name: _bound(types[name], shape) for name, shape in known.items()})
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    inputs: list[ValueInfoProto] = []
    stored = list(body.initializer)
    for name in dict.fromkeys(proto.free_names(body)):
        if name in constants:
            stored.append(constants[name])
        elif name in types and _is_fixed(types[name]):
            inputs.append(types[name])
        else:
            return None
    graph = helper.make_graph(list(body.node), body.name, inputs, list(body.output), stored)
    made = helper.make_model(graph, opset_imports=list(model.opset_import))
    made.ir_version = model.ir_version
    return made


def _bound(value: ValueInfoProto, shape: Shape) -> ValueInfoProto:
    kind = value.type.tensor_type.elem_type
    return helper.make_tensor_value_info(value.name, kind, shape)


def _is_fixed(value: ValueInfoProto) -> bool:
    port = proto.port(value)
    return port.is_tensor and port.shape is not None


def _operators(graph: GraphProto) -> int:
    """All that compute, in bodies too."""
    return sum(node.op_type != "Constant" for part in proto.graphs(graph) for node in part.node)


def _answer_alike(before: ModelProto, after: ModelProto, folder: Path) -> bool:
    old, new = (folder / f"{_PROBE}-{name}.onnx" for name in ("before", "after"))
    samples = [_made_up(before.graph, seed) for seed in range(_SAMPLES)]
    try:
        store.save(before, old)
        store.save(after, new)
        found = compare(old, new, samples, run_with_onnxruntime)
    finally:
        old.unlink(missing_ok=True)
        new.unlink(missing_ok=True)
    return found.failure is None and not found.differing and not found.random


def _made_up(graph: GraphProto, seed: int) -> Mapping[str, Any]:
    """Inputs of a model: floats around zero, small whole numbers."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for value in graph.input:
        port = proto.port(value)
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        is_float = np.issubdtype(dtype, np.floating)
        drawn = rng.standard_normal(port.shape) if is_float else rng.integers(0, 2, port.shape)
        feeds[value.name] = np.asarray(drawn).astype(dtype)
    return feeds


def _as_body(simpler: ModelProto, model: ModelProto, body: GraphProto) -> GraphProto | None:
    """The simpler model as a body again; constants from outside are read there."""
    outside = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = {tensor.name: tensor for tensor in simpler.graph.initializer}
    own = [one for name, one in stored.items() if one != outside.get(name)]
    nodes = list(simpler.graph.node)
    made = {name for node in nodes for name in node.output}
    missing = [output.name for output in body.output if output.name not in made]
    if any(name not in stored or name in outside for name in missing):
        return None
    for name in missing:  # a body must compute what it answers, be it a copy
        stored[name].name = f"{name}/stored"
        renamed = {name: stored[name].name}
        for node in nodes:
            node.input[:] = [renamed.get(read, read) for read in node.input]
        nodes.append(helper.make_node("Identity", [stored[name].name], [name], f"{name}/copy"))
    return helper.make_graph(nodes, body.name, [], list(body.output), own)
