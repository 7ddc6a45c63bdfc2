"""Small engines, built as a deploy would; shared by the runtime, emit and serve tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from planner.emit.blueprint import Blueprint, Part
from planner.emit.engine import write_engine
from planner.emit.golden import Golden
from planner.runtime.fingerprint import this_environment
from planner.runtime.ort import make_session, tensor_specs
from planner.spec.io import sealed
from planner.spec.manifest import Manifest, OrtSegment, TensorSpec
from planner.spec.plan import (
    AccuracyReport,
    Estimate,
    ModelRef,
    Plan,
    Prediction,
    Promise,
    SolverReport,
    WorkloadShape,
)
from planner.spec.session import SessionSettings

SETTINGS = SessionSettings(intra_op_threads=1, spinning=False)
WIDTH = 4


def tensor(name: str, kind: int, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    """A graph input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
    extra_opsets: Sequence[onnx.OperatorSetIdProto] = (),
) -> onnx.ModelProto:
    """A checked model of opset 21, IR 10."""
    stored = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), stored)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21), *extra_opsets], ir_version=10
    )
    onnx.checker.check_model(model)
    return model


def affine(source: str, target: str, *, seed: int, width: int = WIDTH) -> onnx.ModelProto:
    """target = relu(source · W + b), rows dynamic."""
    rng = np.random.default_rng(seed)
    return make_model(
        [
            helper.make_node("Gemm", [source, "W", "b"], ["h"]),
            helper.make_node("Relu", ["h"], [target]),
        ],
        [tensor(source, TensorProto.FLOAT, ["rows", width])],
        [tensor(target, TensorProto.FLOAT, ["rows", width])],
        {
            "W": rng.standard_normal((width, width)).astype(np.float32),
            "b": rng.standard_normal(width).astype(np.float32),
        },
    )


def product(source: str, target: str, weight: np.ndarray[Any, Any], rows: int) -> onnx.ModelProto:
    """target = tanh(source · weight)."""
    inner, outer = weight.shape
    return make_model(
        [
            helper.make_node("MatMul", [source, "W"], ["inner"]),
            helper.make_node("Tanh", ["inner"], [target]),
        ],
        [tensor(source, TensorProto.FLOAT, [rows, inner])],
        [tensor(target, TensorProto.FLOAT, [rows, outer])],
        {"W": weight},
    )


def drawn(rows: int, columns: int, seed: int) -> np.ndarray[Any, Any]:
    """Weights."""
    made = np.random.default_rng(seed).standard_normal((rows, columns)) / rows**0.5
    found: np.ndarray[Any, Any] = made.astype(np.float32)
    return found


def identities(kinds: Mapping[str, int], shape: Sequence[int | str | None]) -> onnx.ModelProto:
    """One pass-through per named type: `in_<name>` -> `out_<name>`."""
    return make_model(
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in kinds],
        [tensor(f"in_{name}", kind, shape) for name, kind in kinds.items()],
        [tensor(f"out_{name}", kind, shape) for name, kind in kinds.items()],
    )


