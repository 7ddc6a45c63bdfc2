"""What was read from model files, remembered: a second plan of the same model reads nothing anew.

Checking a model and reading its graph are sandboxed calls of half a second to minutes. Their
results hang on the files' bytes and on the versions of what reads them, so they are kept in the
store under the digest of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from planner import __version__
from planner.errors import AbsentDataError, EnvironmentMismatchError, ModelError
from planner.graph import container, weights
from planner.graph.build import build_graph
from planner.graph.load import load
from planner.graph.model import LoadedModel, Port
from planner.ir.graph import Graph, Op, Tensor
from planner.runtime.fingerprint import onnxruntime_version
from planner.spec.plan import ModelRef
from planner.steps.workspace import Workspace, digest


def known_model(path: Path, work: Workspace) -> LoadedModel:
    """The model at `path`, checked now or earlier; every byte of it is digested now.

    Raises:
        ModelError: whatever is wrong with it, where, and the nearest fix.
    """
    container.check_path(path)
    key = digest("loaded", *_readers(), weights.digest(path))
    known = work.store.get(key)
    loaded = _loaded(known, path) if known is not None else None
    if loaded is None:
        loaded = load(path)
        work.store.put("loaded", {key: _payload(loaded)})
    return loaded


def planned_model(planned: ModelRef, path: Path, work: Workspace) -> LoadedModel:
    """The model that a plan was made for, at `path`, with its weights.

    Raises:
        ModelError: it is another model, or something is wrong with it.
        EnvironmentMismatchError: the plan needed no weights, and they are not here.
    """
    container.check_path(path)
    if planned.is_without_data and weights.digest(path) != planned.sha256:
        raise _other_model(path)
    try:
        loaded = known_model(path, work)
    except AbsentDataError as error:
        if not planned.is_without_data:
            raise
        raise EnvironmentMismatchError(
            f"the plan was made without weights, and an engine needs them: {error.what}",
            where=error.where,
            fix="deploy where the weights are: infopt deploy PLAN --model DIR/model.onnx",
        ) from None
    if not planned.is_without_data and loaded.sha256 != planned.sha256:
        raise _other_model(path)
    return loaded


def _other_model(path: Path) -> ModelError:
    return ModelError(
        "this is not the model that the plan was made for (its digest differs)",
        where=str(path),
        fix="plan again, or point --model to the original file",
    )


@cache
def _readers() -> tuple[str, ...]:
    """Versions that a check's outcome hangs on."""
    return __version__, version("onnx"), version("onnxslim"), onnxruntime_version()


def _payload(loaded: LoadedModel) -> dict[str, Any]:
    root = loaded.path.parent.resolve()
    names = [path.relative_to(root).as_posix() for path in loaded.external_files]
    return {**asdict(loaded), "path": "", "external_files": names}


def _loaded(known: Mapping[str, Any], path: Path) -> LoadedModel | None:
    """What is known, about the file at `path`; None where the data beside it is not the same."""
    root = path.parent.resolve()
    external = [root / name for name in known["external_files"]]
    if any(file.resolve() != file or not file.is_file() for file in external):
        return None
    if external and weights.joint_digest(path, external) != known["sha256"]:
        return None
    return LoadedModel(
        path=path,
        sha256=known["sha256"],
        size_bytes=known["size_bytes"],
        ir_version=known["ir_version"],
        opsets=known["opsets"],
        inputs=_ports(known["inputs"]),
        defaults=_ports(known["defaults"]),
        outputs=_ports(known["outputs"]),
        op_counts=known["op_counts"],
        parameters=known["parameters"],
        external_files=tuple(external),
        notes=tuple(known["notes"]),
    )


def _ports(entries: list[dict[str, Any]]) -> tuple[Port, ...]:
    return tuple(
        Port(entry["name"], entry["dtype"], None if entry["dims"] is None else tuple(entry["dims"]))
        for entry in entries
    )


def kept_graph(
    path: Path, work: Workspace, inputs: Mapping[str, tuple[int, ...]] = MappingProxyType({})
) -> Graph:
    """The graph of a model in a kept folder, whose name says what is in it; `inputs` as in
    `build_graph`."""
    key = digest(
        "graph", "selectors", *_readers(), path.parent.name, path.name, sorted(inputs.items())
    )

    def read() -> dict[str, Any]:
        return _graph_payload(build_graph(path, inputs=inputs))

    return _graph(work.once("graph", key, read))


def _graph_payload(graph: Graph) -> dict[str, Any]:
    return {
        "ops": [
            [op.name, op.op_type, op.domain, op.inputs, op.outputs, op.captured] for op in graph.ops
        ],
        "tensors": [
            [tensor.name, tensor.dtype, tensor.shape, tensor.size_bytes, tensor.is_constant]
            for tensor in graph.tensors.values()
        ],
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "selectors": dict(graph.selectors),
    }


def _graph(payload: Mapping[str, Any]) -> Graph:
    ops = (
        Op(name, kind, domain, tuple(reads), tuple(makes), tuple(captured))
        for name, kind, domain, reads, makes, captured in payload["ops"]
    )
    tensors = (
        Tensor(name, dtype, None if shape is None else tuple(shape), size_bytes, is_constant)
        for name, dtype, shape, size_bytes, is_constant in payload["tensors"]
    )
    return Graph(
        ops=tuple(ops),
        tensors={tensor.name: tensor for tensor in tensors},
        inputs=tuple(payload["inputs"]),
        outputs=tuple(payload["outputs"]),
        selectors=payload["selectors"],
    )
