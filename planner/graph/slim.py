"""Simplifies a model with onnxslim, around its sharp edges. Runs in the sandbox.

What onnxslim must not see is hidden first: random draws (it would fold or merge them), control-flow
bodies, foreign operators (it matches types without their domain), results far larger than what they
are computed from, and the weights of models too large to hold several times over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from planner.graph import (
    bodies,
    branches,
    container,
    curtain,
    infer,
    judge,
    names,
    proto,
    store,
    structure,
    weights,
)
from planner.graph.bind import Shapes

_KEPT_APART = ("FusionGemm",)
"""MatMul + Add stay apart: formats are chosen for MatMul, and runtimes fuse the pair anyway."""
_ANY_OPSET = 17
"""For models without operators of ONNX's own domain; any version does."""
_BLOAT_BYTES = 64 * 1024
_BLOAT_FACTOR = 2
_MAX_ROUNDS = 6
"""A branch that takes its operator's place may make further conditions known."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How far simplification goes."""

    fold_up_to_bytes: int
    """Largest constant that folding may leave behind."""
    fuses: bool
    """Whether neighbouring operators may be merged (rounding may change)."""


EFFORTS = (
    Effort(fold_up_to_bytes=store.INLINE_LIMIT_BYTES, fuses=True),
    Effort(fold_up_to_bytes=4096, fuses=False),
)
"""Tried in order until one keeps the outputs and the size."""


def slim(path: Path, out_path: Path, effort: Effort, inputs: Shapes = MappingProxyType({})) -> int:
    """Writes the simplified form of the bound model at `path`; its number of operators.

    Args:
        inputs: shapes that inputs will have even where the file leaves them open.

    Raises:
        ModelError: the result does not hold together.
    """
    slimmed = _in_rounds(container.parse(path), effort)
    infer.annotate(slimmed)
    bodies.simplify_branches(
        slimmed, lambda alone: _in_rounds(alone, effort), inputs, out_path.parent
    )
    store.save(slimmed, out_path)
    return len(slimmed.graph.node)


def _in_rounds(model: ModelProto, effort: Effort) -> ModelProto:
    for _ in range(_MAX_ROUNDS):
        model = _slimmed(model, effort)
        if not branches.inline_known(model.graph):
            break
    return model


def _slimmed(model: ModelProto, effort: Effort) -> ModelProto:
    graph = model.graph
    inputs, outputs = _copies(graph.input), _copies(graph.output)
    stored = _set_aside(graph, {value.name for value in inputs})
    secrets = curtain.hide(graph, _bloats(graph))
    versions = _add_imports(model)
    slimmed = _onnxslim(model, effort)
    curtain.reveal(slimmed.graph, secrets)
    _restore(slimmed.graph, inputs, outputs)
    _restore_versions(slimmed, model.ir_version, versions)
    _put_back(slimmed.graph, stored)
    structure.check_names(slimmed.graph)
    structure.sort(slimmed.graph)
    names.rename(slimmed.graph)
    return slimmed


def _onnxslim(model: ModelProto, effort: Effort) -> ModelProto:
    import onnxslim  # half a second; only this function needs it

    return onnxslim.slim(  # type: ignore[no-any-return]
        model,
        size_threshold=effort.fold_up_to_bytes,
        skip_fusion_patterns=list(_KEPT_APART),
        skip_optimizations=None if effort.fuses else ["graph_fusion"],
    )


def _copies(values: list[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
    return [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in values]


def _set_aside(graph: GraphProto, inputs: set[str]) -> dict[str, TensorProto]:
    """Initialisers onnxslim must take for inputs: overridable ones, and all large ones of a model
    whose weights lie outside the file."""
    if any(weights.is_external(tensor) for tensor in graph.initializer):
        stored = judge.lift_weights(graph)
    else:
        stored = {}
    for index in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[index].name in inputs:
            tensor = graph.initializer.pop(index)
            stored[tensor.name] = tensor
    return stored


def _put_back(graph: GraphProto, stored: dict[str, TensorProto]) -> None:
    used = {name for node in graph.node for name in (*node.input, *proto.captured(node))}
    used.update(value.name for value in (*graph.input, *graph.output))
    graph.initializer.extend(tensor for name, tensor in stored.items() if name in used)


def _add_imports(model: ModelProto) -> list[onnx.OperatorSetIdProto]:
    """Imports what onnxslim relies on; the imports as they were."""
    versions = [onnx.helper.make_opsetid(one.domain, one.version) for one in model.opset_import]
    model.opset_import.add(domain=curtain.DOMAIN, version=1)
    if not any(proto.domain_of(one.domain) == "" for one in versions):
        model.opset_import.add(domain="", version=_ANY_OPSET)
    return versions


def _restore(
    graph: GraphProto, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> None:
    """The model's contract is not the simplifier's to change."""
    for ours, kept in ((graph.input, inputs), (graph.output, outputs)):
        del ours[:]
        ours.extend(kept)


def _restore_versions(
    slimmed: ModelProto, ir_version: int, versions: list[onnx.OperatorSetIdProto]
) -> None:
    slimmed.ir_version = ir_version
    del slimmed.opset_import[:]
    slimmed.opset_import.extend(versions)
    slimmed.producer_name, slimmed.producer_version = "", ""


def _bloats(graph: GraphProto) -> Callable[[NodeProto], bool]:
    """Whether folding an operator would make a constant far larger than those it comes from."""
    sizes = {tensor.name: proto.tensor_size_bytes(tensor) for tensor in graph.initializer}
    for value in graph.value_info:
        port = proto.port(value)
        if port.shape is not None:
            sizes.setdefault(value.name, proto.size_bytes(port.dtype, port.shape))
    constant = {tensor.name for tensor in graph.initializer}

    def is_bloat(node: NodeProto) -> bool:
        read = [name for name in node.input if name]
        if not constant.issuperset(read):
            return False
        made = sum(sizes.get(name, 0) for name in node.output)
        if made > _BLOAT_BYTES and made > _BLOAT_FACTOR * sum(sizes.get(name, 0) for name in read):
            return True
        constant.update(node.output)
        return False

    return is_bloat