def save(model: onnx.ModelProto, folder: Path, *, external: bool = False) -> Path:
    """Write `folder/model.onnx`, weights beside it when `external`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    if not external:
        onnx.save(model, path)
        return path
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def part(path: Path, settings: SessionSettings = SETTINGS) -> Part:
    """The whole file as one segment."""
    inputs, outputs = tensor_specs(make_session(path, settings))
    return Part(
        path, tuple(spec.name for spec in inputs), tuple(spec.name for spec in outputs), settings
    )


def run_parts(parts: Sequence[Part], feeds: Mapping[str, Any]) -> dict[str, Any]:
    """What the parts compute, one after the other, with sessions of their own."""
    alive = dict(feeds)
    for item in parts:
        session = make_session(item.onnx_path, item.settings)
        values = session.run(list(item.outputs), {name: alive[name] for name in item.inputs})
        alive.update(zip(item.outputs, values, strict=True))
    return alive


def estimate(expected: float) -> Estimate:
    """An estimate of ± 20 %."""
    return Estimate(low=0.8 * expected, expected=expected, high=1.2 * expected, source="measured")


def make_plan(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> Plan:
    """A sealed plan that says the least a plan can say."""
    return sealed(
        Plan(
            model=ModelRef(path="model.onnx", sha256="0" * 64, size_bytes=1, ops=1, parameters=1),
            environment=this_environment(),
            workload=(WorkloadShape(shapes=dict(shapes)),),
            promise=Promise(),
            shipped="plain",
            settings=SETTINGS,
            simplified=False,
            formats={},
            decisions=(),
            solver=SolverReport(
                status="optimal",
                solver="none",
                objectives=("latency",),
                objective=(1.0,),
                bound=(1.0,),
                gap=0.0,
                seed=seed,
                hit_time_limit=False,
                options=1,
                settings=1,
                rounds=1,
            ),
            prediction=Prediction(
                latency_p50_us={"default": estimate(10)},
                latency_slo_us={"default": estimate(20)},
                memory_size_bytes=estimate(1),
                error=estimate(0),
            ),
            accuracy=AccuracyReport(
                calibrated=False, samples=1, predicted_error=0, measured_error=0
            ),
        )
    )


def blueprint(parts: Sequence[Part], feeds: Mapping[str, Any], *, seed: int = 0) -> Blueprint:
    """Everything an engine of these parts needs; the last part's outputs are the engine's."""
    first, last = parts[0], parts[-1]
    inputs, _ = tensor_specs(make_session(first.onnx_path, first.settings))
    _, outputs = tensor_specs(make_session(last.onnx_path, last.settings))
    values = run_parts(parts, feeds)
    answers = {name: values[name] for name in last.outputs}
    return Blueprint(
        name="tiny",
        plan=make_plan({name: np.shape(value) for name, value in feeds.items()}, seed),
        parts=tuple(parts),
        inputs=inputs,
        outputs=outputs,
        goldens=(Golden("default", feeds, answers, answers, max_reference_nmse=1e-4),),
        environment=this_environment(),
        predicted_latency_us={"default": estimate(10)},
    )


def rows(count: int = 2, seed: int = 0, width: int = WIDTH) -> np.ndarray[Any, Any]:
    """Random float32 inputs of the affine models."""
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def tiny_engine(folder: Path, *, external: bool = False) -> Path:
    """One affine segment `x` -> `y`."""
    path = save(affine("x", "y", seed=1), folder / "source", external=external)
    write_engine(folder / "engine", blueprint([part(path)], {"x": rows()}))
    return folder / "engine"


def chain_engine(folder: Path) -> Path:
    """Three affine segments `x` -> `h1` -> `h2` -> `y`."""
    names = ("x", "h1", "h2", "y")
    models = [affine(a, b, seed=i) for i, (a, b) in enumerate(pairwise(names))]
    parts = [part(save(model, folder / f"source{i}")) for i, model in enumerate(models)]
    write_engine(folder / "engine", blueprint(parts, {"x": rows()}))
    return folder / "engine"


def typed_engine(folder: Path, kinds: Mapping[str, int], feeds: Mapping[str, Any]) -> Path:
    """Identities of several element types; goldens from the feeds themselves."""
    model = identities(kinds, ["rows", 2])
    item = part(save(model, folder / "source"))
    answers = {name.replace("in_", "out_"): value for name, value in feeds.items()}
    inputs, outputs = tensor_specs(make_session(item.onnx_path, SETTINGS))
    plain = blueprint([part(save(affine("x", "y", seed=1), folder / "any"))], {"x": rows()})
    golden = Golden("default", feeds, answers, answers, max_reference_nmse=0.0)
    write_engine(
        folder / "engine",
        replace(plain, parts=(item,), inputs=inputs, outputs=outputs, goldens=(golden,)),
    )
    return folder / "engine"


def resealed(manifest: Manifest, **changes: Any) -> Manifest:
    """A manifest with other contents; `manifest_bytes` gives it a matching digest again."""
    return manifest.model_copy(update=changes)


def spec(name: str, dtype: str = "float32", shape: tuple[int | None, ...] = ()) -> TensorSpec:
    """Shorthand."""
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def segment(inputs: tuple[str, ...], outputs: tuple[str, ...], shards: int = 1) -> OrtSegment:
    """An ONNX part in files that need not exist."""
    files = [f"parts/{outputs[0]}/{n}.onnx" for n in range(shards)]
    return OrtSegment(
        file=files[0],
        shards=tuple(files[1:]),
        inputs=inputs,
        outputs=outputs,
        settings=SETTINGS,
    )
