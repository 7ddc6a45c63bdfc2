"""Reads an ONNX file and checks everything that can be wrong with it. Runs in the sandbox.

From cheap and certain to slow and debatable: the container, versions, stored tensors, functions,
names and order, then operators, types and shapes (`judge`).
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path

from onnx import ModelProto, ValueInfoProto

from planner.errors import ModelError
from planner.graph import container, functions, judge, proto, structure, weights
from planner.graph.judge import Objection
from planner.graph.model import LoadedModel, Port

MIN_IR_VERSION = 3
MIN_OPSET = 7
FIRST_IR_WITH_DEFAULTS = 4
"""Before it every initialiser had to be listed as an input, and none could be overridden."""
_NAMED = 3
"""How many offenders a note lists."""


def inspect(path: Path) -> LoadedModel:
    """What a plan needs to know of a model file.

    Raises:
        ModelError: damaged, hostile or meaningless; says where and what helps.
    """
    model = container.parse(path)
    container.check_versions(model, MIN_IR_VERSION)
    external, notes = _check_tensors(model, path.parent)
    notes += check_graph(model)
    inputs, defaults = split_inputs(model)
    loaded = LoadedModel(
        path=path,
        sha256=weights.joint_digest(path, external),
        size_bytes=path.stat().st_size + weights.files_size_bytes(external),
        ir_version=int(model.ir_version),
        opsets=judge.opsets(model),
        inputs=inputs,
        defaults=defaults,
        outputs=tuple(proto.port(value) for value in model.graph.output),
        op_counts=count_ops(model),
        parameters=sum(math.prod(tensor.dims) for tensor in proto.initialisers(model.graph)),
        external_files=tuple(external),
    )
    notes += _judge(model, path)
    return dataclasses.replace(loaded, notes=tuple(notes))


def _check_tensors(model: ModelProto, folder: Path) -> tuple[list[Path], list[str]]:
    """External files in order of name, and a note about weights that are not finite."""
    external: set[Path] = set()
    odd: list[str] = []
    for tensor in proto.tensors(model):
        extent = weights.check_bytes(tensor, folder)
        if extent is not None:
            external.add(extent.path)
        is_mask = math.prod(tensor.dims) == 1  # what a single infinite number is for
        if not is_mask and not weights.is_finite(tensor, extent):
            odd.append(proto.short(tensor.name, 40) or "a constant without a name")
    named = _some(list(dict.fromkeys(odd)))
    notes = [f"NaN or infinite values in {named}: quantising these is left out"] if odd else []
    return sorted(external), notes


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(repr(name) for name in names[:_NAMED]) + more


def check_graph(model: ModelProto) -> list[str]:
    """Names, order, functions and declared dimensions; sorts the graph in memory."""
    graph = model.graph
    if not graph.output:
        raise ModelError("the graph has no outputs", fix="export the model with its outputs")
    for value in (*graph.input, *graph.output):
        _check_declared(value)
    functions.check(model)
    structure.check_names(graph)
    notes = ["the operators were not in topological order: sorted"] if structure.sort(graph) else []
    if not graph.node:
        notes.append("the graph has no operators")
    names = Counter(node.name for node in graph.node if node.name)
    repeated = [proto.short(name, 40) for name, count in names.items() if count > 1]
    if repeated:
        notes.append(f"operators share the name {_some(repeated)}: renamed")
    return notes


def _check_declared(value: ValueInfoProto) -> None:
    port = proto.port(value)
    if port.dtype == "undefined":
        raise ModelError(f"{proto.short(value.name)!r} is declared without an element type")
    sizes = [dim for dim in port.dims or () if isinstance(dim, int)]
    if math.prod(sizes) * 16 > proto.MAX_SIZE_BYTES:
        raise ModelError(
            f"{proto.short(value.name)!r} declares {'x'.join(map(str, sizes))} elements, more than"
            " 64-bit arithmetic can count"
        )


def split_inputs(model: ModelProto) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """(what must be fed, initialisers that may be overridden)."""
    stored = {tensor.name for tensor in model.graph.initializer}
    stored.update(sparse.values.name for sparse in model.graph.sparse_initializer)
    ports = [proto.port(value) for value in model.graph.input]
    fed = tuple(port for port in ports if port.name not in stored)
    if model.ir_version < FIRST_IR_WITH_DEFAULTS:
        return fed, ()
    return fed, tuple(port for port in ports if port.name in stored)


def count_ops(model: ModelProto) -> dict[str, int]:
    counts = Counter(proto.kind(node) for node in judge.all_nodes(model.graph))
    counts.update(proto.kind(node) for function in model.functions for node in function.node)
    return dict(sorted(counts.items()))


def _judge(model: ModelProto, path: Path) -> list[str]:
    """Notes of the checks on which ONNX Runtime has the last word; takes the weights out."""
    judge.lift_weights(model.graph)
    versions = judge.opsets(model)
    found = _missing_imports(model, versions)
    if versions.get("", MIN_OPSET) < MIN_OPSET:
        found.append(Objection(f"opset {versions['']} is older than {MIN_OPSET}"))
    inlined = functions.inline(model)
    found += judge.objections(inlined) if not found else ()
    notes = list(judge.settle(tuple(found), path))
    foreign = judge.foreign_kinds(inlined)
    if foreign:
        notes.append(f"ONNX Runtime cannot run {', '.join(foreign[:_NAMED])}: unknown domain")
    return notes


def _missing_imports(model: ModelProto, versions: dict[str, int]) -> list[Objection]:
    used = {proto.domain_of(node.domain) for node in judge.all_nodes(model.graph)}
    return [
        Objection(
            f"operators of domain {domain or 'ai.onnx'!r} are used but no opset of it is imported",
            fix="export the model again; its opset_import is incomplete",
        )
        for domain in sorted(used - versions.keys())
    ]
