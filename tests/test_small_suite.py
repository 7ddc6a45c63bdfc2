"""The suite of small models: a batch is as many requests, and a kept draft is the same draft."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from benchmarks.small.suite import SUITE
from planner.fuse.build import draft
from planner.fuse.saved import as_record, draft_of
from planner.graph.semantics import program_of

_BATCH = 3


@pytest.mark.parametrize(
    "name",
    [
        "conformer-chunk-16",
        "mmoe",
        "dlrm-64",
        "lora",
        "voice-activity",
        "unet-denoiser",
        "vit-s-32",
    ],
)
def test_a_batch_answers_as_its_requests_do(name: str) -> None:
    single, several = SUITE[name]("float32"), SUITE[name]("float32", batch=_BATCH)
    random = np.random.default_rng(0)
    asked = [_request(single, random) for _ in range(_BATCH)]
    axes = _batch_axes(single.graph.input, several.graph.input)
    joined = {n: np.concatenate([one[n] for one in asked], axis=axes[n]) for n in axes}
    answers = [_answers(single, one) for one in asked]
    found = _answers(several, joined)
    for output, axis in _batch_axes(single.graph.output, several.graph.output).items():
        wanted = np.concatenate([one[output] for one in answers], axis=axis)
        np.testing.assert_allclose(found[output], wanted, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", ["mmoe", "voice-activity"])
def test_a_kept_draft_comes_back_as_it_was(name: str) -> None:
    program = program_of(SUITE[name]("float16"))
    plan = draft(program, "float16")
    record = json.loads(json.dumps(as_record(plan)))
    again = draft_of(record, program, plan.numbers)
    assert [item.text for item in again.kernels] == [item.text for item in plan.kernels]
    assert again.waiting == plan.waiting


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _request(model: onnx.ModelProto, random: np.random.Generator) -> dict[str, np.ndarray]:
    made = {}
    for value in model.graph.input:
        shape = _shape(value)
        is_whole = value.type.tensor_type.elem_type == onnx.TensorProto.INT64
        drawn = random.integers(0, 50, shape) if is_whole else random.standard_normal(shape)
        made[value.name] = drawn.astype(np.int64 if is_whole else np.float32)
    return made


def _batch_axes(
    singles: list[onnx.ValueInfoProto], batches: list[onnx.ValueInfoProto]
) -> dict[str, int]:
    """Tensor -> the axis that is longer in a batch."""
    return {
        one.name: next(
            i for i, (a, b) in enumerate(zip(_shape(one), _shape(many), strict=True)) if a != b
        )
        for one, many in zip(singles, batches, strict=True)
    }


def _answers(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in model.graph.output]
    return dict(zip(names, session.run(names, feeds), strict=True))
