"""Number formats that generated kernels may store and multiply in, and their errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from planner.compress.measure import JointError, joint_error
from planner.compress.samples import Samples
from planner.compress.storage import write_rounded, write_widened
from planner.errors import InfoptError
from planner.fuse.greedy import group
from planner.graph.sandbox import Bounds, Sandbox
from planner.graph.segments import Cut
from planner.spec.constraints import Constraints
from planner.spec.formats import Format
from planner.spec.fusion import NumberFormat
from planner.spec.session import SessionSettings
from planner.steps.prepare import Prepared
from planner.steps.workspace import Workspace, digest

DTYPES: Mapping[str, NumberFormat] = MappingProxyType(
    {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
)
"""Format -> how the generator calls it."""
_RUNS = 4
_LONG = Bounds(wall_s=600.0)
UNKNOWN_NOISE = 1e-3
"""Where ONNX Runtime cannot run the model in float32: 16-bit models that work stay below it."""
HOPELESS = 1e6
"""NMSE of answers that are not numbers: no budget allows it."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """A format and what it does to the answers."""

    name: str
    dtype: NumberFormat
    error: float
    """NMSE at the outputs, the worst sample set's; 0 where it is the model's own format."""
    noise: float
    """NMSE of rounding on the way, the model's own format or not: two right answers may differ by
    as much."""


def roundings(
    constraints: Constraints, prepared: Prepared, cuts: Sequence[Cut], work: Workspace
) -> list[Rounding]:
    """The formats that the request allows, each measured on the CPU; the model's own first."""
    stored = _stored(cuts[0])
    native = _native(prepared)
    allowed = [
        native,
        *(name for name in DTYPES if name != native and _is_allowed(constraints, name)),
    ]
    found = []
    for name in allowed:
        if name != native:
            error = _error(prepared, DTYPES[name], stored, work)
            found.append(Rounding(name, DTYPES[name], error, error))
        else:
            noise = 0.0 if name == "fp32" else _own_noise(prepared, work)
            found.append(Rounding(name, DTYPES[name], 0.0, noise))
    return found


def _native(prepared: Prepared) -> str:
    """The format that most bytes of the model's floats are in."""
    sizes = {"fp32": 0, "fp16": 0, "bf16": 0}
    names: dict[str, str] = {dtype: name for name, dtype in DTYPES.items()}
    for tensor in prepared.graph.tensors.values():
        if tensor.dtype in names:
            sizes[names[tensor.dtype]] += tensor.size_bytes
    return max(sizes, key=lambda name: sizes[name])


def _is_allowed(constraints: Constraints, name: str) -> bool:
    formats = constraints.compression.formats
    wanted = Format(name)
    if any(form not in (wanted, Format.FP32) for form in constraints.compression.pin.values()):
        return False
    return name != "fp32" and (formats is None or wanted in formats)


def _stored(found: Cut) -> tuple[str, ...]:
    """Tensors that the rule-based grouping writes to memory: much the same under any grouping."""
    programs = (segment.program for segment in found.segments if segment.program is not None)
    return tuple(
        sorted(name for program in programs for stage in group(program) for name in stage.makes)
    )


def _error(prepared: Prepared, dtype: str, stored: tuple[str, ...], work: Workspace) -> float:
    return max(_error_on(prepared, samples, dtype, stored, work) for samples in prepared.samples)


def _error_on(
    prepared: Prepared, given: Samples, dtype: str, stored: tuple[str, ...], work: Workspace
) -> float:
    samples = given.first(_RUNS)
    key = digest("rounded storage", prepared.sha256, dtype, stored, samples.digest)

    def compute() -> float:
        work.reporter.stage("sensitivity")
        target = work.scratch / f"rounded-{dtype}.onnx"
        return _measured(prepared, samples, dtype, target, stored)

    return float(work.once("joint", key, compute))


def _own_noise(prepared: Prepared, work: Workspace) -> float:
    """What a 16-bit model's own rounding does to its answers."""
    samples = prepared.samples[0].first(_RUNS)
    key = digest("own rounding", prepared.sha256, samples.digest)

    def compute() -> float:
        path, target = prepared.model_path, work.scratch / "widened.onnx"
        bounds = _LONG.for_size(prepared.loaded.size_bytes)
        sandbox = Sandbox("measuring rounding", str(path), bounds)
        try:
            sandbox.call(write_widened, path, target)
            found = sandbox.call(joint_error, target, path, samples, SessionSettings())
        except InfoptError:
            return UNKNOWN_NOISE
        return _worst(found, prepared)

    return float(work.once("joint", key, compute))


def _measured(
    prepared: Prepared, samples: Samples, dtype: str, target: Path, stored: tuple[str, ...]
) -> float:
    path = prepared.model_path
    bounds = _LONG.for_size(prepared.loaded.size_bytes)
    sandbox = Sandbox(f"measuring {dtype}", str(path), bounds)
    try:
        sandbox.call(write_rounded, path, dtype, target, stored)
        found = sandbox.call(joint_error, path, target, samples, SessionSettings())
    except InfoptError:
        return HOPELESS  # ONNX Runtime cannot imitate it, so nothing can be promised
    return _worst(found, prepared)


def _worst(found: JointError, prepared: Prepared) -> float:
    errors = [
        error for name, error in found.per_output.items() if name not in prepared.random_outputs
    ]
    worst = max(errors, default=0.0)
    return worst if math.isfinite(worst) else HOPELESS
