"""Whether a structurally sound graph makes sense: attributes, types and shapes.

onnx's own checks are stricter than the field in some places (an opset that ONNX Runtime backports)
and wrong in a few. So an objection is only final where ONNX Runtime, asked for a second opinion,
refuses too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from planner.errors import InfoptError, ModelError
from planner.graph import proto

LARGE_BYTES = 16 * 1024
"""Initialisers over this hold weights, not shapes: inference never looks inside."""

_RUNTIME_DOMAINS = ("com.microsoft", "com.ms.", "org.pytorch", "ai.onnx")
_NOT_THE_MODEL = ("not_implemented", "could not find an implementation", "notimplemented")


@dataclass(frozen=True, slots=True)
class Objection:
    """What one check has against the model."""

    what: str
    fix: str | None = None


def lift_weights(graph: GraphProto, larger_than: int = LARGE_BYTES) -> dict[str, onnx.TensorProto]:
    """Turns large and external top-level initialisers into typed graph inputs, in place.

    What is left is small however large the model is, and shape inference sees the same types.
    """
    lifted: dict[str, onnx.TensorProto] = {}
    declared = {value.name for value in graph.input}
    for index in range(len(graph.initializer) - 1, -1, -1):
        tensor = graph.initializer[index]
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if not external and proto.tensor_size_bytes(tensor) <= larger_than:
            continue
        lifted[tensor.name] = graph.initializer.pop(index)
        if tensor.name not in declared:
            graph.input.append(value_info(tensor))
    return lifted


def value_info(tensor: onnx.TensorProto) -> onnx.ValueInfoProto:
    """The declaration an initialiser would have as an input."""
    return onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))


def forget_shapes(graph: GraphProto) -> None:
    """Drops what the file merely claims: shapes of outputs and between operators, sizes below zero.

    Exporters get these wrong, and inference finds them anew. Declared inputs are kept: those are
    the model's contract.
    """
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    for value in graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.ClearField("dim_value")


def name_nameless(graph: GraphProto) -> None:
    """Gives operators without a name that of their first output: inference words errors by name."""
    for node in graph.node:
        if not node.name and node.output:
            node.name = proto.short(node.output[0])


def objections(model: ModelProto) -> tuple[Objection, ...]:
    """What onnx's schemas and strict shape inference find; `model` has its weights lifted."""
    found = unknown_operators(model) or bad_attributes(model)
    if found:
        return found
    forget_shapes(model.graph)
    name_nameless(model.graph)
    clash = inference_clash(model)
    return (clash,) if clash else ()


def unknown_operators(model: ModelProto) -> tuple[Objection, ...]:
    """Operators of ONNX's own domains that no schema of the imported opset describes."""
    versions = opsets(model)
    reported: dict[tuple[str, str], Objection] = {}
    for node in all_nodes(model.graph):
        domain = proto.domain_of(node.domain)
        key = (domain, node.op_type)
        if key in reported or not (domain == "" or domain.startswith("ai.onnx")):
            continue
        if domain in versions and not _has_schema(node.op_type, domain, versions[domain]):
            reported[key] = _unknown(node, versions[domain])
    return tuple(reported.values())


def _has_schema(op_type: str, domain: str, version: int) -> bool:
    return bool(onnx.defs.has(op_type, version, domain))


def _unknown(node: NodeProto, version: int) -> Objection:
    return Objection(
        f"opset {version} of ONNX has no operator {proto.short(node.op_type)!r}"
        f" (operator {proto.label(node)})",
        fix="export with a newer opset, or give the operator a domain of its own",
    )


def foreign_kinds(model: ModelProto) -> tuple[str, ...]:
    """Operators of domains that neither ONNX nor ONNX Runtime defines."""
    kinds = {
        proto.kind(node)
        for node in all_nodes(model.graph)
        if proto.domain_of(node.domain) and not node.domain.startswith(_RUNTIME_DOMAINS)
    }
    return tuple(sorted(kinds))


def bad_attributes(model: ModelProto) -> tuple[Objection, ...]:
    """The first operator whose attributes or number of inputs its schema forbids."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = opsets(model)
    for node in all_nodes(model.graph):
        if next(proto.subgraphs(node), None) is not None:
            continue  # the checker would want the names around a body; `structure` has them
        try:
            onnx.checker.check_node(node, context)
        except onnx.checker.ValidationError as error:
            return (Objection(f"operator {proto.label(node)}: {_one_line(error)}"),)
    return ()


def inference_clash(model: ModelProto) -> Objection | None:
    """Why types or shapes do not fit together; None where they do, as far as inference can see."""
    first: Exception | None = None
    # Data propagation has bugs of its own: it objects only where the plain pass does too.
    for data_prop in (True, False):
        try:
            onnx.shape_inference.infer_shapes(
                model, check_type=True, strict_mode=True, data_prop=data_prop
            )
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
            first = first or error
        else:
            return None
    return Objection(_one_line(first)) if first else None


def second_opinion(path: Path, *, optimised: bool = False) -> str | None:
    """Why ONNX Runtime refuses the file; None where it loads, or only lacks a kernel here.

    Optimising makes it look closer: it checks rewritten branches of control flow again.
    """
    # Slow to import, and needed for the rare model that onnx objects to.
    from planner.runtime.ort import NO_PREPACKING, make_session
    from planner.spec.session import GraphLevel, SessionSettings

    level = GraphLevel.ALL if optimised else GraphLevel.DISABLED
    settings = SessionSettings(intra_op_threads=1, graph_level=level, extra=NO_PREPACKING)
    try:
        make_session(path, settings)
    except InfoptError as error:
        text = error.what.removeprefix("ONNX Runtime cannot load it: ")
        text = text.replace(f"Load model from {path} failed:", "")
        return None if any(word in text.lower() for word in _NOT_THE_MODEL) else text
    return None


def settle(found: tuple[Objection, ...], path: Path) -> tuple[str, ...]:
    """Notes where ONNX Runtime loads the file all the same.

    Raises:
        ModelError: it refuses too.
    """
    if not found:
        return ()
    refusal = second_opinion(path)
    if refusal is None:
        return tuple(f"onnx objects, ONNX Runtime does not: {one.what}" for one in found[:3])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise ModelError(f"{found[0].what}{more}; ONNX Runtime says: {refusal}", fix=found[0].fix)


def opsets(model: ModelProto) -> dict[str, int]:
    """Domain -> version as the model imports them."""
    return {proto.domain_of(entry.domain): int(entry.version) for entry in model.opset_import}


def all_nodes(graph: GraphProto) -> list[NodeProto]:
    """Operators of the graph and of every body in it."""
    return [node for part in proto.graphs(graph) for node in part.node]


def _one_line(error: Exception | None) -> str:
    text = " ".join(str(error).split())
    return text.split(" ==> Context")[0][:600]
