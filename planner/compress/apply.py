"""Builds a mixed model: each operator in exactly the format it was assigned."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnx
from onnx import ModelProto

from planner.compress import element_types, surgery
from planner.compress.base import NATIVE, BuildContext, BuildSettings, Format, Method, Range
from planner.compress.methods import METHODS, method_of
from planner.compress.stand_ins import replaceable
from planner.errors import ModelError, UsageError

_TOOL_ERRORS = (ValueError, TypeError, AssertionError, RuntimeError, KeyError, IndexError)
"""What ONNX Runtime's quantisation tools raise (InfoptError is none of these)."""


_READ_BY_THEMSELVES = frozenset(
    {
        Format.INT8_DYNAMIC,
        Format.INT8_DYNAMIC_SMOOTH,
        Format.INT8_STATIC,
        Format.INT8_WO,
        Format.INT4_WO,
    }
)
"""Formats whose methods read large matrices of products from where they lie, one or few at once."""


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What a build really made."""

    path: Path
    realised: Mapping[str, Format]
    """Every operator of the model -> its format in the file; native where a tool skipped it."""
    size_bytes: int
    """Model file plus external data."""


def apply(
    model_path: Path,
    assignment: Mapping[str, Format],
    ranges: Mapping[str, Range],
    out_path: Path,
    settings: BuildSettings = BuildSettings(),  # noqa: B008 (frozen)
    smoothing: Mapping[str, str] = MappingProxyType({}),
) -> ApplyReport:
    """Write the model with each operator in its assigned format; operators left out stay native.

    Deterministic: same inputs, same bytes. Names of inputs, outputs and of the tensors that still
    exist are kept. Large weights go to `<out>.data` beside the file.

    Raises:
        UsageError: an operator or format that does not exist.
        DataError: int8_static without the ranges it needs, int8_dynamic_smooth without shifts.
        ModelError: the model's opset cannot be raised to what a format needs, or a tool fails.
    """
    onnx_model = onnx.load(model_path, load_external_data=False)
    compressed = {op: form for op, form in sorted(assignment.items()) if form != NATIVE}
    known = {node.name for node in onnx_model.graph.node}
    _refuse_unknown(compressed, known)
    realised: dict[str, Format] = dict.fromkeys(sorted(known), NATIVE)
    surgery.split_shared_weights(onnx_model, compressed)
    for method in METHODS:
        ops = [op for op, form in compressed.items() if form == method.format]
        if not ops:
            continue
        context = BuildContext(ranges, settings, model_path.parent, smoothing)
        before = surgery.all_names(onnx_model)
        own = method.format in _READ_BY_THEMSELVES
        outside = replaceable(onnx_model, ops) if own else set()
        needed = surgery.read_by(onnx_model, ops) - outside
        surgery.embed(onnx_model, needed, model_path.parent)
        onnx_model = _build(method, onnx_model, ops, context)
        element_types.forget_types(onnx_model)
        surgery.mark_new_names(onnx_model, before, f"__{method.format}")
        surgery.sort_nodes(onnx_model.graph)  # the tools append, and expect sorted nodes
        realised.update(dict.fromkeys(sorted(context.realised), method.format))
    if compressed:
        _finish(onnx_model)
    surgery.embed(onnx_model, set(surgery.initialisers(onnx_model)), model_path.parent)
    size_bytes = save(onnx_model, out_path, settings.external_threshold_size_bytes)
    return ApplyReport(out_path, realised, size_bytes)


def _build(
    method: Method, onnx_model: ModelProto, ops: list[str], context: BuildContext
) -> ModelProto:
    """One method's turn; whatever a tool stumbles over becomes one message."""
    try:
        built: ModelProto = method.build(onnx_model, ops, context)
    except _TOOL_ERRORS as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"ONNX Runtime's quantiser cannot make {method.format} here: {reason}",
            where=f"operators {', '.join(ops[:3])}{', ...' if len(ops) > 3 else ''}",
            fix=f"leave {method.format} out of compression.formats, or pin these to fp32",
        ) from error
    return built


def _refuse_unknown(compressed: Mapping[str, Format], known: set[str]) -> None:
    for op, form in compressed.items():
        method_of(form)
        if op not in known:
            raise UsageError(
                f"the model has no operator {op!r}", fix="plan again: this is another model"
            )


def _finish(onnx_model: ModelProto) -> None:
    surgery.drop_unused(onnx_model)
    surgery.name_nodes(onnx_model.graph)
    onnx_model.producer_name, onnx_model.producer_version = "infopt", ""


def save(onnx_model: ModelProto, path: Path, external_threshold_size_bytes: int) -> int:
    """Write-then-rename the model, weights in one file beside it where it is large; total bytes."""
    stored = sum(len(t.raw_data) for t in onnx_model.graph.initializer)
    data = path.with_name(f"{path.name}.data")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as folder:
        written = Path(folder) / path.name
        if stored > external_threshold_size_bytes:
            onnx.save(
                onnx_model,
                written,
                save_as_external_data=True,
                all_tensors_to_one_file=True,
                location=data.name,
            )
            (Path(folder) / data.name).replace(data)
        else:
            written.write_bytes(onnx_model.SerializeToString(deterministic=True))
            data.unlink(missing_ok=True)
        written.replace(path)
    return path.stat().st_size + (data.stat().st_size if data.exists() else 0)
