"""A model repository of NVIDIA Triton's ONNX Runtime backend.

    FOLDER/<name>/config.pbtxt
    FOLDER/<name>/1/model.onnx     and its external weights

What the backend makes of a configuration (triton-inference-server/onnxruntime_backend, README and
src/onnxruntime.cc):
- threads: the parameter `intra_op_thread_count`; 0 is ONNX Runtime's own choice, as in a plan.
- graph level: `optimization.graph.level`: -1 is basic, 1 extended, 2 none; all where it is absent.
- spinning: no parameter; idle threads of a pool always spin.
- inputs and outputs that are written out are not completed, so `max_batch_size: 0` stays 0.
- a scalar is written `dims: [1]` without reshape; bfloat16 and complex types are not passed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from planner.emit.targets.base import Source, Target, Written, accept

if TYPE_CHECKING:
    from planner.spec.manifest import OrtSegment, TensorSpec
    from planner.spec.session import SessionSettings

VERSION = "1"
CONFIG = "config.pbtxt"
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_DATA_TYPES = {
    "bool": "TYPE_BOOL",
    **{name: f"TYPE_{name.upper()}" for name in _INTEGERS},
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "string": "TYPE_STRING",
}
_LEVELS = {"basic": -1, "extended": 1, "disabled": 2}
"""Graph level -> the backend's number; `all` is what it does where no level is given."""
_KINDS = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}


def write_repository(source: Source, folder: Path) -> Written:
    """Writes the model repository.

    Raises:
        UsageError: a tensor that the backend cannot pass, or an engine of several parts.
    """
    segment = _only_segment(source)
    model = folder / source.manifest.name
    packed = source.engine / segment.file
    shutil.copytree(packed.parent, model / VERSION, copy_function=shutil.copyfile)
    (model / CONFIG).write_text(config(source, segment), encoding="utf-8")
    return Written(
        "tritonserver --model-repository={folder} --http-address=127.0.0.1 "
        "--grpc-address=127.0.0.1 --metrics-address=127.0.0.1",
        tuple(_differences(segment.settings)),
    )


def config(source: Source, segment: OrtSegment) -> str:
    """The text of `config.pbtxt` (protobuf's text format of `inference.ModelConfig`)."""
    settings = segment.settings
    lines = [
        f"# Written by infopt for plan {source.manifest.plan_digest}",
        f"name: {_quoted(source.manifest.name)}",
        'backend: "onnxruntime"',
        f"default_model_filename: {_quoted(Path(segment.file).name)}",
        "max_batch_size: 0  # shapes are those of the plan, batch axis included",
        *(line for spec in source.manifest.inputs for line in _tensor("input", spec)),
        *(line for spec in source.manifest.outputs for line in _tensor("output", spec)),
        "instance_group {",
        f"  count: {source.wishes.replicas}",
        f"  kind: {_kind(settings)}",
        "}",
    ]
    level = _LEVELS.get(settings.graph_level.value)
    if level is not None:
        lines.append(f"optimization {{ graph {{ level: {level} }} }}")
    parameters = {"intra_op_thread_count": str(settings.intra_op_threads), "execution_mode": "0"}
    for key, value in parameters.items():
        text = f"key: {_quoted(key)} value {{ string_value: {_quoted(value)} }}"
        lines.append(f"parameters {{ {text} }}")
    return "\n".join(lines) + "\n"


def _tensor(role: str, spec: TensorSpec) -> Iterable[str]:
    dims = [-1 if dim is None else dim for dim in spec.shape] or [1]
    return (
        f"{role} {{",
        f"  name: {_quoted(spec.name)}",
        f"  data_type: {_data_type(role, spec)}",
        f"  dims: [{', '.join(map(str, dims))}]",
        "}",
    )


def _data_type(role: str, spec: TensorSpec) -> str:
    from planner.errors import UsageError

    where = f"{role} {spec.name!r}"
    if spec.dtype not in _DATA_TYPES:
        raise UsageError(
            f"Triton's ONNX Runtime backend does not pass {spec.dtype}",
            where=where,
            fix="add a Cast to float32 to the model, or use --to local, kserve --image or ray",
        )
    if 0 in spec.shape:
        raise UsageError("Triton does not pass tensors without elements", where=where)
    return _DATA_TYPES[spec.dtype]


def _kind(settings: SessionSettings) -> str:
    return _KINDS[settings.provider]


def _quoted(text: str) -> str:
    from google.protobuf.text_encoding import CEscape

    return f'"{CEscape(text, as_utf8=True)}"'


def _only_segment(source: Source) -> OrtSegment:
    from planner.errors import UsageError

    if source.manifest.is_streamed:
        raise UsageError(
            "weights of the engine stream, which Triton's ONNX Runtime backend cannot do",
            where=str(source.engine),
            fix="use --to local, kserve --image or ray: they run the engine as it is",
        )
    if len(source.segments) > 1 or source.manifest.ranks > 1:
        parts = max(len(source.segments), source.manifest.ranks)
        raise UsageError(
            f"the engine has {parts} parts; a Triton model here has one",
            where=str(source.engine),
            fix="use --to local, kserve --image or ray: they run the engine as it is",
        )
    return source.segments[0]


def _differences(settings: SessionSettings) -> Iterator[str]:
    """What was measured and this backend cannot be told."""
    if not settings.spinning and settings.intra_op_threads != 1:
        yield (
            "the plan was measured with idle threads that sleep; Triton's ONNX Runtime backend "
            "lets them spin, so latencies may differ"
        )
    for key in settings.extra:
        yield f"the session entry {key} was measured; Triton's ONNX Runtime backend has none such"


TRITON = Target("triton", "a model repository of Triton Inference Server", accept, write_repository)
